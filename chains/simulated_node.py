"""`SimulatedNode`: an honest node over a `SimulatedChain`, which answers JSON-RPC as go-ethereum does, in dicts.

    node = SimulatedNode(chain)
    node.reply({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
        → {"jsonrpc": "2.0", "id": 1, "result": "0x4"}

It keeps the whole history and has no limits. What a provider does to its answers is not here: each one is new, down to
its lists, for a fault to alter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from chains.model import Address, ContractCall, Tag
from chains.oracles import DECIMALS
from chains.simulated_blocks import Content
from chains.simulated_chain import SimulatedChain
from chains.simulated_json import WrittenLog, block_json, receipt_json, transaction_json, written

SYMBOL = bytes.fromhex("95d89b41")
BALANCE_OF = bytes.fromhex("70a08231")

_METHOD_NOT_FOUND = -32601
_INVALID_PARAMS = -32602
_SERVER_ERROR = -32000
_REVERTED = 3
_CODE = "0x6080604052"
_WORD = 32

_QUANTITY = re.compile(r"0x(0|[1-9a-fA-F][0-9a-fA-F]{0,15})")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DATA = re.compile(r"0x([0-9a-fA-F]{2})*")

Params: TypeAlias = Sequence[object]
_Alternatives: TypeAlias = frozenset[str] | None
"""What an address or a topic may be, in lower case; `None`: anything."""


class _Refused(Exception):
    """Answered as an error. Caught in `reply`."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class SimulatedNode:
    """`chain` and `behind` may be changed at any time."""

    def __init__(self, chain: SimulatedChain, *, behind: int = 0) -> None:
        """`behind`: blocks this node trails the chain's head."""
        self.chain = chain
        self.behind = behind
        self._methods: dict[str, Callable[[Params], object]] = {
            "eth_chainId": lambda _: hex(self.chain.id),
            "net_version": lambda _: str(self.chain.id),
            "web3_clientVersion": lambda _: "Geth/v1.16.7-simulated",
            "eth_syncing": lambda _: False,
            "eth_blockNumber": lambda _: hex(self.height),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getLogs": self._logs,
            "eth_getTransactionReceipt": self._transaction_receipt,
            "eth_getTransactionByHash": self._transaction_by_hash,
            "eth_call": self._call,
            "eth_getCode": self._code,
        }

    @property
    def height(self) -> int:
        """Of the newest block it has."""
        return max(0, self.chain.height - self.behind)

    def reply(self, call: Mapping[str, object]) -> dict[str, object]:
        """The reply to one call. Never raises for what the caller sent."""
        params = call.get("params", [])
        try:
            answer = self._methods.get(str(call.get("method")))
            if answer is None:
                text = f"the method {call.get('method')} does not exist/is not available"
                raise _Refused(_METHOD_NOT_FOUND, text)
            if not isinstance(params, list | tuple):
                raise _Refused(_INVALID_PARAMS, "non-array args")
            return {"jsonrpc": "2.0", "id": call.get("id"), "result": answer(params)}
        except _Refused as refused:
            error: dict[str, object] = {"code": refused.code, "message": refused.message}
            if refused.data is not None:
                error["data"] = refused.data
            return {"jsonrpc": "2.0", "id": call.get("id"), "error": error}

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _block_by_number(self, params: Params) -> dict[str, object] | None:
        number = self._number(_param(params, 0))
        return self._block(number, params)

    def _block_by_hash(self, params: Params) -> dict[str, object] | None:
        number = self.chain.number_of(_matching(_HASH, _param(params, 0)))
        return None if number is None else self._block(number, params)

    def _block(self, number: int, params: Params) -> dict[str, object] | None:
        if number > self.height:
            return None
        return block_json(self.chain, number, is_full=len(params) > 1 and params[1] is True)

    def _block_receipts(self, params: Params) -> list[dict[str, object]] | None:
        wanted = _param(params, 0)
        is_hash = isinstance(wanted, str) and _HASH.fullmatch(wanted) is not None
        number = self.chain.number_of(_matching(_HASH, wanted)) if is_hash else self._number(wanted)
        if number is None or number > self.height:
            return None
        content = self.chain.content_at(number)
        if content is None:
            return []
        return [receipt_json(self.chain, content, index) for index in range(len(content.receipts))]

    # -- transactions --------------------------------------------------------------------------------------------------

    def _transaction_receipt(self, params: Params) -> dict[str, object] | None:
        found = self._mined(params)
        return None if found is None else receipt_json(self.chain, *found)

    def _transaction_by_hash(self, params: Params) -> dict[str, object] | None:
        found = self._mined(params)
        return None if found is None else transaction_json(self.chain, *found)

    def _mined(self, params: Params) -> tuple[Content, int] | None:
        tx_hash = _matching(_HASH, _param(params, 0))
        number = self.chain.find(tx_hash)
        content = None if number is None or number > self.height else self.chain.content_at(number)
        if content is None:
            return None
        return content, next(at for at, receipt in enumerate(content.receipts) if receipt.tx.hash == tx_hash)

    # -- logs ----------------------------------------------------------------------------------------------------------

    def _logs(self, params: Params) -> list[dict[str, object]]:
        wanted = _param(params, 0)
        if not isinstance(wanted, Mapping):
            raise _Refused(_INVALID_PARAMS, "invalid argument 0: json: cannot unmarshal into filters.input")
        first, last = self._log_range(wanted)
        found: list[dict[str, object]] = []
        addresses: _Alternatives = None
        topics: Sequence[_Alternatives] | None = None
        for content in self.chain.contents(first, last):
            if topics is None:  # read once, and only where there is anything to filter
                addresses, topics = _alternatives(wanted.get("address")), _topics(wanted.get("topics"))
            found += [
                log.copied()
                for logs in written(self.chain, content).logs
                for log in logs
                if (addresses is None or log.address in addresses) and _fits(log, topics)
            ]
        return found

    def _log_range(self, wanted: Mapping[object, object]) -> tuple[int, int]:
        """First and last, no further than there are blocks: as real nodes, without an error."""
        if (of_block := wanted.get("blockHash")) is not None:
            number = self.chain.number_of(_matching(_HASH, of_block))
            if number is None or number > self.height:
                raise _Refused(_SERVER_ERROR, "unknown block")
            return number, number
        first = self._number(wanted.get("fromBlock") or Tag.LATEST)
        last = self._number(wanted.get("toBlock") or Tag.LATEST)
        if first > last:
            raise _Refused(_INVALID_PARAMS, "invalid block range params")
        return first, min(last, self.height)

    # -- contracts -----------------------------------------------------------------------------------------------------

    def _call(self, params: Params) -> str:
        asked = _param(params, 0)
        if not isinstance(asked, Mapping):
            raise _Refused(_INVALID_PARAMS, "invalid argument 0: json: cannot unmarshal into ethapi.TransactionArgs")
        at = self._number(params[1] if len(params) > 1 else Tag.LATEST)
        if at > self.height:
            raise _Refused(_SERVER_ERROR, "header not found")
        to = Address(_matching(_ADDRESS, asked.get("to")))
        data = _matching(_DATA, asked.get("data") or asked.get("input") or "0x")
        if not self.chain.has_code(to):
            return "0x"
        answer = self.chain.answer(ContractCall(to=to, data=data))
        if answer is None:
            answer = self._token_answer(to, data, at)
        if answer is None:
            raise _Refused(_REVERTED, "execution reverted", "0x")
        return "0x" + answer.hex()

    def _token_answer(self, token: Address, data: bytes, at: int) -> bytes | None:
        facts = self.chain.token_facts.get(token)
        if facts is None:
            return None
        if data == DECIMALS and facts.decimals is not None:
            return facts.decimals.to_bytes(_WORD, "big")
        if data == SYMBOL and facts.symbol is not None:
            text = facts.symbol.encode()
            padded = text.ljust(-len(text) % _WORD + len(text), b"\0")
            return _WORD.to_bytes(_WORD, "big") + len(text).to_bytes(_WORD, "big") + padded
        if data.startswith(BALANCE_OF) and len(data) == len(BALANCE_OF) + _WORD:
            held = self.chain.balance_of(token, Address(data[-20:]), at=at)
            return max(0, held).to_bytes(_WORD, "big")  # who sent more than came in had it before the chain began
        return None

    def _code(self, params: Params) -> str:
        return _CODE if self.chain.has_code(Address(_matching(_ADDRESS, _param(params, 0)))) else "0x"

    # -- heights -------------------------------------------------------------------------------------------------------

    def _number(self, wanted: object) -> int:
        """The height a parameter names, maybe above the head."""
        match wanted:
            case "latest" | "pending":
                return self.height
            case "earliest":
                return 0
            case "safe" | "finalized":
                height = self.chain.height_of(Tag(wanted), behind=self.behind)
                if height is None:
                    raise _Refused(_SERVER_ERROR, f"{wanted} block not found")
                return height
            case str() if _QUANTITY.fullmatch(wanted):
                return int(wanted, 16)
            case _:
                raise _Refused(_INVALID_PARAMS, "invalid argument 0: hex string without 0x prefix")


