"""What a chain's provider says, held against the configuration: one finding a question."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chains.address import to_checksum
from chains.errors import BlockNotFound, ChainError, MethodUnsupported, NodeInconsistent, RangeTooWide, Rejected
from chains.model import Address, BlockNumber, BlockRef, BlockSpan, ContractCall, LogQuery, Tag, Token
from chains.oracles import DECIMALS, LATEST_ROUND_DATA, is_sanctioned_call, read_flag, read_price
from chains.proof import Unprovable, profile_of, prove_block
from chains.reader import ChainReader, ProviderReader
from settler.config import ChainSettings
from settler.domain.finality import ByTag, TagFault, tag_fault
from settler.domain.money import format_amount
from settler.domain.risks import against_price
from settler.runtime.setups import tag_stuck_after_s
from settler.stages.opening import token_problem

ATTEMPTS = 2
"""Of each call: a table that is there in seconds is better than one more try."""
LOG_SPANS = (10_000, 5_000, 2_000, 1_000, 500, 100, 10, 1)
"""Blocks asked for in one eth_getLogs, until one is accepted: the limits providers have."""
MAX_HEAD_AGE_S = 120.0
"""Or `_BLOCKS_LATE` blocks, whichever is more."""
_BLOCKS_LATE = 20
_CLOCK_SKEW_S = 60.0
_NOBODY = Address(bytes(19) + b"\x2a")
"""Asked for as a recipient: nobody is paid there, so only the width of the range is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    result: Literal["ok", "note", "wrong"]
    """`note`: worth knowing, no reason to exit with 1."""
    detail: str


async def findings(chain: ChainSettings, reader: ProviderReader, *, now: datetime) -> list[Finding]:
    """Everything about one provider of a chain. Never raises `ChainError`: what cannot be asked is a finding."""
    try:
        chain_id = await reader.chain_id()
        head = (await reader.headers([Tag.LATEST]))[0]
    except ChainError as error:
        return [_wrong("rpc", f"{error}; see that the provider runs and the URL is right")]
    if chain_id != chain.chain_id:
        return [
            _wrong("chain id", f"the provider serves {chain_id}, configured is {chain.chain_id}; mend rpc or chain_id")
        ]
    found = [_ok("chain id", f"{chain_id}")]
    if head is None:
        return [*found, _wrong("head", "the provider has no latest block; use another")]
    found.append(_head(chain, head, now))
    if chain.start_block != "latest" and chain.start_block > head.number:
        found.append(_wrong("start block", f"{chain.start_block} is above the head {head.number}; lower it"))
    questions: list[tuple[str, Awaitable[Finding]]] = [
        *((f"tag {tag}", _tag(chain, reader, tag, head)) for tag in (Tag.SAFE, Tag.FINALIZED)),
        ("log range", _log_range(chain, reader, head)),
        ("receipts", _receipts(chain, reader, head)),
        *((f"token {token.symbol}", _token(reader, token)) for token in chain.tokens),
        *(
            (f"price feed {token.symbol}", _price_feed(chain, reader, token, head))
            for token in chain.tokens
            if token.address in chain.price_feeds
        ),
        *([] if chain.sanctions_oracle is None else [("sanctions", _sanctions(reader, chain.sanctions_oracle))]),
    ]
    return found + [await _asked(check, answer) for check, answer in questions]


async def _asked(check: str, answer: Awaitable[Finding]) -> Finding:
    try:
        return await answer
    except ChainError as error:
        return _wrong(check, str(error))


def _head(chain: ChainSettings, head: BlockRef, now: datetime) -> Finding:
    age_s = (now - head.time).total_seconds()
    block_time_s = 0.0 if chain.facts is None else chain.facts.block_time_s
    shown = f"block {head.number}, {age_s:.0f} s old"
    if age_s < -_CLOCK_SKEW_S:
        return _wrong("head", f"{shown}: it is from the future; set this machine's clock")
    if block_time_s > 0 and age_s > max(MAX_HEAD_AGE_S, _BLOCKS_LATE * block_time_s):
        return _wrong("head", f"{shown}: the provider lags, or the chain stands still")
    return _ok("head", shown)


async def _tag(chain: ChainSettings, reader: ChainReader, tag: Tag, head: BlockRef) -> Finding:
    policy = chain.finality
    is_used = isinstance(policy, ByTag) and policy.tag is tag
    try:
        tagged, head = await _tag_and_head(reader, tag, head)
    except MethodUnsupported as error:
        tagged, why = None, str(error)
    else:
        why = "the node does not answer it"
    if tagged is None:
        if is_used:
            return _wrong(f"tag {tag}", f"{why}; choose another finality or provider")
        return _note(f"tag {tag}", "not supported; not used either")
    shown = f"block {tagged.number}, {head.number - tagged.number} behind the head"
    fault = tag_fault(head=head, tagged=tagged, is_instant=False, stuck_after_s=tag_stuck_after_s(chain))
    if fault is None:
        return _ok(f"tag {tag}", shown)
    # Equal to the head is right where blocks are final at once, and of a young chain.
    if not is_used or fault is TagFault.EQUALS_HEAD:
        return _note(f"tag {tag}", f"{shown}: {fault.value}")
    return _wrong(f"tag {tag}", f"{shown}: {fault.value}; choose another finality or provider")


