from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from settler.anvil import Anvil, find_anvil
from tests.conformance.worlds import AnvilWorld, SimulatedWorld, World

ANVIL = pytest.param("anvil", marks=pytest.mark.anvil)
GENESIS_TIME = 1_767_225_600
"""2026-01-01, as the simulated chain's; far enough in the past that mined blocks never wait for the clock."""


@pytest.fixture
async def anvil_world() -> AsyncIterator[AnvilWorld]:
    binary = find_anvil(os.environ.get("SETTLER_ANVIL"))
    async with Anvil(binary, no_mining=True, timestamp=GENESIS_TIME) as anvil:
        world = AnvilWorld(anvil)
        await world.prepare()
        world.counted.calls.clear()
        yield world
        await world.reader.close()


@pytest.fixture(params=["simulated", ANVIL])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "simulated":
        yield SimulatedWorld()
    else:
        binary = find_anvil(os.environ.get("SETTLER_ANVIL"))
        async with Anvil(binary, no_mining=True, timestamp=GENESIS_TIME) as anvil:
            world = AnvilWorld(anvil)
            await world.prepare()
            yield world
            await world.reader.close()
