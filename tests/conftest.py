"""What every test may use, and may not: the network beyond this machine."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from settler.anvil import Anvil, find_anvil

pytest_plugins = ["tests.support.db"]

# How long an example takes is no finding. `make check` looks at fewer of them; `make test` then at all.
settings.register_profile("full", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("full"), max_examples=15)
settings.load_profile("full")

SLOW_DIRECTORIES = ("anvil", "postgres", "e2e")
SLOW_FILES = (
    "api/",
    "chains/test_rpc.py",
    "cli/test_addresses.py",
    "cli/test_audit.py",
    "cli/test_export.py",
    "cli/test_bad_input.py",
    "cli/test_commands.py",
    "cli/test_completion.py",
    "cli/test_json.py",
    "cli/test_money.py",
    "cli/test_operating.py",
    "cli/test_process.py",
    "cli/test_tokens.py",
    "cli/test_reread.py",
    "cli/test_verify.py",
    "cli/test_webhooks.py",
    "docs/test_api_guide.py",
    "docs/test_restore.py",
    "simulation/test_determinism.py",
    "simulation/test_seeds.py",
    "stages/test_deposits.py",
    "stages/test_dispatch.py",
    "stages/test_halt.py",
    "stages/test_invariants.py",
    "stages/test_lifecycle.py",
    "stages/test_matching.py",
    "stages/test_liars.py",
    "stages/test_model.py",
    "stages/test_operating.py",
    "stages/test_proving.py",
    "stages/test_quorum_settling.py",
    "stages/test_reconcile.py",
    "stages/test_refunding.py",
    "stages/test_references.py",
    "stages/test_rescan.py",
    "stages/test_reviewed.py",
    "stages/test_screening.py",
    "stages/test_tiers.py",
    "storage/test_audit.py",
    "storage/test_deposits.py",
    "storage/test_engine.py",
    "storage/test_exporting.py",
    "storage/test_migrations.py",
    "storage/test_query_plans.py",
    "storage/test_types.py",
    "webhook/test_admin.py",
    "webhook/test_bad_endpoints.py",
    "webhook/test_outage.py",
    "webhook/test_receivers.py",
    "webhook/test_replays.py",
    "webhook/test_send.py",
    "webhook/test_sign.py",
)
"""They start processes, wait for time-outs, fill databases or run a thousand lives: for `make test`, not for `make
check`.
"""

LONG_FILES = (
    "ha/test_takeover.py",
    "ha/test_workers.py",
    "postgres/test_failover.py",
    "postgres/test_restarts.py",
    "simulation/test_seeds.py",
    "e2e/test_killed.py",
    "e2e/test_faults.py",
    "e2e/test_load.py",
    "stages/test_model.py",
)
"""Tests of half a minute and more."""

MEMORY = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 4 << 30
"""Far more than what tests leave: 20 MB a run, of which pytest keeps three."""


@pytest.fixture
async def anvil() -> AsyncIterator[Anvil]:
    """A local chain of the test's own, each transaction in its own block. Started in 0.1 s."""
    async with Anvil(find_anvil()) as node:
        yield node


def pytest_configure() -> None:
    """Puts `tmp_path` into memory if there is enough of it: SQLite syncs each commit, which takes a disk 2 ms."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make check` leaves out: by directory, or because a test wants a chain. The longest come first, so
    that no worker is left alone with one at the end.
    """
    here = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(here)
        directory = path.parts[0]
        if path.as_posix().startswith(SLOW_FILES):
            item.add_marker("slow")
        if directory in SLOW_DIRECTORIES:
            item.add_marker(directory)
        if directory == "browser":
            item.add_marker("system")
        if "anvil" in getattr(item, "fixturenames", ()):
            item.add_marker("anvil")
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in LONG_FILES)


@pytest.fixture(autouse=True)
def _no_outside_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches a real node or registry passes or fails with somebody else's weather."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
