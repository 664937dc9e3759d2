"""Workers of one database that take chains over from one another, look by look."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from chains.model import ChainId
from settler.clock import FakeClock
from settler.domain.leading import LOOKS_PER_RENEWAL, MOST_PATIENT_LOOKS, STALE_LOOKS
from settler.runtime.leading import Leading
from settler.storage import chains, leases
from settler.storage.chains import ChainState
from settler.storage.engine import Database, StorageUnavailable
from settler.storage.leases import LeaseLost

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BASE, POLYGON, GNOSIS = ChainId(8453), ChainId(137), ChainId(100)
ONE = {"base": BASE}
THREE = {"base": BASE, "gnosis": GNOSIS, "polygon": POLYGON}


class Worker:
    def __init__(self, db: Database, name: str, configured: Mapping[str, ChainId] = ONE) -> None:
        self.told: list[tuple[str, bool]] = []
        self.shown: list[str] = []
        self.leading = Leading(
            db=db,
            clock=FakeClock(NOW),
            worker=name,
            chains=configured,
            on_lead=lambda chain, is_leader: self.told.append((chain, is_leader)),
            on_standby=self._shown,
        )

    def _shown(self, chain: str, _state: ChainState) -> None:
        self.shown.append(chain)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.leading.tick()

    @property
    def leads(self) -> list[str]:
        now: dict[str, bool] = dict(self.told)
        return sorted(chain for chain, is_leader in now.items() if is_leader)


async def holder(db: Database, chain_id: ChainId = BASE) -> str | None:
    async with db.read() as conn:
        return (await leases.all_rows(conn))[chain_id].holder


async def test_tick__nobody_leads__leads_at_once(sqlite_db: Database) -> None:
    a = Worker(sqlite_db, "a")
    await a.look()
    assert a.leads == ["base"]
    led = await a.leading.next("base", asyncio.Event())
    assert led is not None and not led.ended.is_set()


async def test_tick__another_leads_and_renews__stands_by_for_ever(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    for _ in range(5 * STALE_LOOKS):
        await a.look()
        await b.look()
    assert (a.leads, b.leads) == (["base"], [])
    assert await holder(sqlite_db) == "a"


async def test_tick__leader_stands_still__is_replaced_and_commits_nothing_when_it_wakes(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    await a.look()
    led = await a.leading.next("base", asyncio.Event())
    assert led is not None
    await b.look(1 + STALE_LOOKS)
    assert b.leads == ["base"]
    with pytest.raises(LeaseLost):
        async with led.db.write() as conn:
            await chains.register(conn, chain_id=BASE, name="base", tokens=(), now=NOW)
    assert led.ended.is_set()
    assert a.leads == []


async def test_tick__leader_finds_at_a_renewal_that_it_was_replaced__ends_its_lead(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    await a.look()
    led = await a.leading.next("base", asyncio.Event())
    await b.look(1 + STALE_LOOKS)
    await a.look(LOOKS_PER_RENEWAL)
    assert led is not None and led.ended.is_set()
    assert (a.leads, b.leads) == ([], ["base"])


async def test_tick__restarted_under_its_name__leads_again_at_once(sqlite_db: Database) -> None:
    before, after = Worker(sqlite_db, "a"), Worker(sqlite_db, "a")
    await before.look()
    await after.look()
    assert after.leads == ["base"]
    await before.look(LOOKS_PER_RENEWAL)
    assert before.leads == []
    await before.look(LOOKS_PER_RENEWAL)  # and it does not take it back while the other renews
    await after.look(LOOKS_PER_RENEWAL)
    await before.look(STALE_LOOKS - 1)
    assert (before.leads, after.leads) == ([], ["base"])


async def test_give_back__the_next_look_of_another__takes_it(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    await a.look()
    led = await a.leading.next("base", asyncio.Event())
    await b.look()
    await a.leading.give_back("base")
    assert led is not None and led.ended.is_set()
    await b.look()
    assert (a.leads, b.leads) == ([], ["base"])


async def test_tick__two_start_together__chains_are_spread(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a", THREE), Worker(sqlite_db, "b", THREE)
    for _ in range(1 + MOST_PATIENT_LOOKS):
        await a.look()
        await b.look()
    assert sorted(a.leads + b.leads) == sorted(THREE)
    assert a.leads and b.leads


async def test_tick__standby__tells_where_a_chain_stands_that_another_leads(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    await a.look()
    led = await a.leading.next("base", asyncio.Event())
    assert led is not None
    async with led.db.write() as conn:
        await chains.register(conn, chain_id=BASE, name="base", tokens=(), now=NOW)
    await b.look()
    assert b.shown == ["base"]
    assert a.shown == []


async def test_next__stop__ends_the_wait(sqlite_db: Database) -> None:
    a, b = Worker(sqlite_db, "a"), Worker(sqlite_db, "b")
    await a.look()
    await b.look()
    stop = asyncio.Event()
    waiting = asyncio.create_task(b.leading.next("base", stop))
    await asyncio.sleep(0)
    assert not waiting.done()
    stop.set()
    assert await waiting is None


async def test_next__taken_while_it_waits__is_handed_over(sqlite_db: Database) -> None:
    a = Worker(sqlite_db, "a")
    waiting = asyncio.create_task(a.leading.next("base", asyncio.Event()))
    await asyncio.sleep(0)
    await a.look()
    assert await waiting is not None


async def test_give_back__database_away__ceases_all_the_same(
    sqlite_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = Worker(sqlite_db, "a")
    await a.look()

    def gone(*_: object, **__: object) -> None:
        raise StorageUnavailable("the database does not answer")

    monkeypatch.setattr(leases, "give_back", gone)
    await a.leading.give_back_all()
    assert a.leads == []
    assert await holder(sqlite_db) == "a"


@pytest.mark.parametrize("failing", ["all_rows", "take"])
async def test_tick__first_look_fails__what_stands_under_its_name_is_still_its_own(
    sqlite_db: Database, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A worker that is started again before its database is: the first tick failed and the rule was lost with it, so
    that it took its own lease for another's and stood by for eight looks."""
    before, after = Worker(sqlite_db, "a", THREE), Worker(sqlite_db, "a", THREE)
    await before.look(1 + MOST_PATIENT_LOOKS)
    assert before.leads == sorted(THREE)

    async def gone(*_: object, **__: object) -> None:
        raise StorageUnavailable("the database does not answer")

    with monkeypatch.context() as away:
        away.setattr(leases, failing, gone)
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await after.look()
    assert after.leads == []
    await after.look()
    assert after.leads == sorted(THREE)
