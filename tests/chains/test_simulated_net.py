"""The simulated net is like the real one, passes the process's gate, and does the same for the same seed."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest

from chains.errors import ChainError
from chains.faults import FAULTS
from chains.faults.sending import SENDING
from chains.post import Post
from chains.simulated_net import DOWN, SimulatedProvider, SimulatedSession
from tests.chains.faulty import (
    HOST,
    TIMEOUT_S,
    URL,
    always,
    chain,
    honest_node,
    outcome,
    provider_of,
    reader_of,
    reader_over,
    span,
    tags,
)
from tests.chains.scripted_node import ScriptedNode
from tests.support.rpc_proxy import RpcProxy

CHAIN_ID = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
NAMES = [fault.name for fault in SENDING]
SILENT = {"never answers", "answers late", "silence in mid-body"}
PATIENT_S = 30.0


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    made = honest_node()
    await made.start()
    yield made
    await made.stop()


def described(found: object) -> str:
    return f"{type(found).__name__}: {found}" if isinstance(found, ChainError) else repr(found)


# -- like the real one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_sending_fault__over_a_socket_and_without__comes_to_the_same(name: str, node: ScriptedNode) -> None:
    provider = provider_of(node, seed=name)
    provider.inject(FAULTS[name])
    timeout_s = TIMEOUT_S if name in SILENT else PATIENT_S
    session = SimulatedSession({HOST: provider}, gate=always)
    simulated = described(await outcome(span, reader_over(URL, session, timeout_s=timeout_s)))
    assert provider.told[name] > 0
    async with RpcProxy(node.url, seed=name) as proxy:
        proxy.inject(FAULTS[name])
        reader = reader_over(proxy.url, timeout_s=timeout_s)
        real = ""
        while not proxy.told[name]:  # a busy machine may take longer to ask than a client waits
            real = described(await outcome(span, reader))
        await reader.close()
    assert simulated == real


async def test_no_fault__over_a_socket_and_without__is_the_same(node: ScriptedNode) -> None:
    simulated = [await outcome(question, reader_of(provider_of(node))) for question in (span, tags, chain)]
    reader = reader_over(node.url, timeout_s=PATIENT_S)
    assert [await outcome(question, reader) for question in (span, tags, chain)] == simulated
    await reader.close()
    assert not [found for found in simulated if isinstance(found, ChainError)]


async def test_provider_down__is_refused_as_a_closed_port_is__and_comes_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    reader = reader_over(f"http://127.0.0.1:{port}", timeout_s=PATIENT_S)
    real = described(await outcome(chain, reader))
    await reader.close()
    provider = provider_of(honest_node())
    provider.be_down()
    simulated = reader_of(provider)
    assert described(await outcome(chain, simulated)) == real
    assert (provider.told[DOWN], provider.requests) == (1, 0)
    provider.be_up()
    assert await chain(simulated) == 1
    provider.be_down()
    provider.be_honest()
    assert await chain(simulated) == 1


# -- time, and the gate ------------------------------------------------------------------------------------------------


async def test_latency__is_slept__between_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("chains.simulated_net.asyncio.sleep", sleep)
    provider = SimulatedProvider(honest_node().answer, name=HOST, drawn=random.Random(5), latency_s=(0.1, 0.3))
    reader = reader_of(provider)
    for _ in range(20):
        await chain(reader)
    assert len(slept) == 20
    assert min(slept) >= 0.1
    assert max(slept) <= 0.3
    assert len(set(slept)) > 1


class Gone(BaseException):
    """As a simulated process's death: no `Exception`."""


@pytest.mark.parametrize(("lives", "asked"), [(0, 0), (1, 1)])
async def test_gate__process_dies_before_or_after_it_is_asked__nothing_is_handed_over(lives: int, asked: int) -> None:
    left = lives

    async def gate() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Gone

    provider = provider_of(honest_node())
    session = SimulatedSession({HOST: provider}, gate=gate)
    with pytest.raises(Gone):
        await Post(URL, session=session, max_connections=1).exchange(CHAIN_ID, [1])
    assert provider.requests == asked


async def test_gate__process_stands_still__the_request_waits() -> None:
    may_move = asyncio.Event()

    async def gate() -> None:
        await may_move.wait()

    provider = provider_of(honest_node())
    post = Post(URL, session=SimulatedSession({HOST: provider}, gate=gate), max_connections=1)
    asking = asyncio.create_task(post.exchange(CHAIN_ID, [1]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert provider.requests == 0
    may_move.set()
    assert b'"result":"0x1"' in (await asking).body


async def test_silence__the_client_gives_up__and_nothing_is_left_behind() -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS["never answers"])
    before = asyncio.all_tasks()
    assert f"within {TIMEOUT_S:g} s" in str(await outcome(chain, reader_of(provider)))
    assert asyncio.all_tasks() == before


async def test_session__closed__says_so_as_aiohttp_does() -> None:
    session = SimulatedSession({HOST: provider_of(honest_node())}, gate=always)
    await session.close()
    with pytest.raises(RuntimeError, match="Session is closed"):
        await Post(URL, session=session, max_connections=1).exchange(CHAIN_ID, [1])


async def test_session__host_nobody_made__is_a_mistake_of_the_world() -> None:
    session = SimulatedSession({}, gate=always)
    with pytest.raises(LookupError, match=HOST):
        await Post(URL, session=session, max_connections=1).exchange(CHAIN_ID, [1])


# -- what is told of it ------------------------------------------------------------------------------------------------


async def test_on_exchange__is_told_methods_and_faults_of_each_request() -> None:
    told: list[tuple[str, tuple[str, ...], str]] = []
    provider = SimulatedProvider(
        honest_node().answer,
        name=HOST,
        drawn=random.Random(1),
        on_exchange=lambda who, methods, how: told.append((who.name, methods, how)),
    )
    reader = reader_of(provider)
    await tags(reader)
    provider.inject(FAULTS["finalized null"])
    provider.inject(FAULTS["5xx"])
    await outcome(tags, reader)
    provider.be_down()
    await outcome(chain, reader)
    both = ("eth_getBlockByNumber", "eth_getBlockByNumber")
    assert told == [
        (HOST, both, "ok"),
        (HOST, both, "finalized null, 5xx"),
        (HOST, ("eth_chainId",), DOWN),
    ]
    assert provider.calls == {"eth_getBlockByNumber": 4}


async def of_a_world(seed: int) -> list[str]:
    """What readers find, asking a provider with many faults."""
    provider = provider_of(honest_node(), seed=seed)
    for name in FAULTS:
        if FAULTS[name].harm != "none" and name not in SILENT:
            provider.inject(FAULTS[name], probability=0.05)
    reader = reader_of(provider)
    found = [described(await outcome(question, reader)) for _ in range(40) for question in (span, tags, chain)]
    return [*found, repr(provider.told), repr(provider.figures)]


async def test_seed__same__same_answers__other__others() -> None:
    first, again, other = [await of_a_world(seed) for seed in (1, 1, 2)]
    assert first == again
    assert first != other