# -- parameters --------------------------------------------------------------------------------------------------------


def _param(params: Params, at: int) -> object:
    if len(params) <= at:
        raise _Refused(_INVALID_PARAMS, f"missing value for required argument {at}")
    return params[at]


def _matching(form: re.Pattern[str], value: object) -> bytes:
    if not isinstance(value, str) or form.fullmatch(value) is None:
        raise _Refused(_INVALID_PARAMS, "invalid argument 0: hex string of the wrong form")
    return bytes.fromhex(value[2:])


def _alternatives(value: object) -> _Alternatives:
    """An empty list is anything, as with go-ethereum."""
    if value is None or value == []:
        return None
    try:
        return frozenset(map(str.lower, value if isinstance(value, list | tuple) else (value,)))
    except TypeError:
        raise _Refused(_INVALID_PARAMS, "invalid argument 0: non-string address or topic") from None


def _topics(value: object) -> list[_Alternatives]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise _Refused(_INVALID_PARAMS, "invalid argument 0: topics are no list")
    return [_alternatives(each) for each in value]


def _fits(log: WrittenLog, topics: Sequence[_Alternatives]) -> bool:
    """Each topic asked for has to be there, also one that may be anything."""
    found = log.topics
    if len(topics) > len(found):
        return False
    for at, wanted in enumerate(topics):  # noqa: SIM110 - a generator here costs as much as all the rest
        if wanted is not None and found[at] not in wanted:
            return False
    return True
