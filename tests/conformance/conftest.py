from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chains.reader import ChainReader, ProviderReader
from chains.simulated import SimFaults
from chains.spans import WindowedReader
from settler.anvil import Anvil, find_anvil
from tests.conformance.worlds import AnvilWorld, NodeWorld, SimulatedWorld, World, windowed

GENESIS_TIME = 1_767_225_600
"""2026-01-01, as the simulated chain's; far enough in the past that mined blocks never wait for the clock."""


def on_anvil(kind: str) -> Any:
    return pytest.param(kind, marks=pytest.mark.anvil)


@pytest.fixture
async def anvil_world() -> AsyncIterator[AnvilWorld]:
    binary = find_anvil(os.environ.get("SETTLER_ANVIL"))
    async with Anvil(binary, no_mining=True, timestamp=GENESIS_TIME) as anvil:
        world = AnvilWorld(anvil)
        await world.prepare()
        world.counted.calls.clear()
        yield world
        await world.reader.close()


NARROW_BLOCKS = 2
"""Most spans of the suite are read in several pieces then."""
WIDE_BLOCKS = 100
"""None is."""


@pytest.fixture(
    params=[
        "simulated",
        "simulated narrow",
        "simulated refusing",
        "node",
        "node narrow",
        "node bloom",
        *map(on_anvil, ["anvil", "anvil narrow", "anvil bloom"]),
    ]
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each `ChainReader`: one provider's, the same in pieces, one that has to find out how wide they may be, and one
    that believes in blooms."""
    async with opened(request.param) as made:
        yield made


@pytest.fixture(params=["simulated", "simulated wide", "node", "node wide", *map(on_anvil, ["anvil", "anvil wide"])])
async def undivided_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Each `ChainReader`, with a provider that takes every span at once."""
    async with opened(request.param) as made:
        yield made


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[World]:
    node, _, way = kind.partition(" ")
    if node == "simulated":
        simulated = SimulatedWorld()
        if way == "refusing":
            simulated.provider_reader.faults = SimFaults(max_span=3, max_logs=1)
        simulated.reader = _read_by(simulated.provider_reader, way)
        yield simulated
        return
    if node == "node":
        asked = NodeWorld(check_bloom=way == "bloom")
        asked.reader = _read_by(asked.provider_reader, way)
        yield asked
        await asked.reader.close()
        return
    binary = find_anvil(os.environ.get("SETTLER_ANVIL"))
    async with Anvil(binary, no_mining=True, timestamp=GENESIS_TIME) as anvil:
        real = AnvilWorld(anvil, check_bloom=way == "bloom")
        await real.prepare()
        real.reader = _read_by(real.provider_reader, way)
        yield real
        await real.reader.close()


def _read_by(reader: ProviderReader, way: str) -> ChainReader:
    match way:
        case "narrow":
            return windowed(reader, width=NARROW_BLOCKS)
        case "wide":
            return windowed(reader, width=WIDE_BLOCKS)
        case "refusing":
            return WindowedReader(reader, monotonic=lambda: 0.0)
        case _:
            return reader
