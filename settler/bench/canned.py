"""A chain of canned answers, as a process of its own: what a node would say of a busy token, at the speed of the wire.

    python -m settler.bench.canned '{"events": 100000, "blocks": 1500, "payments_ppm": 50000, "invoices": 10000}'
    > {"rpc": "http://127.0.0.1:…"}          it answers, until its stdin ends

The chain is the same at every run: `blocks` linked headers above an empty genesis, `events` `Transfer` logs of one
token spread evenly over them, 630 bytes each in a node's JSON and each of a transaction of its own; then a few empty
blocks, so that all of the others are final. Of a million logs `payments_ppm` pay the invoices, one after the other.
A block's answer is joined from pieces that were rendered once, so that a chain of any length is served from a few
kilobytes, and the server is not what is measured.

What does not belong here: proofs. The headers' hashes are made up, and commit to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, cast

import msgspec

from chains.model import Address
from contracts_abi import TRANSFER_TOPIC
from settler.bench.companions import answer, argument, dismissed

CHAIN_ID = 31337
TOKEN = Address(bytes.fromhex("7a9f0c3e5d1b48a6c2e4f08192a3b4c5d6e7f809"))
SYMBOL, DECIMALS = "TUSD", 6
UNIT = 10**DECIMALS
"""What every payment pays, in base units."""
EMPTY_TAIL = 64
"""Blocks without a log above the others; `finalized` is half of them below the head."""
GENESIS_S, BLOCK_S = 1_767_225_600, 2
"""2026-01-01, and what a block takes."""
MAX_REQUEST_BYTES = 64 * 2**20

_PREFIX = "0x" + "00" * 12
_TOPIC0 = "0x" + TRANSFER_TOPIC.hex()
_NO_BLOCK = b"null"
_STRANGERS = 1_009
"""Other holders of the token, none of whom is ever an invoice's."""


