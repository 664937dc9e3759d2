"""Faults about logs: left out, twice, in another order, with other contents, invented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chains.faults.model import BLOCK, LOGS, RECEIPTS, Exchange, Fault, Harm, Json, Lie, changed_results
from chains.model import Address, TxHash
from contracts_abi import TRANSFER_TOPIC

_LOGS = frozenset({LOGS})
_TOPIC = "0x" + TRANSFER_TOPIC.hex()
RICH = 10**15
"""Base units no invoice of a test asks for: an invented payment of so much pays any of them."""
STRANGER = "0x" + "57" * 20


def word(address: bytes) -> str:
    return "0x" + address.rjust(32, b"\0").hex()


# -- which logs --------------------------------------------------------------------------------------------------------


def empty(_params: Any, _result: Any, _exchange: Exchange) -> Any:
    return []


def partial(_params: Any, result: Any, exchange: Exchange) -> Any:
    """One is left out."""
    if not result:
        return result
    left_out = exchange.random.randrange(len(result))
    return result[:left_out] + result[left_out + 1 :]


def twice(_params: Any, result: Any, exchange: Exchange) -> Any:
    return [*result, exchange.random.choice(result)] if result else result


def reordered(_params: Any, result: Any, _exchange: Exchange) -> Any:
    return result[::-1]


async def invented(params: Any, result: Any, exchange: Exchange) -> Any:
    """A payment that never was, to somebody the reader waits for, in the last block asked for."""
    asked = params[0]
    topics = asked["topics"]
    if "toBlock" not in asked or len(topics) < 3 or not topics[2]:
        return result
    block = await exchange.ask(BLOCK, asked["toBlock"], False)
    if block is None:
        return result
    tokens = asked["address"] if isinstance(asked["address"], list) else [asked["address"]]
    drawn = exchange.random
    log = payment_log(
        block=block, token=drawn.choice(tokens), to=drawn.choice(topics[2]), amount=RICH, tx=drawn.randbytes(32),
        index=900 + drawn.randrange(100),
    )  # fmt: skip
    return [*result, log]


def payment_log(*, block: Json, token: str, to: str, amount: int, tx: bytes, index: int) -> Json:
    return {
        "address": token, "topics": [_TOPIC, word(bytes.fromhex(STRANGER[2:])), to], "data": word(amount.to_bytes(32)),
        "blockNumber": block["number"], "blockHash": block["hash"], "transactionHash": "0x" + tx.hex(),
        "transactionIndex": "0x0", "logIndex": hex(index), "removed": False,
    }  # fmt: skip


# -- with other contents -----------------------------------------------------------------------------------------------


def in_each_log(change: Callable[[Json, Any], Mapping[str, Any]]) -> Lie:
    """`change(log, params)` are the fields that are told instead; a field that is `None` is left out."""

    def lie(params: Any, result: Any, _exchange: Exchange) -> Any:
        return [{k: v for k, v in {**log, **change(log, params)}.items() if v is not None} for log in result]

    return lie


def _doubled(log: Json, _params: Any) -> Json:
    return {"data": word((2 * int(log["data"], 16)).to_bytes(32))}


def _other_token(log: Json, params: Any) -> Json:
    """The next of those asked for, if there are several."""
    asked = params[0]["address"]
    tokens = sorted(asked) if isinstance(asked, list) else [asked]
    own = log["address"].lower()
    at = tokens.index(own) if own in tokens else 0
    return {"address": tokens[(at + 1) % len(tokens)] if len(tokens) > 1 else STRANGER}


def _other_recipient(log: Json, params: Any) -> Json:
    """The next of those asked for, if they are named."""
    topics = params[0]["topics"]
    recipients = topics[2] if len(topics) > 2 and topics[2] else []
    own = log["topics"][2]
    at = recipients.index(own) if own in recipients else 0
    other = recipients[(at + 1) % len(recipients)] if len(recipients) > 1 else word(bytes.fromhex(STRANGER[2:]))
    return {"topics": [*log["topics"][:2], other]}


def _other_block(_log: Json, _params: Any) -> Json:
    return {"blockHash": "0x" + "99" * 32}


def _other_transaction(log: Json, _params: Any) -> Json:
    return {"transactionHash": "0x" + log["transactionHash"][:1:-1]}


def _removed(_log: Json, _params: Any) -> Json:
    return {"removed": True}


# -- planned, so that several can tell the same ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Invention:
    """A payment that never was; proxies that are given the same one tell the same."""

    token: Address
    to: Address
    amount: int
    block: int
    tx: TxHash
    index: int = 77

    async def log(self, exchange: Exchange) -> Json:
        block = await exchange.ask(BLOCK, hex(self.block), False)
        return payment_log(
            block=block, token="0x" + self.token.hex(), to=word(self.to), amount=self.amount, tx=self.tx,
            index=self.index,
        )  # fmt: skip


def conspiracy(invention: Invention, *, in_receipts: bool = False) -> Fault:
    """Tells the invention wherever it would be seen; `in_receipts`: also as a log of the block's first receipt."""

    async def lie(params: Any, result: Any, exchange: Exchange) -> Any:
        if isinstance(params[0], dict) and "fromBlock" in params[0]:
            asked = params[0]
            is_asked = int(asked["fromBlock"], 16) <= invention.block <= int(asked["toBlock"], 16)
            topics = asked["topics"]
            is_wanted = len(topics) < 3 or topics[2] is None or word(invention.to) in topics[2]
            return [*result, await invention.log(exchange)] if is_asked and is_wanted else result
        if in_receipts and result and int(result[0]["blockNumber"], 16) == invention.block:
            first = result[0]
            log = {**await invention.log(exchange), "transactionHash": first["transactionHash"]}
            return [{**first, "logs": [*first["logs"], log]}, *result[1:]]
        return result

    return Fault(
        name="conspiracy", harm=Harm.LIE, change=changed_results(lie), methods=frozenset({LOGS, RECEIPTS})
    )  # fmt: skip


def _log_fault(name: str, harm: Harm, lie: Lie) -> Fault:
    return Fault(name=name, harm=harm, change=changed_results(lie), methods=_LOGS)


LOG_FAULTS = (
    _log_fault("empty logs", Harm.LIE, empty),
    _log_fault("partial logs", Harm.LIE, partial),
    _log_fault("duplicate logs", Harm.PLAIN, twice),
    _log_fault("reordered logs", Harm.NONE, reordered),
    _log_fault("removed logs", Harm.PLAIN, in_each_log(_removed)),
    _log_fault("tampered block hash", Harm.PLAIN, in_each_log(_other_block)),
    _log_fault("tampered amount", Harm.LIE, in_each_log(_doubled)),
    _log_fault("tampered token", Harm.LIE, in_each_log(_other_token)),
    _log_fault("tampered recipient", Harm.LIE, in_each_log(_other_recipient)),
    _log_fault("tampered transaction", Harm.LIE, in_each_log(_other_transaction)),
    _log_fault("invented log", Harm.LIE, invented),
)
