"""deploy/compose.yaml under Docker Compose itself, on podman's socket: the demo runs, shows in Prometheus, survives its
leader, and what comes up again goes on. Grafana is left out: no stand-in of it can be had (docs/containers.md).
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.support import containers
from tests.support.containers import DEPLOY, IMAGE, STANDIN, environment, tool
from tests.support.daemon import Metrics, show, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PROJECT = "settler-test"
UP_S = 240
TAKEOVER_S = 15.0
"""RULES.md 7."""
PORTS = ("SETTLER_A", "SETTLER_B", "ANVIL", "PROMETHEUS", "ALERTMANAGER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """The services of the file."""

    env: Mapping[str, str]
    session: aiohttp.ClientSession

    async def run(self, *args: str, may_fail: bool = False) -> str:
        """A command of Docker Compose; what it says."""
        files = (f"--file={DEPLOY / 'compose.yaml'}", f"--file={STANDIN / 'compose.yaml'}")
        process = await asyncio.create_subprocess_exec(
            str(tool("docker-compose")), f"--project-name={PROJECT}", "--progress=plain", *files, *args,
            env=self.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        said = out.decode()
        assert may_fail or process.returncode == 0, f"docker compose {' '.join(args)}: {said[-4_000:]}"
        return said

    async def up(self) -> None:
        """All services, healthy."""
        await self.run("up", "--detach", "--no-build", "--wait", f"--wait-timeout={UP_S}")

    async def states(self) -> dict[str, dict[str, Any]]:
        said = await self.run("ps", "--all", "--format=json")
        rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        return {row["Service"]: row for row in rows}

    async def metrics(self, worker: str) -> Metrics | None:
        """`None`: it does not answer."""
        try:
            async with self.session.get(f"http://127.0.0.1:{self.env[worker + '_PORT']}/metrics") as response:
                return Metrics(await response.text())
        except aiohttp.ClientError:
            return None

    async def asked(self, query: str) -> list[Any]:
        """What Prometheus answers."""
        address = f"http://127.0.0.1:{self.env['PROMETHEUS_PORT']}/api/v1/query"
        async with self.session.get(address, params={"query": query}) as response:
            answer = await response.json()
            assert answer["status"] == "success", answer
            return list(answer["data"]["result"])

    async def settled(self) -> float:
        """Settlements so far, by either worker since it was started."""
        told = [await self.metrics(worker) for worker in ("SETTLER_A", "SETTLER_B")]
        return sum(m.total("settler_settlements_total") for m in told if m is not None)


@asynccontextmanager
async def composed(host: str) -> AsyncIterator[Composed]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        env = {
            **environment(),
            "DOCKER_HOST": host,
            "SETTLER_IMAGE": IMAGE,
            **dict.fromkeys(
                ("POSTGRES_IMAGE", "PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE", "ANVIL_IMAGE"), containers.services_image()
            ),
            **{f"{name}_PORT": str(free_port()) for name in PORTS},
        }
        project = Composed(env=env, session=session)
        await project.run("down", "--volumes", "--timeout=0", may_fail=True)
        try:
            yield project
        finally:
            await project.run("down", "--volumes", "--timeout=0", may_fail=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_compose__up__the_demo_shows_and_survives_its_leader() -> None:
    assert containers.exists(IMAGE), "tests/system/test_container.py builds it: run both files together"
    async with containers.engine() as host, composed(host) as project:
        began = time.monotonic()
        await project.up()
        show(f"up and healthy in {time.monotonic() - began:.0f} s")
        states = await project.states()
        assert states["migrate"]["ExitCode"] == 0
        assert {s for s, row in states.items() if row["State"] == "running"} == {
            "settler-a", "settler-b", "postgres", "anvil", "demo", "prometheus", "alertmanager",
        }  # fmt: skip

        await until(project.settled, lambda count: count >= 10, what="the demo's payments to settle", within_s=120)

        # Prometheus scrapes both workers, and has loaded the rules without a complaint.
        await until(
            lambda: project.asked('up{job="settler"} == 1'), lambda found: len(found) == 2, what="both to be scraped"
        )
        await until(lambda: project.asked("sum(settler_settlements_total) > 0"), bool, what="settlements in Prometheus")
        (led,) = await project.asked("sum(settler_leader)")
        assert float(led["value"][1]) == 1.0, "one worker leads the chain"

        # The leader is killed; the other one takes over, and it comes back by itself.
        told = {worker: await project.metrics(worker) for worker in ("SETTLER_A", "SETTLER_B")}
        leads = {w: m.one("settler_leader", chain="anvil") for w, m in told.items() if m is not None}
        assert sorted(leads.values()) == [0.0, 1.0]
        leader, other = sorted(leads, key=lambda worker: -leads[worker])
        await project.run("kill", "--signal=KILL", leader.lower().replace("_", "-"))
        killed_at = time.monotonic()

        async def has_taken_over() -> bool:
            m = await project.metrics(other)
            return m is not None and m.one("settler_leader", chain="anvil") == 1.0

        await until(has_taken_over, bool, what=f"{other} to lead", within_s=60)
        took_s = time.monotonic() - killed_at
        show(f"taken over in {took_s:.1f} s")
        assert took_s < TAKEOVER_S
        before = await project.settled()
        await until(project.settled, lambda count: count > before + 3, what="it to settle", within_s=60)

        # Down as an operator takes it down: nobody has to be killed, and the next day goes on.
        await project.up()
        await until(lambda: project.run("logs", "demo"), lambda said: "order-" in said, what="the shop to be open")
        await project.run("stop")
        stopped = await project.states()
        for service in ("settler-a", "settler-b", "demo", "anvil", "postgres"):
            code = stopped[service]["ExitCode"]
            assert code == 0, f"{service} ended with {code}: {await project.run('logs', '--tail=20', service)}"
        await project.run("down")
        await project.up()
        await until(project.settled, lambda count: count >= 3, what="the next day to settle", within_s=120)
        for worker in ("SETTLER_A", "SETTLER_B"):
            async with project.session.get(f"http://127.0.0.1:{project.env[worker + '_PORT']}/readyz") as response:
                assert response.status == 200, await response.text()