@dataclass(frozen=True, kw_only=True)
class CannedChain:
    """What is served. The same figures are the same chain."""

    events: int
    blocks: int
    payments_ppm: int
    """Of a million logs, so many pay an invoice."""
    invoices: int
    """The payments go to these in turn; from their end on to the first again."""

    @property
    def payments(self) -> int:
        return self.payments_before(self.events)

    @property
    def head(self) -> int:
        return self.blocks + EMPTY_TAIL

    @property
    def final(self) -> int:
        """What `finalized` says: above every block with a log."""
        return self.blocks + EMPTY_TAIL // 2

    def payments_before(self, event: int) -> int:
        return event * self.payments_ppm // 1_000_000 if self.invoices else 0

    def events_of(self, number: int) -> range:
        """The logs of a block, counted from the chain's first."""
        if not 1 <= number <= self.blocks:
            return range(0)
        return range(self.events * (number - 1) // self.blocks, self.events * number // self.blocks)

    def recipient(self, payment: int) -> Address:
        return deposit_address(payment % self.invoices)

    def transfers_of(self, number: int) -> list[tuple[Address, int]]:
        """Recipient and base units of a block's logs, in order."""
        events = self.events_of(number)
        found = [_to_stranger(place) for place in range(len(events))]
        for payment in range(self.payments_before(events.start), self.payments_before(events.stop)):
            found[self._event_of(payment) - events.start] = (self.recipient(payment), UNIT)
        return found

    # -- answers -------------------------------------------------------------------------------------------------------

    def header(self, number: int) -> bytes:
        """`eth_getBlockByNumber` without transactions' bodies."""
        if not 0 <= number <= self.head:
            return _NO_BLOCK
        prefix = _tx_prefix(number)
        transactions = '","'.join([f"{prefix}{place:016x}" for place in range(len(self.events_of(number)))])
        listed = f'"{transactions}"' if transactions else ""
        return (
            f'{{"number":"{number:#x}","hash":"{_block_hash(number)}","parentHash":"{_block_hash(number - 1)}",'
            f'"timestamp":"{GENESIS_S + BLOCK_S * number:#x}","nonce":"0x0000000000000000","difficulty":"0x0",'
            f'"gasLimit":"0x1c9c380","gasUsed":"0x1406f40","miner":"0x{"00" * 20}","extraData":"0x",'
            f'"baseFeePerGas":"0x7","size":"0x4f20","stateRoot":"0x{"5a" * 32}","receiptsRoot":"0x{"4b" * 32}",'
            f'"transactionsRoot":"0x{"3c" * 32}","logsBloom":"0x{"f7" * 256}","transactions":[{listed}],"uncles":[]}}'
        ).encode()

    def logs(self, first: int, last: int, recipients: Collection[str] | None) -> list[bytes]:
        """`eth_getLogs` of the token's transfers: all of them, or those to `recipients` (topics, in lower case). In
        pieces: a fresh buffer of megabytes costs more than what is written into it.
        """
        blocks = range(max(first, 1), min(last, self.blocks) + 1)
        if recipients is None:
            rendered = (block for number in blocks if (block := self._block_logs(number)))
        else:
            rendered = (log for number in blocks for log in self._logs_to(number, recipients))
        pieces = [b"["]
        for each in rendered:
            pieces += (each, b",")
        pieces[max(1, len(pieces) - 1) :] = [b"]"]
        return pieces

    def _block_logs(self, number: int) -> bytes:
        events = self.events_of(number)
        if not events:
            return b""
        pieces = self._pieces[: len(events)]
        for payment in range(self.payments_before(events.start), self.payments_before(events.stop)):
            place = self._event_of(payment) - events.start
            pieces[place] = _tail(place - 1) + self._paying(payment)
        return _where(number).join([*pieces, _tail(len(events) - 1)[:-1]])

    def _logs_to(self, number: int, recipients: Collection[str]) -> Iterator[bytes]:
        events = self.events_of(number)
        for payment in range(self.payments_before(events.start), self.payments_before(events.stop)):
            if _PREFIX + self.recipient(payment).hex() in recipients:
                place = self._event_of(payment) - events.start
                yield self._paying(payment) + _where(number) + _tail(place)[:-1]

    def _event_of(self, payment: int) -> int:
        """The inverse of `payments_before`: the last event before which there are so many."""
        return -(-(payment + 1) * 1_000_000 // self.payments_ppm) - 1

    def _paying(self, payment: int) -> bytes:
        return _head(_address("payer", payment % _STRANGERS), self.recipient(payment), UNIT)

    @cached_property
    def _pieces(self) -> list[bytes]:
        """Of a block's logs, what stands between their places in the chain: the end of one and the next's beginning."""
        longest = -(-self.events // self.blocks) + 1
        return [
            (_tail(place - 1) if place else b"") + _head(_address("payer", place % _STRANGERS), *_to_stranger(place))
            for place in range(longest)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where such a chain can be read."""

    url: str
    token: Address
    first: int
    """The first block with logs; the others follow."""
    final: int


def deposit_address(invoice: int) -> Address:
    """Of an invoice; nobody has its key."""
    return _address("invoice", invoice)


def _to_stranger(place: int) -> tuple[Address, int]:
    """Of the transfers that are no payments, the one at this place of a block."""
    return _address("stranger", place), 10**7 + place


def _address(whose: str, number: int) -> Address:
    return Address(sha256(f"canned {whose} {number}".encode()).digest()[:20])


def _block_hash(number: int) -> str:
    return "0x" + (sha256(f"canned block {number}".encode()).hexdigest() if number >= 0 else "00" * 32)


def _tx_prefix(number: int) -> str:
    """All of a transaction's hash but the last 16 digits, which are its place in the block."""
    return f"0x{number:016x}{_block_hash(number)[2:34]}"


def _head(sender: Address, recipient: Address, amount: int) -> bytes:
    return (
        f'{{"address":"0x{TOKEN.hex()}","topics":["{_TOPIC0}","{_PREFIX}{sender.hex()}","{_PREFIX}{recipient.hex()}"],'
        f'"data":"0x{amount:064x}",'
    ).encode()


def _where(number: int) -> bytes:
    """The part of a log that says where it stands, up to the digits that are its own."""
    return (
        f'"blockHash":"{_block_hash(number)}","blockNumber":"{number:#x}",'
        f'"blockTimestamp":"{GENESIS_S + BLOCK_S * number:#x}","transactionHash":"{_tx_prefix(number)}'
    ).encode()


def _tail(place: int) -> bytes:
    """The end of a log, with the comma after it; nothing before the first."""
    if place < 0:
        return b""
    return (f'{place:016x}","transactionIndex":"{place:#x}","logIndex":"{place:#x}","removed":false}},').encode()


# -- JSON-RPC ----------------------------------------------------------------------------------------------------------


def answered(chain: CannedChain, request: bytes) -> list[bytes]:
    """The answer to a call or a batch of them, in pieces."""
    asked = msgspec.json.decode(request)
    if not isinstance(asked, list):
        return _reply(chain, asked)
    pieces = [b"["]
    for number, call in enumerate(asked):
        pieces += ([b","] if number else []) + _reply(chain, call)
    return [*pieces, b"]"]


def _reply(chain: CannedChain, call: Mapping[str, Any]) -> list[bytes]:
    begin = b'{"jsonrpc":"2.0","id":' + msgspec.json.encode(call["id"])
    answer = _METHODS.get(call["method"])
    if answer is None:
        return [begin + b',"error":{"code":-32601,"message":"the method is not canned"}}']
    result = answer(chain, call["params"])
    return [begin + b',"result":', *([result] if isinstance(result, bytes) else result), b"}"]


def _block_by_number(chain: CannedChain, params: Sequence[Any]) -> bytes:
    tags = {"latest": chain.head, "pending": chain.head, "safe": chain.final, "finalized": chain.final, "earliest": 0}
    asked = params[0]
    return chain.header(tags[asked] if asked in tags else int(asked, 16))


def _get_logs(chain: CannedChain, params: Sequence[Any]) -> list[bytes]:
    asked = params[0]
    address = asked.get("address", [])
    tokens = [address] if isinstance(address, str) else address
    topics = [*asked.get("topics", []), None, None, None][:3]
    kinds = [topics[0]] if isinstance(topics[0], str) else topics[0]
    if (tokens and "0x" + TOKEN.hex() not in map(str.lower, tokens)) or (kinds and _TOPIC0 not in kinds):
        return [b"[]"]
    to = topics[2]
    recipients = None if to is None else {to} if isinstance(to, str) else set(map(str.lower, to))
    return chain.logs(int(asked["fromBlock"], 16), int(asked["toBlock"], 16), recipients)


def _eth_call(_: CannedChain, params: Sequence[Any]) -> bytes:
    """`decimals()`, and for everything else `symbol()`."""
    data = params[0].get("data") or params[0]["input"]
    if data.startswith("0x313ce567"):
        return f'"0x{DECIMALS:064x}"'.encode()
    return f'"0x{32:064x}{len(SYMBOL):064x}{SYMBOL.encode().hex():0<64}"'.encode()


_METHODS: Mapping[str, Callable[[CannedChain, Sequence[Any]], bytes | list[bytes]]] = {
    "eth_chainId": lambda _chain, _params: f'"{CHAIN_ID:#x}"'.encode(),
    "eth_blockNumber": lambda chain, _params: f'"{chain.head:#x}"'.encode(),
    "eth_getCode": lambda _chain, _params: b'"0x60"',
    "eth_getBlockByNumber": _block_by_number,
    "eth_getLogs": _get_logs,
    "eth_call": _eth_call,
}


# -- HTTP --------------------------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """As much of HTTP/1.1 as a client of JSON-RPC speaks: POST with a length, answered in order, kept alive."""

    def __init__(self, chain: CannedChain) -> None:
        self._chain = chain
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (body := self._next_request()) is not None:
            answer = answered(self._chain, body)
            length = sum(map(len, answer))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            self._transport.writelines([head.encode(), *answer])

    def _next_request(self) -> bytes | None:
        """The next whole body, `None` while it is not there."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        fields = dict(line.lower().split(b":", 1) for line in bytes(self._received[:end]).split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        if length > MAX_REQUEST_BYTES:
            self._transport.abort()
            return None
        if len(self._received) < end + 4 + length:
            return None
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        return body


async def _serve(chain: CannedChain) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(chain), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer({"rpc": f"http://127.0.0.1:{port}"})
    await dismissed()
    server.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """As the daemon's; importing that would take longer than serving."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(CannedChain(**argument())))
