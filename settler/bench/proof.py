"""`settler bench proof`: processor time to prove what a block's payments rest on, whole and by step.

The whole is what the settle stage spends on one block: the provider's answer as it came (`eth_getBlockByHash` and
`eth_getBlockReceipts` in one batch), the header's hash, the receipts trie, the wanted logs of all receipts, and the
stored evidence of each payment; through the same reader, pool and `Prover`. Beside it each step alone, and the floor:
the same JSON decoded and the same bytes hashed, with nothing in between.

What the blocks are made of stands in `settler.bench.proof_blocks`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any, TypeVar

import aiohttp
import msgspec

from chains.evm import EvmReader
from chains.pool import Pool
from chains.post import HttpContent, HttpResponse
from chains.proof import BLOCK, RECEIPTS, encode_header, prove_block, to_json
from chains.proof.keccak import IMPLEMENTATION, keccak
from chains.proof.receipt import encode_receipt
from chains.proof.trie import build
from chains.rpc import RpcProvider
from chains.spans import WindowedReader
from settler.bench.measuring import Report
from settler.bench.proof_blocks import CHAIN, PROFILE, WATCHED, MadeBlock, make_block
from settler.domain.finality import Depth
from settler.stages.proving import Prover
from settler.stages.setup import ChainSetup

T = TypeVar("T")

SIZES = ((50, 1), (150, 1), (300, 1), (1_000, 1), (1_000, 1_000))
"""Transactions of a block, and payments among them."""
REPEATS = 7
"""The least of so many counts: what the work costs when nothing disturbs it."""


async def prove(*, sizes: Sequence[tuple[int, int]] = SIZES, repeats: int = REPEATS) -> Report:
    """A row a size. Times are ms of processor time, each the least of `repeats`."""
    rows = [await _row(make_block(transactions, payments), transactions, repeats) for transactions, payments in sizes]
    inputs = {"chain": int(CHAIN), "watched_addresses": WATCHED, "repeats": repeats, "keccak": IMPLEMENTATION}
    return Report(benchmark="proof", inputs=inputs, rows=rows)


async def _row(made: MadeBlock, transactions: int, repeats: int) -> dict[str, Any]:
    spent: defaultdict[str, list[float]] = defaultdict(list)
    async with _prover(made) as prover:
        await _proven(prover, made)
        for _ in range(repeats):
            total_s, hold_s = await _proven(prover, made)
            spent["total"].append(total_s)
            spent["hold"].append(hold_s)
            for name, step_s in _steps(made):
                spent[name].append(step_s)
    least = {name: min(seconds) for name, seconds in spent.items()}
    total, hold, floor = least.pop("total"), least.pop("hold"), least["json"] + least["keccak"]
    return {
        "transactions": transactions,
        "logs": made.logs,
        "payments": len(made.payments),
        "json_kb": round((len(made.block_json) + len(made.receipts_json)) / 1000),
        "cpu_ms": _ms(total),
        "floor_ms": _ms(floor),
        "ratio": round(total / floor, 2),
        "longest_hold_ms": _ms(hold),
        **{f"{name}_ms": _ms(cpu_s) for name, cpu_s in least.items()},
        "rest_ms": _ms(max(0.0, total - sum(least.values()))),
    }


async def _proven(prover: Prover, made: MadeBlock) -> tuple[float, float]:
    """The processor time of one block, and of the longest piece of it in which nothing else could run. Seconds."""
    gc.collect()
    loop = asyncio.get_running_loop()
    turns = [time.process_time()]
    is_over = False

    def turn() -> None:
        turns.append(time.process_time())
        if not is_over:
            loop.call_soon(turn)

    loop.call_soon(turn)
    evidence = await prover.evidence(made.read, made.query, ("canned",))
    is_over = True
    turns.append(time.process_time())
    spent = turns[-1] - turns[0]
    assert all(found.proof is not None for found in evidence.values()), "the block made here is provable"
    return spent, max(after - before for before, after in pairwise(turns))


def _steps(made: MadeBlock) -> Iterator[tuple[str, float]]:
    """Seconds of processor time of each step alone, in order."""
    json_s, (block, receipts) = _timed(lambda: (BLOCK.decode(made.block_json), RECEIPTS.decode(made.receipts_json)))
    assert block is not None and receipts is not None, "made here"
    yield "json", json_s
    rlp_s, encoded = _timed(lambda: [encode_receipt(receipt, PROFILE) for receipt in receipts])
    yield "rlp", rlp_s
    trie_s, trie = _timed(lambda: build(encoded))
    hashed = [*trie.nodes.values(), encode_header(block, made.hash, PROFILE)]
    keccak_s, _ = _timed(lambda: [keccak(each) for each in hashed])
    yield "keccak", keccak_s
    yield "trie", max(0.0, trie_s - keccak_s)
    proven = prove_block(block, receipts, block_hash=made.hash, profile=PROFILE)
    yield "logs", _timed(lambda: proven.transfers(CHAIN, made.query))[0]
    # the block remembers the logs it has read: here as in the stage, each receipt is read once
    yield "evidence", _timed(lambda: [to_json(proven.prove(payment)) for payment in made.payments])[0]


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of processor time, and what came of it."""
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


@asynccontextmanager
async def _prover(made: MadeBlock) -> AsyncIterator[Prover]:
    """The stage's own, over one provider that answers this block at once."""
    provider = RpcProvider("http://canned.invalid", session=_Canned(made), attempts=1)
    reader = WindowedReader(EvmReader(provider, chain_id=CHAIN), monotonic=time.monotonic)
    pool = Pool([reader], chain_id=CHAIN, monotonic=time.monotonic)
    chain = ChainSetup(
        name="ethereum", chain_id=CHAIN, tokens=(), finality=Depth(blocks=1), start_block="latest", proof=PROFILE
    )
    try:
        yield Prover(chain=chain, pool=pool)
    finally:
        await pool.close()


class _Canned:
    """An HTTP session whose answers are there already: a `chains.post.HttpSession`."""

    def __init__(self, made: MadeBlock) -> None:
        self._results = {
            "eth_chainId": b'"%s"' % hex(CHAIN).encode(),
            "eth_getBlockByHash": made.block_json,
            "eth_getBlockReceipts": made.receipts_json,
        }

    def post(
        self,
        url: str,
        *,
        data: bytes,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        allow_redirects: bool,
    ) -> AbstractAsyncContextManager[HttpResponse, None]:
        asked = msgspec.json.decode(data)
        if not isinstance(asked, list):
            return _Response(self._reply(asked))
        chunks = [chunk for call in asked for chunk in (b",", *self._reply(call))]
        return _Response([b"[", *chunks[1:], b"]"])

    def _reply(self, call: Mapping[str, Any]) -> list[bytes]:
        return [b'{"jsonrpc":"2.0","id":%d,"result":' % call["id"], self._results[call["method"]], b"}"]

    async def close(self) -> None:
        return None


class _Response(AbstractAsyncContextManager[HttpResponse, None]):
    """All of it is there; it comes in pieces, so that none is put together here."""

    status = 200

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks
        self.headers: Mapping[str, str] = {}
        self.content_length: int | None = sum(map(len, chunks))

    async def __aenter__(self) -> HttpResponse:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def content(self) -> HttpContent:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
