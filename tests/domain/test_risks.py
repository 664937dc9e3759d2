from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import Address, Announcement, AnnouncementKind, BlockNumber, Price, TxHash
from settler.domain.risks import Risk, against_payer, against_price, against_token
from tests.domain.samples import PAYER, SHOP, T0, USDC

PAUSED, UNPAUSED, UPGRADED, DEPRECATED, BLOCKED, UNBLOCKED = AnnouncementKind
FLOOR = 985 * 10**15
DAY = timedelta(days=1)


def risks(*told: tuple[AnnouncementKind, Address | None] | AnnouncementKind, accepted: int = 0) -> list[Risk]:
    """In the order told, a block each; the first `accepted` are accepted."""
    numbers = itertools.count(10)
    pairs = [(each, None) if isinstance(each, AnnouncementKind) else each for each in told]
    return [
        Risk(
            announcement=Announcement(
                token=USDC,
                kind=kind,
                subject=subject,
                block_number=BlockNumber(next(numbers)),
                tx_hash=TxHash(bytes(32)),
                log_index=0,
            ),
            is_accepted=at < accepted,
        )
        for at, (kind, subject) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("told", "against"),
    [
        ([], None),
        ([PAUSED], "the token was paused in block 10"),
        ([PAUSED, UNPAUSED], None),
        ([PAUSED, UNPAUSED, PAUSED], "the token was paused in block 12"),
        ([UNPAUSED], None),
        ([(BLOCKED, SHOP)], "the token froze the receiving address in block 10"),
        ([(BLOCKED, PAYER)], None),
        ([(BLOCKED, SHOP), (UNBLOCKED, PAYER)], "the token froze the receiving address in block 10"),
        ([(BLOCKED, SHOP), (UNBLOCKED, SHOP)], None),
        ([(BLOCKED, SHOP), PAUSED], "the token was paused in block 11"),
        ([UPGRADED, (BLOCKED, SHOP)], "the token froze the receiving address in block 11"),
        (
            [(UPGRADED, PAYER)],
            f"the token was upgraded to 0x{PAYER.hex()} in block 10, and nobody accepted that yet",
        ),
        ([DEPRECATED], "the token was deprecated in block 10, and nobody accepted that yet"),
        ([UPGRADED, PAUSED, UNPAUSED], "the token was upgraded in block 10, and nobody accepted that yet"),
    ],
)
def test_against_token__by_what_it_announced(told: list[AnnouncementKind], against: str | None) -> None:
    assert against_token(risks(*told), SHOP) == against
    assert against_token(reversed(risks(*told)), SHOP) == against
    assert against_token(risks(*told, accepted=len(told)), SHOP) is None


def test_against_token__same_block__the_later_log_decides() -> None:
    on, off = risks(PAUSED, UNPAUSED)
    moved = Announcement(
        token=USDC,
        kind=UNPAUSED,
        subject=None,
        block_number=BlockNumber(10),
        tx_hash=TxHash(bytes(32)),
        log_index=1,
    )
    assert against_token([Risk(announcement=moved, is_accepted=False), on], SHOP) is None
    assert against_token([on], SHOP) is not None
    assert against_token([off], SHOP) is None


def test_against_token__accepted__what_comes_after_counts_again() -> None:
    for kind in (UPGRADED, PAUSED, DEPRECATED):
        assert against_token(risks(kind, kind, accepted=1), SHOP) is not None
    assert against_token(risks((BLOCKED, SHOP), (BLOCKED, SHOP), accepted=1), SHOP) is not None


def price(answer: int, *, decimals: int = 8, age: timedelta = timedelta()) -> Price:
    return Price(answer=answer, decimals=decimals, updated_at=T0 - age)


@pytest.mark.parametrize(
    ("told", "against"),
    [
        (price(100_000_000), None),
        (price(98_500_000), None),
        (price(98_499_999), "the price is 0.98499999, below the floor of 0.985"),
        (price(200_000_000), None),
        (price(985 * 10**15, decimals=18), None),
        (price(985 * 10**15 - 1, decimals=18), "the price is 0.984999999999999999, below the floor of 0.985"),
        (price(1, decimals=0), None),
        (price(0), "the price feed is broken: it answers 0"),
        (price(-5), "the price feed is broken: it answers -5"),
        (price(100_000_000, age=DAY), None),
        (
            price(100_000_000, age=DAY + timedelta(seconds=1)),
            "the price feed is stale: it was updated at 2026-02-28T11:59:59+00:00",
        ),
        (price(100_000_000, age=-DAY), None),
        (None, "the price feed does not answer"),
    ],
)
def test_against_price__only_a_fresh_price_at_the_floor_passes(told: Price | None, against: str | None) -> None:
    assert against_price(told, floor=FLOOR, max_age=DAY, now=T0) == against


@given(answer=st.integers(1, 10**30), decimals=st.integers(0, 36), floor=st.integers(1, 10**18))
def test_against_price__is_the_comparison_of_fractions(answer: int, decimals: int, floor: int) -> None:
    held = against_price(price(answer, decimals=decimals), floor=floor, max_age=DAY, now=T0) is not None
    assert held == (answer * 10 ** (36 - decimals) < floor * 10**18)


def test_against_payer__who_does_not_answer_does_not_say_yes() -> None:
    assert against_payer(False) is None
    assert against_payer(True) == "the payer is on the sanctions list"
    assert against_payer(None) == "the sanctions list does not answer"
