from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.model import UINT256_MAX, BaseUnits
from settler.domain import ledger
from settler.domain.ids import SettlementId
from settler.domain.ledger import Account, Line, Side
from settler.domain.settlement import SettledPart
from tests.domain.samples import CHAIN, DAI, OTHER_CHAIN, USDC, a_transfer

SETTLEMENT = SettlementId("stl_" + "0" * 26)


@st.composite
def parts(draw: st.DrawFn) -> SettledPart:
    amount = draw(st.integers(1, UINT256_MAX))
    settled = draw(st.just(0) | st.just(amount) | st.integers(0, amount))
    transfer = a_transfer(
        amount, chain_id=draw(st.sampled_from([CHAIN, OTHER_CHAIN])), token=draw(st.sampled_from([USDC, DAI]))
    )
    return SettledPart(transfer=transfer, settled=BaseUnits(settled), surplus=BaseUnits(amount - settled))


def balance(lines: Sequence[Line]) -> dict[Account, int]:
    """Debits less credits an account, all chains and tokens together."""
    sums: Counter[Account] = Counter()
    for line in lines:
        sums[line.account] += line.amount if line.side is Side.DEBIT else -line.amount
    return {account: amount for account, amount in sums.items() if amount}


def test_receipt__debits_received_and_credits_suspense() -> None:
    transfer = a_transfer(7)
    lines = ledger.receipt(transfer)
    assert balance(lines) == {Account.RECEIVED: 7, Account.SUSPENSE: -7}
    assert {line.transfer_id for line in lines} == {transfer.id}


def test_settlement__moves_suspense_to_settled_and_surplus() -> None:
    part = SettledPart(transfer=a_transfer(10), settled=BaseUnits(7), surplus=BaseUnits(3))
    lines = ledger.settlement(SETTLEMENT, [part])
    assert balance(lines) == {Account.SUSPENSE: 10, Account.SETTLED: -7, Account.SURPLUS: -3}
    assert {line.settlement_id for line in lines} == {SETTLEMENT}


@given(st.lists(parts(), min_size=1, max_size=5))
def test_settlement__any_parts__balances_per_chain_and_token_without_empty_lines(some: list[SettledPart]) -> None:
    lines = ledger.settlement(SETTLEMENT, some)
    assert ledger.imbalance(lines) == {}
    assert all(line.amount > 0 for line in lines)
    assert balance(lines).get(Account.SUSPENSE) == sum(p.transfer.identity.amount for p in some)


@pytest.mark.parametrize(("settlement_id", "taken_from"), [(None, Account.SUSPENSE), (SETTLEMENT, Account.SURPLUS)])
def test_refund__takes_from_suspense_or_from_surplus(settlement_id: SettlementId | None, taken_from: Account) -> None:
    lines = ledger.refund(a_transfer(10), BaseUnits(4), settlement_id)
    assert balance(lines) == {taken_from: 4, Account.REFUNDED: -4}
    assert {line.settlement_id for line in lines} == {settlement_id}


@given(st.lists(parts(), min_size=1, max_size=5))
def test_contra__undoes_an_entry_and_is_its_own_inverse(some: list[SettledPart]) -> None:
    lines = ledger.settlement(SETTLEMENT, some)
    undone = ledger.contra(lines)
    assert balance([*lines, *undone]) == {}
    assert ledger.contra(undone) == lines


def test_imbalance__names_chain_token_and_by_how_much() -> None:
    lines = ledger.receipt(a_transfer(7))
    assert ledger.imbalance([]) == {}
    assert ledger.imbalance(lines[:1]) == {(CHAIN, USDC): 7}
    assert ledger.imbalance(lines[1:]) == {(CHAIN, USDC): -7}
    elsewhere = replace(lines[1], chain_id=OTHER_CHAIN)
    assert ledger.imbalance([lines[0], elsewhere]) == {(CHAIN, USDC): 7, (OTHER_CHAIN, USDC): -7}


def test_settlement__of_nothing__is_a_bug() -> None:
    with pytest.raises(AssertionError, match="needs lines"):
        ledger.settlement(SETTLEMENT, [])


def test_settlement__parts_that_lose_money__is_a_bug() -> None:
    lossy = SettledPart(transfer=a_transfer(10), settled=BaseUnits(6), surplus=BaseUnits(3))
    with pytest.raises(AssertionError, match="does not sum to zero"):
        ledger.settlement(SETTLEMENT, [lossy])
