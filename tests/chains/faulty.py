"""A small honest chain behind a simulated provider, and what a reader makes of the answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from chains.errors import ChainError
from chains.evm import EvmReader
from chains.model import Address, BlockNumber, BlockSpan, ChainId, LogQuery, Tag
from chains.rpc import RpcProvider
from chains.simulated_net import SimulatedProvider, SimulatedSession
from tests.chains.scripted_node import HEAD, OTHER_TOKEN, SHOP, STRANGER, TOKEN, Json, ScriptedNode, log

HOST = "node.example"
URL = f"http://{HOST}/v2"
CHAIN = ChainId(1)
BOUND_BYTES = 2 * 2**20
TIMEOUT_S = 0.05
SPAN = BlockSpan(first=BlockNumber(HEAD - 5), last=BlockNumber(HEAD))
QUIET = BlockSpan(first=BlockNumber(3), last=BlockNumber(4))
QUERY = LogQuery(
    tokens=frozenset({Address(TOKEN), Address(OTHER_TOKEN)}), recipients=frozenset({Address(SHOP), Address(STRANGER)})
)

Question = Callable[[EvmReader], Awaitable[object]]


def honest_node() -> ScriptedNode:
    """20 blocks; payments in the last and in one before it."""
    node = ScriptedNode()
    logs = [log(HEAD - 3, 4, amount=100), log(HEAD, 0, amount=7), log(HEAD, 1, amount=9, tx="other")]

    def of_range(params: list[Any]) -> list[Json]:
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        return [each for each in logs if first <= int(each["blockNumber"], 16) <= last]

    node.methods |= {"eth_blockNumber": hex(HEAD), "eth_getLogs": of_range}
    return node


async def always() -> None:
    """The gate of a process that lives."""


def provider_of(node: ScriptedNode, *, seed: object = 0) -> SimulatedProvider:
    return SimulatedProvider(node.answer, name=HOST, drawn=random.Random(f"{seed}"))


def reader_over(url: str, session: SimulatedSession | None = None, *, timeout_s: float = TIMEOUT_S) -> EvmReader:
    rpc = RpcProvider(
        url, session=session, attempts=1, timeout_s=timeout_s, max_response_bytes=BOUND_BYTES, name="the node"
    )
    return EvmReader(rpc, chain_id=CHAIN)


def reader_of(provider: SimulatedProvider) -> EvmReader:
    return reader_over(URL, SimulatedSession({HOST: provider}, gate=always))


async def span(reader: EvmReader) -> object:
    return await reader.read_span(SPAN, QUERY, anchor=BlockNumber(SPAN.first - 1))


async def tags(reader: EvmReader) -> object:
    return await reader.headers([Tag.LATEST, Tag.FINALIZED])


async def chain(reader: EvmReader) -> object:
    return await reader.chain_id()


async def outcome(question: Question, reader: EvmReader) -> object:
    """The answer, or the error."""
    try:
        return await question(reader)
    except ChainError as error:
        return error
