"""Attacks, accidents and the habits of tokens and wallets, played on a real node before the real stages, on both
databases: whatever is done on chain, an invoice gets what its money is and nothing else (I1, I2, I4, I8).

One node and one database a test; every row has its own payer, addresses and invoices in it and is judged by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from settler.anvil import Anvil, find_anvil
from settler.domain.drafting import InvoiceRequest, OptionRequest
from settler.domain.invoices import Match, UnmatchedReason
from settler.storage.engine import Database
from tests.anvil import catalogue_holds
from tests.anvil.catalogue_holds import HOLD_ROWS
from tests.anvil.catalogue_references import PAYER_ROWS, REFERENCE_ROWS
from tests.anvil.catalogue_rows import ROWS, SHELF
from tests.anvil.catalogue_world import GENESIS_S, Case, Owed, Row, Seen, Shelf, opened_on, play
from tests.support import evm
from tests.support.daemon import new_address
from tests.support.dump import audit


async def test_catalogue(db: Database, db_url: str, subtests: pytest.Subtests) -> None:
    await judge((*ROWS, *REFERENCE_ROWS, *PAYER_ROWS), SHELF, db, db_url, subtests)


async def test_catalogue__held(db: Database, db_url: str, subtests: pytest.Subtests) -> None:
    await judge(HOLD_ROWS, catalogue_holds.SHELF, db, db_url, subtests)


async def test_one_token_address_on_two_chains__is_two_tokens(db: Database, db_url: str) -> None:
    """C17. The same deployer's first contract has the same address everywhere; so has the shop."""
    async with (
        Anvil(find_anvil(), no_mining=True, timestamp=GENESIS_S) as here,
        Anvil(find_anvil(), no_mining=True, timestamp=GENESIS_S, chain_id=31338) as there,
        opened_on(db, {"anvil": here, "other": there}) as (world, tokens),
    ):
        assert tokens["anvil"].address == tokens["other"].address
        to = new_address()
        option = OptionRequest(chain="anvil", token="USDC", pay_to=to, match=Match.ADDRESS)
        (invoice,) = await world.ask([InvoiceRequest(amount="100", reference="C17", options=(option,))])
        for node, token in ((there, tokens["other"]), (here, tokens["anvil"])):
            await token.send("mint", evm.address_of(node.accounts[0]), 100 * 10**6)
            await token.send("transfer", to, 100 * 10**6)

        await evm.mine(there, 5)
        await world.catch_up()
        (stray,) = await world.transfers()
        assert (stray.identity.chain_id, stray.reason) == (31338, UnmatchedReason.WRONG_ASSET)
        assert await world.status(invoice) == "pending"

        await evm.mine(here, 5)
        await world.catch_up()
        assert await world.status(invoice) == "settled"
    await audit(db_url)


async def judge(rows: Sequence[Row], shelf: Shelf, db: Database, db_url: str, subtests: pytest.Subtests) -> None:
    """Plays the rows, then holds each against what it says."""
    assert len({row.name for row in rows}) == len(rows), "names make the payers' keys"
    for name, (case, seen) in (await play(rows, shelf, db)).items():
        with subtests.test(msg=f"{case.row.source} {name}"):
            check(case, seen)
    await audit(db_url)


def check(case: Case, seen: Seen) -> None:
    row = case.row
    assert not seen.failures, "the chain did not do what the row says"
    assert seen.owed == row.owed
    assert seen.came == row.came
    assert seen.statuses <= {"final"}
    assert seen.payers == (frozenset(case.payers or {case.me}) if row.came else frozenset())
    assert seen.holds == row.holds
    assert seen.breaks == row.breaks
    assert seen.booked == books(row)


def books(row: Row) -> dict[str, Decimal]:
    """I4: what arrived is what was settled, surplus, and what waits."""
    arrived = sum((Decimal(c.amount) for c in row.came if c.where != "ignored_zero"), Decimal(0))
    settled = sum((_settled(owed) for owed in row.owed), Decimal(0))
    surplus = Decimal(row.surplus)
    waits = arrived - settled - surplus
    assert waits >= 0, "the row settles more than came"
    accounts = {"received": arrived, "settled": -settled, "surplus": -surplus, "suspense": -waits}
    return {name: total for name, total in accounts.items() if total}


def _settled(owed: Owed) -> Decimal:
    return Decimal(owed.settled)
