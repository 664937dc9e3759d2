"""What no tick knows and the database does: suspense, holds, leases, the newest reconciliation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockNumber, BlockSpan
from settler.domain.invoices import InvoiceStatus
from settler.metrics import Metrics
from settler.runtime.watching import Gauges
from settler.storage import invoices, leases, reconciliations
from settler.storage.engine import Database
from tests.support.world import CHAIN_ID, World


class Gauged:
    """The stage over a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.metrics = Metrics(world.clock, version="0")
        tokens = {(t.chain_id, t.address): t for t in world.it.setup.tokens}
        self.stage = Gauges(db=world.db, metrics=self.metrics, clock=world.clock, tokens=tokens)

    async def value(self, name: str, **labels: str) -> float | None:
        await self.stage.tick()
        return self.shown(name, **labels)

    def shown(self, name: str, **labels: str) -> float | None:
        """Without looking at the database again."""
        return self.metrics._on.registry.get_sample_value(name, {"chain": "anvil", **labels})


@pytest.fixture
async def gauged(db: Database) -> Gauged:
    return Gauged(await World.on(db))


@pytest.mark.slow
async def test_suspense__its_value__is_summed_and_falls_when_it_is_worked_off(gauged: Gauged) -> None:
    world = gauged.world
    invoice = await world.invoice("100")
    async with world.db.write() as conn:
        await world.operating.cancel(conn, invoice.id, world.by())
    for amount in ("12.50", "0.25"):
        world.send(world.sim_transfer(invoice.options[0].pay_to, amount))
    world.mine(5)
    await world.catch_up()
    assert await gauged.value("settler_unmatched_amount_base", token="USDC") == 12_750_000
    for transfer in await world.transfers():
        async with world.db.write() as conn:
            await world.operating.dismiss(conn, transfer.id, world.by("ours"))
    assert await gauged.value("settler_unmatched_amount_base", token="USDC") == 0


@pytest.mark.slow
async def test_oldest_unsettled__on_hold__waits_for_an_operator_and_not_for_us(gauged: Gauged) -> None:
    world = gauged.world
    held = await world.invoice("100")
    world.pay(held)
    world.mine()
    await world.watch()
    world.clock.advance(60)
    waiting = await gauged.value("settler_oldest_unsettled_seconds")
    assert waiting is not None and waiting >= 60
    async with world.db.write() as conn:
        hold = await world.operating.place_hold(conn, held.id, world.by())
    assert await gauged.value("settler_oldest_unsettled_seconds") == 0
    async with world.db.write() as conn:
        await world.operating.release_hold(conn, hold.id, world.by())
    assert await gauged.value("settler_oldest_unsettled_seconds") == waiting


async def test_lease__every_worker__shows_its_number_as_the_database_has_it(gauged: Gauged) -> None:
    assert await gauged.value("settler_lease_fencing") is None
    now = gauged.world.clock.now()
    async with gauged.world.db.write() as conn:
        assert await leases.take(conn, CHAIN_ID, worker="a", seen=None, now=now)
    assert await gauged.value("settler_lease_fencing") == 1


async def test_reconciliation__never_run__is_not_zero_breaks(gauged: Gauged) -> None:
    assert await gauged.value("settler_reconciliation_breaks") is None
    assert await gauged.value("settler_reconciliation_age_seconds") is None


async def test_reconciliation__the_newest__shows_its_breaks_and_ages_between_scrapes(gauged: Gauged) -> None:
    clock = gauged.world.clock
    async with gauged.world.db.write() as conn:
        await reconciliations.store(
            conn,
            chain_id=CHAIN_ID,
            span=BlockSpan(first=BlockNumber(0), last=BlockNumber(5)),
            is_from_start=True,
            breaks=3,
            now=clock.now() - timedelta(seconds=100),
        )
    assert await gauged.value("settler_reconciliation_breaks") == 3
    assert gauged.shown("settler_reconciliation_age_seconds") == 100
    clock.advance(50)
    assert gauged.shown("settler_reconciliation_age_seconds") == 150


async def test_invoices__counting_takes_a_second__are_counted_again_after_a_hundred(
    gauged: Gauged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long is done seldom; what is shown meanwhile is what was counted last."""
    clock, counted = gauged.world.clock, invoices.count_by_status
    counts: list[float] = []

    async def slowly(conn: AsyncConnection) -> dict[InvoiceStatus, int]:
        counts.append(clock.monotonic())
        found = await counted(conn)
        clock.advance(1)
        return found

    monkeypatch.setattr(invoices, "count_by_status", slowly)
    began = clock.monotonic()
    for _ in range(31):
        await gauged.value("settler_invoices", status="pending")
        clock.advance(5)
    assert [round(at - began) for at in counts] == [0, 101]
