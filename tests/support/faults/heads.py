"""Faults about which blocks there are: a node that lags, jumps, stands on a fork, or is wrong about what is final."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.support.faults.model import BLOCK, LOGS, RECEIPTS, Exchange, Fault, Harm, Json, changed_results
from tests.support.faults.refusals import words

STALE_BLOCKS = 5
AHEAD_BLOCKS = 100_000
FINALIZED = "finalized"
_FINALITY = ("finalized", "safe")
_BLOCKS = frozenset({BLOCK})
_WITH_HASHES = frozenset({BLOCK, "eth_getBlockByHash", LOGS, RECEIPTS})


def stale(at_most: int, *, at_least: int = 1) -> Fault:
    """A node some blocks back, drawn for each request: what stands above is unknown to it, its logs are empty."""

    async def change(exchange: Exchange) -> bool:
        back = exchange.random.randint(at_least, at_most)
        head = int(await exchange.ask("eth_blockNumber"), 16)
        before = [dict(reply) for reply in exchange.replies]
        for call, reply in exchange.touched():
            if "result" in reply:
                reply["result"] = await _as_of(max(0, head - back), back, call, reply["result"], exchange)
        return before != exchange.replies

    name = "stale head" if at_least == at_most else "backward head"
    return Fault(name=name, harm=Harm.PLAIN, change=change)


async def _as_of(top: int, back: int, call: Json, honest: Any, exchange: Exchange) -> Any:
    """What the node would have answered when `top` was its head."""
    if honest is None:
        return None
    match call["method"]:
        case "eth_blockNumber":
            return hex(top)
        case "eth_getBlockByHash":
            return honest if int(honest["number"], 16) <= top else None
        case "eth_getBlockByNumber":
            asked = call["params"][0]
            if asked == "latest":
                return await exchange.ask(BLOCK, hex(top), False)
            number = int(honest["number"], 16)
            if asked in _FINALITY:
                return await exchange.ask(BLOCK, hex(max(0, number - back)), False)
            return honest if number <= top else None
        case "eth_getLogs":
            return [log for log in honest if int(log["blockNumber"], 16) <= top]
        case "eth_getBlockReceipts":
            return None if honest and int(honest[0]["blockNumber"], 16) > top else honest
        case _:
            return honest


async def head_ahead(params: Any, result: Any, _exchange: Exchange) -> Any:
    """A head that nobody else has, and whose blocks this node has not either."""
    if result is None or params[0] != "latest":
        return result
    number = int(result["number"], 16) + AHEAD_BLOCKS
    return {**result, "number": hex(number), "hash": "0x" + "ad" * 32}


def _other(hash_: str) -> str:
    return "0x" + hashlib.sha256(bytes.fromhex(hash_[2:])).hexdigest()


async def own_fork(exchange: Exchange) -> bool:
    """All blocks are others, each standing on the one before: a node on a fork of its own, from genesis on."""
    for _, reply in exchange.touched():
        result = reply.get("result")
        for item in result if isinstance(result, list) else [result]:
            for field in ("hash", "parentHash", "blockHash"):
                if isinstance(item, dict) and isinstance(item.get(field), str):
                    item[field] = _other(item[field])
    return True


# -- what is final -----------------------------------------------------------------------------------------------------


def _tagged(name: str, harm: Harm, tell: Any) -> Fault:
    """`tell(result, exchange)` in place of the finalized block."""

    async def lie(params: Any, result: Any, exchange: Exchange) -> Any:
        return await tell(result, exchange) if params[0] == FINALIZED and result is not None else result

    return Fault(name=name, harm=harm, change=changed_results(lie), methods=_BLOCKS, is_about_tag=True)


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
        if call["params"][0] == FINALIZED:
            exchange.refuse(reply, code=said["code"], message=said["message"], status=said["http_status"])
            was_refused = True
    return was_refused


HEADS = (
    stale(STALE_BLOCKS, at_least=STALE_BLOCKS),
    stale(8, at_least=0),
    Fault(name="head ahead", harm=Harm.PLAIN, change=changed_results(head_ahead), methods=_BLOCKS),
    Fault(name="own fork", harm=Harm.LIE, change=own_fork, methods=_WITH_HASHES),
    _tagged("finalized null", Harm.PLAIN, _none),
    Fault(
        name="finalized refused", harm=Harm.PLAIN, change=finalized_refused, methods=_BLOCKS, is_about_tag=True
    ),
    _tagged("finalized backward", Harm.NONE, _back),
    _tagged("finalized above head", Harm.PLAIN, _above),
    _tagged("finalized at head", Harm.PLAIN, _latest),
    _tagged("finalized ahead", Harm.LIE, _parent),
)  # fmt: skip
