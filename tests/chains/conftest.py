from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from chains.evm import EvmReader
from chains.model import ChainId
from chains.rpc import RpcProvider
from tests.chains.scripted_node import ScriptedNode


@dataclass
class Observed:
    """A `CallObserver` that remembers."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((method, outcome))


@dataclass
class Waits:
    """A sleep that does not wait, and remembers how long it should have."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    scripted = ScriptedNode()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def provider(node: ScriptedNode, observed: Observed, waits: Waits) -> AsyncIterator[RpcProvider]:
    made = RpcProvider(
        node.url,
        timeout_s=0.5,
        observer=observed,
        sleep=waits,
        jitter=random.Random(1),
        max_response_bytes=200_000,
    )
    yield made
    await made.close()


@pytest.fixture
def reader(provider: RpcProvider) -> EvmReader:
    return EvmReader(provider, chain_id=ChainId(1))
