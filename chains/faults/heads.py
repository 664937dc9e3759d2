"""Faults about which blocks there are: a node that lags, jumps, stands on a fork, or is wrong about what is final."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

from chains.faults.model import (
    BLOCK,
    BLOCK_BY_HASH,
    HEAD,
    LOGS,
    RECEIPT,
    RECEIPTS,
    Change,
    Exchange,
    Fault,
    Harm,
    Json,
    changed_results,
)
from chains.faults.refusals import words

STALE_BLOCKS = 5
AHEAD_BLOCKS = 100_000
FINALITY_TAGS = ("finalized", "safe")
_BLOCKS = frozenset({BLOCK})
_HASHES = ("hash", "parentHash", "blockHash")
_WITH_HASHES = frozenset({BLOCK, BLOCK_BY_HASH, LOGS, RECEIPTS, RECEIPT})


def stale(at_most: int, *, at_least: int = 1) -> Fault:
    """A node some blocks back, drawn for each request: what stands above is unknown to it, its logs are empty."""

    async def change(exchange: Exchange) -> bool:
        back = exchange.random.randint(at_least, at_most)
        top = max(0, int(await exchange.ask(HEAD), 16) - back)
        was_changed = False
        for call, reply in exchange.touched():
            if (honest := reply.get("result")) is not None:
                reply["result"] = told = await _as_of(top, back, call, honest, exchange)
                was_changed = was_changed or told != honest
        return was_changed

    name = "stale head" if at_least == at_most else "backward head"
    return Fault(name=name, harm=Harm.PLAIN, change=change, is_seen_in_batches=True)


async def _as_of(top: int, back: int, call: Json, honest: Any, exchange: Exchange) -> Any:
    """What the node would have answered when `top` was its head."""
    match call["method"]:
        case "eth_blockNumber":
            return hex(top)
        case "eth_getBlockByHash":
            return honest if int(honest["number"], 16) <= top else None
        case "eth_getBlockByNumber":
            return await _block_as_of(top, back, call["params"][0], honest, exchange)
        case "eth_getLogs":
            return [log for log in honest if int(log["blockNumber"], 16) <= top]
        case "eth_getBlockReceipts":
            return None if honest and int(honest[0]["blockNumber"], 16) > top else honest
        case "eth_getTransactionReceipt" | "eth_getTransactionByHash":
            return None if int(honest["blockNumber"] or "0x0", 16) > top else honest
        case _:
            return honest


async def _block_as_of(top: int, back: int, asked: str, honest: Json, exchange: Exchange) -> Json | None:
    if asked == "latest":
        return cast("Json", await exchange.ask(BLOCK, hex(top), False))
    number = int(honest["number"], 16)
    if asked in FINALITY_TAGS:
        return cast("Json", await exchange.ask(BLOCK, hex(max(0, number - back)), False))
    return honest if number <= top else None


async def head_ahead(params: Any, result: Any, _exchange: Exchange) -> Any:
    """A head that nobody else has, and whose blocks this node has not either. Where finality is a depth, all that it
    has is final by it.
    """
    if params[0] != "latest":
        return result
    number = int(result["number"], 16) + AHEAD_BLOCKS
    return {**result, "number": hex(number), "hash": "0x" + "ad" * 32}


def _other(hash_: str) -> str:
    return "0x" + hashlib.sha256(bytes.fromhex(hash_[2:])).hexdigest()


async def own_fork(exchange: Exchange) -> bool:
    """All blocks are others, each standing on the one before: a node on a fork of its own, from genesis on."""
    was_changed = False
    for _, reply in exchange.touched():
        honest = reply.get("result")
        told = [_forked(item) for item in honest] if isinstance(honest, list) else _forked(honest)
        if told != honest:
            reply["result"] = told
            was_changed = True
    return was_changed


def _forked(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    others: Json = {field: _other(item[field]) for field in _HASHES if isinstance(item.get(field), str)}
    if isinstance(logs := item.get("logs"), list):
        others["logs"] = [_forked(log) for log in logs]
    return {**item, **others}


# -- what is final -----------------------------------------------------------------------------------------------------


def _tagged(tell: Callable[[Any, Exchange], Awaitable[Any]]) -> Change:
    """`tell(result, exchange)` in place of the finalized block, and of the safe one."""

    async def lie(params: Any, result: Any, exchange: Exchange) -> Any:
        return await tell(result, exchange) if params[0] in FINALITY_TAGS else result

    return changed_results(lie)


async def _none(_result: Any, _exchange: Exchange) -> Any:
    return None


async def _back(result: Any, exchange: Exchange) -> Any:
    number = int(result["number"], 16) - exchange.random.randint(1, 10)
    return await exchange.ask(BLOCK, hex(max(0, number)), False)


async def _above(_result: Any, exchange: Exchange) -> Any:
    head = await exchange.ask(BLOCK, "latest", False)
    return {**head, "number": hex(int(head["number"], 16) + 5)}


async def _latest(_result: Any, exchange: Exchange) -> Any:
    return await exchange.ask(BLOCK, "latest", False)


async def _parent(_result: Any, exchange: Exchange) -> Any:
    """One below the head: what no reader can tell from a chain that is quick to finality."""
    head = await exchange.ask(BLOCK, "latest", False)
    return await exchange.ask(BLOCK, hex(max(0, int(head["number"], 16) - 1)), False)


async def finalized_refused(exchange: Exchange) -> bool:
    said = exchange.random.choice(words("method_unsupported", methods=("eth_getBlockByNumber(finalized)",)))
    was_refused = False
    for call, reply in exchange.touched():
        if call["params"][0] in FINALITY_TAGS:
            exchange.refuse(reply, code=said["code"], message=said["message"], status=said["http_status"])
            was_refused = True
    return was_refused


def _about_tag(name: str, harm: Harm, change: Change, *, is_seen_in_batches: bool = False) -> Fault:
    return Fault(
        name=name, harm=harm, change=change, methods=_BLOCKS, is_about_tag=True, is_seen_in_batches=is_seen_in_batches
    )


HEADS = (
    stale(STALE_BLOCKS, at_least=STALE_BLOCKS),
    stale(8, at_least=0),
    Fault(name="head ahead", harm=Harm.LIE, change=changed_results(head_ahead), methods=_BLOCKS),
    Fault(name="own fork", harm=Harm.LIE, change=own_fork, methods=_WITH_HASHES),
    _about_tag("finalized null", Harm.PLAIN, _tagged(_none)),
    _about_tag("finalized refused", Harm.PLAIN, finalized_refused),
    _about_tag("finalized backward", Harm.NONE, _tagged(_back)),
    _about_tag("finalized above head", Harm.PLAIN, _tagged(_above), is_seen_in_batches=True),
    _about_tag("finalized at head", Harm.PLAIN, _tagged(_latest), is_seen_in_batches=True),
    _about_tag("finalized ahead", Harm.LIE, _tagged(_parent)),
)
