"""Two workers in peace: both serve the API and deliver webhooks, a leader that is stopped hands over at once, and the
next release takes over from the present one while nobody waits.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from settler.storage import migrate
from tests.ha import next_release
from tests.ha.crew import Crew, now
from tests.support.daemon import show, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
HANDED_OVER_WITHIN_S = 15.0
"""A standby looks each second; the rest is for busy machines, whose ticks under way take long to end."""
READS_WITHIN_S = 30.0
PEACE_S = 3.0


@pytest.mark.timeout(240)
async def test_two_workers__in_peace__share_api_and_webhooks_and_hand_over_at_once(crew: Crew) -> None:
    a, b = await crew.start("a", "b")
    await crew.shop.open(a, b)
    leader = await crew.led_by("a", "b")
    led, standby = (a, b) if leader == "a" else (b, a)
    await crew.shop.goes_on(standby.api, within_s=READS_WITHIN_S)
    await asyncio.sleep(PEACE_S)
    # the standby says what the leader reads, and that it does not lead
    await standby.api.is_ready()
    ours, theirs = await standby.api.metrics(), await led.api.metrics()
    assert (ours.one("settler_leader", chain="anvil"), theirs.one("settler_leader", chain="anvil")) == (0, 1)
    assert ours.one("settler_scanned_block", chain="anvil") > 0
    made = crew.shop.traffic.paid[0]
    assert (await standby.api.invoice(made))["id"] == (await led.api.invoice(made))["id"] == made["id"]
    await until(lambda: sent(crew), lambda by_worker: min(by_worker) > 0, what="both workers to deliver", within_s=30.0)
    deliveries = Counter(got.headers["webhook-id"] for got in crew.shop.merchant.got)
    assert max(deliveries.values()) == 1, "each delivery was claimed by one worker"
    by_worker = await sent(crew)
    # a leader that is asked to stop
    fencing = crew.lease()[1]
    crew.shop.doors.open = [standby]
    started = now()
    assert await led.signal(signal.SIGTERM) == 0
    await crew.led_by({"a": "b", "b": "a"}[leader])
    handed_s = crew.taken_at(fencing + 1) - started
    assert handed_s <= HANDED_OVER_WITHIN_S
    await crew.shop.goes_on(standby.api, within_s=READS_WITHIN_S)
    reads_s = now() - started
    (given_back,) = [line for line in led.log if line["event"] == "lease.given_back"]
    (taken,) = [line for line in standby.log if line["event"] == "lease.taken" and line["fencing"] == fencing + 1]
    assert (given_back["fencing"], taken["before"]) == (fencing, None), "handed over, not waited for"
    figures = await crew.shop.reckon([standby], crew.database, is_compared=False)
    assert crew.usurped() == []
    show(
        f"delivered by each {by_worker}; handed over {handed_s:.1f} s after SIGTERM, reads on after {reads_s:.1f}; "
        f"{figures}"
    )


async def sent(crew: Crew) -> list[int]:
    """Webhooks delivered by each worker."""
    return [
        int((await worker.api.metrics()).total("settler_webhook_deliveries_total", outcome="delivered"))
        for worker in crew.workers.values()
    ]


@pytest.mark.timeout(240)
async def test_upgrade__schema_first_then_workers_one_by_one__nobody_waits(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = next_release.scripts(tmp_path / "next")
    (present,) = await crew.start("present")
    await crew.shop.open(present)
    await crew.shop.goes_on(present.api, within_s=READS_WITHIN_S)
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "_SCRIPTS", scripts)
        await migrate.upgrade(crew.database)
    await crew.shop.goes_on(present.api, within_s=READS_WITHIN_S)  # on a schema it does not know
    await asyncio.sleep(PEACE_S)
    (following,) = await crew.start("next", main=next_release.__name__, **{next_release.VARIABLE: str(scripts)})
    crew.shop.doors.open = [present, following]
    fencing = crew.lease()[1]
    await asyncio.sleep(PEACE_S)
    assert crew.lease() == ("present", fencing)
    crew.shop.doors.open = [following]
    assert await present.signal(signal.SIGTERM) == 0
    assert await crew.led_by("next") == "next"
    await crew.shop.goes_on(following.api, within_s=READS_WITHIN_S)
    await asyncio.sleep(PEACE_S)
    figures = await crew.shop.reckon([following], crew.database, is_compared=False)
    assert crew.usurped() == []
    assert "Traceback" not in "".join(present.errors)
    show(f"leaders' writes {crew.witnessed()}; {figures}")
