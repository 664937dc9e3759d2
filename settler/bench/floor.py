"""The floor below `settler bench backfill`: the least a program can do that fetches a chain's transfers, a stage more
each time. One request at a time, and nothing is checked: nobody should settle by it.

    fetched    the bytes, through aiohttp
    decoded    and JSON to a struct with the fields that a payment has
    matched    and each recipient looked up among the invoices
    stored     and the rows that match, and no others, into SQLite, a commit an answer
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from contracts_abi import TRANSFER_TOPIC
from settler.bench.canned import CannedChain, Served
from settler.bench.measuring import Meter, forget_peak, peak_rss_mib

LOGS_A_REQUEST = 10_000
"""What most providers answer at most; larger buffers are slower as well."""


class BareLog(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What a payment is made of, and no more."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: str
    transaction_hash: str
    log_index: str


class _Reply(msgspec.Struct, frozen=True, gc=False):
    result: list[BareLog]


_HEADERS = {"Content-Type": "application/json"}
_decode = msgspec.json.Decoder(_Reply).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage cost, all those before it included."""

    name: str
    cpu_s: float
    wall_s: float
    peak_mib: float
    calls: int
    matched: int


async def floor(served: Served, chain: CannedChain, invoices: Collection[str], folder: Path) -> list[Stage]:
    """All stages over the whole chain. `invoices`: their recipients as topics, in lower case."""
    known = dict.fromkeys(invoices, True)
    found: list[BareLog] = []
    with closing(_opened(folder / "floor.db")) as store:

        def matched(body: bytes) -> list[BareLog]:
            return [log for log in _decode(body).result if log.topics[2] in known]

        def stored(body: bytes) -> list[BareLog]:
            logs = matched(body)
            with store:
                store.executemany("INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?)", map(_row, logs))
            return logs

        stages: dict[str, Callable[[bytes], Collection[object]]] = {
            "fetched": lambda _: found,
            "decoded": lambda body: _decode(body).result and found,
            "matched": matched,
            "stored": stored,
        }
        return [await _measured(name, use, served, chain) for name, use in stages.items()]


async def _measured(name: str, use: Callable[[bytes], Collection[object]], served: Served, chain: CannedChain) -> Stage:
    """The second of two passes: the first opens the connection and warms what is warmed."""
    forget_peak()
    matched = calls = 0
    width = max(1, LOGS_A_REQUEST * chain.blocks // max(1, chain.events))
    async with aiohttp.ClientSession() as session:

        async def asked(first: int) -> bytes:
            last = min(first + width, served.first + chain.blocks) - 1
            async with session.post(served.url, data=_request(served, first, last), headers=_HEADERS) as response:
                return await response.read()

        await _used(asked, use, served.first)
        matched = 0
        with Meter() as spent:
            for first in range(served.first, served.first + chain.blocks, width):
                matched += await _used(asked, use, first)
                calls += 1
    return Stage(
        name=name, cpu_s=spent.cpu_s, wall_s=spent.wall_s, peak_mib=peak_rss_mib(), calls=calls, matched=matched
    )


async def _used(
    asked: Callable[[int], Awaitable[bytes]], use: Callable[[bytes], Collection[object]], first: int
) -> int:
    return len(use(await asked(first)))


def _request(served: Served, first: int, last: int) -> bytes:
    wanted = {
        "fromBlock": hex(first),
        "toBlock": hex(last),
        "address": ["0x" + served.token.hex()],
        "topics": ["0x" + TRANSFER_TOPIC.hex()],
    }
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [wanted]})


def _opened(path: Path) -> sqlite3.Connection:
    store = sqlite3.connect(path)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")
    store.execute(
        "CREATE TABLE transfers (tx_hash TEXT, log_index INT, block INT, sender TEXT, recipient TEXT, amount TEXT)"
    )
    return store


def _row(log: BareLog) -> tuple[str, int, int, str, str, str]:
    _, sender, recipient = log.topics
    return log.transaction_hash, int(log.log_index, 16), int(log.block_number, 16), sender, recipient, log.data
