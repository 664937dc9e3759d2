"""The calls `chains.evm` makes to follow a chain, and what their answers say of single blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chains.announcements import KINDS
from chains.decode import block_ref
from chains.errors import BlockNotFound, ChainError, MethodUnsupported, NodeInconsistent, Rejected
from chains.hex import to_hex, to_quantity
from chains.model import Address, BlockNumber, BlockRef, BlockSpan, ContractCall, LogQuery, Tag
from chains.replies import Call
from chains.wire import HEADER, LOGS, TEXT, WireHeader, WireLog
from contracts_abi import TRANSFER_TOPIC


class Header(NamedTuple):
    """A checked header, with the part of it that is not always believed."""

    ref: BlockRef
    logs_bloom: str | None


def header_call(block: BlockNumber | Tag) -> Call[WireHeader | None]:
    name = block.value if isinstance(block, Tag) else to_quantity(block)
    return Call(method="eth_getBlockByNumber", params=[name, False], result=HEADER)


def logs_call(span: BlockSpan, query: LogQuery, recipients: Sequence[Address] | None) -> Call[list[WireLog]]:
    """`recipients`: those in the filter, `None` to ask without."""
    topics: list[object] = [to_hex(TRANSFER_TOPIC)]
    if recipients is not None:
        topics += [None, ["0x" + "00" * 12 + recipient.hex() for recipient in recipients]]
    return Call(
        method="eth_getLogs",
        params=[
            {
                "fromBlock": to_quantity(span.first),
                "toBlock": to_quantity(span.last),
                "address": [to_hex(token) for token in sorted(query.tokens)],
                "topics": topics,
            }
        ],
        result=LOGS,
    )


def announcements_call(span: BlockSpan, tokens: frozenset[Address]) -> Call[list[WireLog]]:
    return Call(
        method="eth_getLogs",
        params=[
            {
                "fromBlock": to_quantity(span.first),
                "toBlock": to_quantity(span.last),
                "address": [to_hex(token) for token in sorted(tokens)],
                "topics": [[to_hex(topic) for topic in KINDS]],
            }
        ],
        result=LOGS,
    )


def call_call(call: ContractCall) -> Call[str]:
    return Call(method="eth_call", params=[{"to": to_hex(call.to), "data": to_hex(call.data)}, "latest"], result=TEXT)


def asks_logs(query: LogQuery) -> bool:
    """Whether there is anything to ask for: nodes read an empty list as anybody, or as nobody."""
    return bool(query.tokens) and (query.recipients is None or bool(query.recipients))


def header_of(wanted: BlockNumber | Tag, outcome: WireHeader | ChainError | None) -> Header | None:
    """The header wanted, `None` where the node has no such block."""
    if isinstance(outcome, BlockNotFound) or outcome is None:
        return None
    # every node has `latest`: who refuses that refuses us
    if isinstance(outcome, Rejected) and isinstance(wanted, Tag) and wanted is not Tag.LATEST:
        raise MethodUnsupported(f"the tag {wanted.value} is refused: {outcome}") from outcome
    if isinstance(outcome, ChainError):
        raise outcome
    return checked(wanted, outcome)


def checked(wanted: BlockNumber | Tag, raw: WireHeader) -> Header:
    """The header, of the height that was asked."""
    ref = block_ref(raw)
    if not isinstance(wanted, Tag) and ref.number != wanted:
        raise NodeInconsistent(f"asked for block {wanted}, got block {ref.number}")
    return Header(ref=ref, logs_bloom=raw.logs_bloom)
