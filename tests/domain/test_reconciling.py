"""What is recorded, held against what a chain shows: each of the ways in which they differ, and its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chains.model import BaseUnits, BlockHash, BlockNumber, Transfer
from settler.domain.invoices import TransferRecord
from settler.domain.reconciling import BreakKind, Compared, compare, conflicts, unrecorded, with_altered
from tests.domain.samples import SHOP, USDC, a_transfer

HELD = a_transfer()
REMEDY = "look at block {block}"
FORKED = BlockHash(b"\xbf" * 32)


def shown(held: TransferRecord, **changes: Any) -> Transfer:
    """As the chain shows it where it was found."""
    seen = Transfer(
        identity=held.identity, block_number=held.block_number, block_hash=held.block_hash, log_index=held.log_index
    )
    return replace(seen, **changes)


ANOTHER = shown(HELD, identity=replace(HELD.identity, amount=BaseUnits(7), sender=SHOP))
ELSEWHERE = replace(ANOTHER, log_index=HELD.log_index + 1)
MOVED = shown(HELD, block_hash=FORKED, block_number=BlockNumber(1_001))
HIGHER_LOG = shown(HELD, log_index=HELD.log_index + 1)


def parts(compared: Compared) -> dict[str, int]:
    counted = {name: len(getattr(compared, name)) for name in Compared.__slots__}
    return {name: count for name, count in counted.items() if count}


@pytest.mark.parametrize(
    ("seen", "final", "was_expected", "found", "conflicting"),
    [
        ([], [], True, {}, 0),
        ([shown(HELD)], [HELD], True, {"matching": 1}, 0),
        ([shown(HELD)], [], True, {"unrecorded": 1}, 0),
        ([MOVED], [HELD], True, {"moved": 1}, 1),
        ([HIGHER_LOG], [HELD], True, {"moved": 1}, 1),
        ([ANOTHER], [HELD], True, {"altered": 1}, 1),
        ([ELSEWHERE], [HELD], True, {"unrecorded": 1, "gone": 1}, 1),
        ([], [HELD], True, {"gone": 1}, 1),
        ([], [HELD], False, {}, 0),
        ([shown(HELD), ELSEWHERE], [HELD], True, {"matching": 1, "unrecorded": 1}, 0),
    ],
)
def test_compare__each_of_the_table(
    seen: list[Transfer], final: list[TransferRecord], was_expected: bool, found: dict[str, int], conflicting: int
) -> None:
    compared = compare(seen, final, {HELD.id} if was_expected else set())
    assert parts(compared) == found
    assert compared.conflicts == conflicting


def test_with_altered__is_neither_unrecorded_nor_gone() -> None:
    other, stray = a_transfer(), shown(a_transfer())
    compared = compare([ELSEWHERE, stray], [HELD, other], {HELD.id, other.id})
    assert parts(compared) == {"unrecorded": 2, "gone": 2}
    known = with_altered(compared, [(HELD, ELSEWHERE)])
    assert known.altered == ((HELD, ELSEWHERE),)
    assert (known.unrecorded, known.gone) == ((stray,), (other,))
    again = with_altered(known, [(other, stray)])
    assert again.altered == ((HELD, ELSEWHERE), (other, stray))


@pytest.mark.parametrize(
    ("seen", "kind", "detail"),
    [
        (
            [MOVED],
            BreakKind.MOVED,
            f"final in another place; it is shown as log {HELD.log_index} of block 1001 (0x{FORKED.hex()})",
        ),
        (
            [ANOTHER],
            BreakKind.ALTERED,
            f"the record was changed, or that log was another: the chain shows sender 0x{SHOP.hex()}, amount 7",
        ),
        ([], BreakKind.GONE, "recorded as final, and not on the chain"),
    ],
)
def test_conflicts__say_what_differs_and_name_the_record(seen: list[Transfer], kind: BreakKind, detail: str) -> None:
    (found,) = conflicts("base", compare(seen, [HELD], {HELD.id}), remedy=REMEDY)
    assert (found.kind, found.chain, found.detail, found.remedy) == (kind, "base", detail, "look at block 1000")
    assert (found.transfer_id, found.token, found.address, found.amount_base) == (HELD.id, USDC, SHOP, 100_000_000)
    assert (found.block_number, found.tx_hash, found.log_index) == (1_000, HELD.identity.tx_hash, HELD.log_index)


def test_conflicts__nothing_contradicts__there_are_none() -> None:
    compared = compare([shown(HELD), ELSEWHERE], [HELD], {HELD.id})
    assert conflicts("base", compared, remedy=REMEDY) == []


def test_unrecorded__names_the_payment_as_the_chain_shows_it() -> None:
    (found,) = unrecorded("base", [MOVED], remedy=REMEDY)
    assert (found.kind, found.remedy, found.transfer_id) == (BreakKind.UNRECORDED, "look at block 1001", None)
    assert (found.token, found.address, found.amount_base) == (USDC, SHOP, 100_000_000)
    assert (found.block_number, found.tx_hash, found.log_index) == (1_001, HELD.identity.tx_hash, HELD.log_index)