async def _tag_and_head(reader: ChainReader, tag: Tag, head: BlockRef) -> tuple[BlockRef | None, BlockRef]:
    """The tagged block beside the head of the same moment."""
    tagged, latest = await reader.headers([tag, Tag.LATEST])
    return tagged, latest or head


async def _log_range(chain: ChainSettings, reader: ChainReader, head: BlockRef) -> Finding:
    """The widest of `LOG_SPANS` (or of what the provider suggests) that it answers, up to the head."""
    query = LogQuery(tokens=frozenset(t.address for t in chain.tokens), recipients=frozenset({_NOBODY}))
    width = LOG_SPANS[0]
    while width > 0:
        first = BlockNumber(max(0, head.number - width + 1))
        asked = BlockSpan(first=first, last=head.number)
        try:
            await reader.read_span(asked, query)
        except RangeTooWide as error:
            width = _narrower(width, error.max_span)
        except BlockNotFound:
            return _wrong("log range", "the provider forgot its own head: several nodes answer, and they disagree")
        else:
            return _ok("log range", f"{len(asked)} blocks in one eth_getLogs" + ("" if first else " (all there are)"))
    return _wrong("log range", "the provider answers eth_getLogs for no range at all; use another")


def _narrower(width: int, suggested: int | None) -> int:
    """What the provider suggests, if that is narrower; else the next of `LOG_SPANS`; 0 after the last."""
    if suggested is not None and 0 < suggested < width:
        return suggested
    return next((span for span in LOG_SPANS if span < width), 0)


async def _receipts(chain: ChainSettings, reader: ChainReader, head: BlockRef) -> Finding:
    """Whether its newest block can be proven: `proof = "receipts"` needs that."""
    is_used = chain.proof == "receipts"
    judged = _wrong if is_used else _note
    try:
        profile = profile_of(chain.chain_id)
        block, receipts = await reader.proof_material(head.hash)
        prove_block(block, receipts, block_hash=head.hash, profile=profile)
    except BlockNotFound:
        return _note("receipts", f"block {head.number} was replaced meanwhile; check again")
    except (MethodUnsupported, Rejected) as error:
        return judged("receipts", f'it does not give them ({error.label}); proof = "receipts" needs another provider')
    except (Unprovable, NodeInconsistent) as error:
        return judged("receipts", f"block {head.number} cannot be proven: {error}")
    used = "" if is_used else '; proof is "none"'
    return _ok("receipts", f"block {head.number} proven from {len(receipts)} receipts{used}")


async def _token(reader: ChainReader, token: Token) -> Finding:
    """As the daemon judges it at every start."""
    check = f"token {token.symbol}"
    facts = await reader.token_facts(token.address)
    problem = token_problem(token, facts)
    if problem is not None:
        return _wrong(check, problem)
    shown = f"{facts.symbol or '(no symbol)'}, {facts.decimals} decimals, {to_checksum(token.address)}"
    return _ok(check, shown) if token.is_symbol_known else _note(check, f"{shown}: no source says what its symbol is")


async def _price_feed(chain: ChainSettings, reader: ChainReader, token: Token, head: BlockRef) -> Finding:
    """As it is judged before a payment settles."""
    check, feed = f"price feed {token.symbol}", chain.price_feeds[token.address]
    calls = [ContractCall(to=feed.address, data=data) for data in (LATEST_ROUND_DATA, DECIMALS)]
    price = read_price(*await reader.contract_calls(calls))
    max_age = timedelta(seconds=feed.max_age_s)
    against = against_price(price, floor=chain.depeg_floor, max_age=max_age, now=head.time)
    if price is None or against is not None:
        return _wrong(
            check, f"{against}: every payment in {token.symbol} would be held; see {to_checksum(feed.address)}"
        )
    return _ok(check, f"{format_amount(price.answer, price.decimals)}, of {price.updated_at.isoformat()}")


async def _sanctions(reader: ChainReader, oracle: Address) -> Finding:
    (answer,) = await reader.contract_calls([ContractCall(to=oracle, data=is_sanctioned_call(_NOBODY))])
    if read_flag(answer) is None:
        return _wrong(
            "sanctions", f"{to_checksum(oracle)} does not answer isSanctioned(address): every payment would be held"
        )
    return _ok("sanctions", to_checksum(oracle))


def _ok(check: str, detail: str) -> Finding:
    return Finding(check=check, result="ok", detail=detail)


def _note(check: str, detail: str) -> Finding:
    return Finding(check=check, result="note", detail=detail)


def _wrong(check: str, detail: str) -> Finding:
    return Finding(check=check, result="wrong", detail=detail)
