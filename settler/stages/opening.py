"""Before a chain is read: is it the chain, are these the tokens, and where do we begin.

Done at every start, so that a node that changed behind its URL, or a mistyped address, is noticed before it matters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chains.address import to_checksum
from chains.errors import BlockNotFound, ChainError, NodeInconsistent, QuorumLost
from chains.model import BlockNumber, BlockRef, Tag, Token, TokenFacts
from chains.pool import Pool
from chains.reader import ChainReader
from settler.clock import Clock
from settler.domain.finality import ByTag, TagFault, final_height, tag_fault
from settler.stages.agreement import agreed_headers
from settler.stages.setup import ChainSetup
from settler.storage import chains
from settler.storage.engine import Database


class Refused(ChainError):
    """The chain is not as configured. It is not read until a person corrects it; other chains go on. Tried again
    now and then,
    since the other side may be the one that is corrected."""

    label = "refused"


async def open_chain(chain: ChainSetup, *, pool: Pool, db: Database, clock: Clock) -> None:
    """Checks the chain against its configuration and sets its cursors the first time.

    Raises `Refused` naming what is wrong and what to do; `ChainError` when the node cannot say now.
    """
    await check_chain_id(chain, pool)
    for token in chain.tokens:
        problem = token_problem(token, await pool.token_facts(token.address))
        if problem is not None:
            raise Refused(f"chains.{chain.name}.token.{token.symbol}: {problem}")
    async with db.read() as conn:
        state = await chains.get(conn, chain.chain_id)
    assert state is not None, f"{chain.name} was not registered"
    head, final = await _final(chain, pool, quorum=1 if state.is_started else chain.quorum)
    if state.is_started:
        return
    begin = await _begin(chain, pool, head, final)
    async with db.write() as conn:
        await chains.advance(
            conn,
            state,
            now=clock.now(),
            guard=("settled_number", "scanned_number"),
            settled_number=begin.number,
            settled_hash=begin.hash,
            settled_time=begin.time,
            scanned_number=begin.number,
            scanned_hash=begin.hash,
            scanned_time=begin.time,
            head_number=head.number,
            head_time=head.time,
            risks_number=begin.number,
        )
        await chains.hold_blocks(conn, chain.chain_id, [begin])


async def check_chain_id(chain: ChainSetup, pool: Pool) -> None:
    """Raises `Refused` if no provider serves the configured chain."""
    found = await pool.chain_id()
    if found != chain.chain_id:
        raise Refused(
            f"chains.{chain.name}.rpc serves chain id {found}, configured is {chain.chain_id}; "
            "give the URL of a node of that chain"
        )


def token_problem(token: Token, facts: TokenFacts) -> str | None:
    """What is wrong with a configured token, and what to do; `None` if the contract is what was configured."""
    address = to_checksum(token.address)
    if not facts.has_code:
        return f"there is no contract at {address}; correct the address"
    if facts.decimals is None:
        return f"{address} answers no decimals(): it is no ERC-20 token; correct the address"
    if facts.decimals != token.decimals:
        return (
            f"decimals() of {address} answers {facts.decimals}, configured are {token.decimals}; correct it, "
            "or every amount is wrong by a power of ten"
        )
    expected = token.onchain_symbol or token.symbol
    if token.is_symbol_known and facts.symbol is not None and facts.symbol != expected:
        return (
            f"the contract at {address} calls itself {facts.symbol!r}, not {expected!r}; correct the address, "
            "or name the token as it names itself"
        )
    return None


async def _final(chain: ChainSetup, pool: Pool, *, quorum: int) -> tuple[BlockRef, BlockNumber | None]:
    """The head and the final height that `quorum` providers have reached. Proves that the finality tag can be used."""
    policy = chain.finality
    tag = policy.tag if isinstance(policy, ByTag) else Tag.LATEST
    found: list[tuple[BlockRef, BlockNumber | None]] = []
    faults: dict[str, TagFault] = {}
    asked: list[str] = []
    while len(found) < quorum:
        try:
            answers = await pool.ask(_newest_and(tag), count=quorum - len(found), but_not=asked, is_needed=True)
        except QuorumLost as error:
            if not faults:
                raise
            told = "; ".join(dict.fromkeys(fault.value for fault in faults.values()))
            raise Refused(
                f"chains.{chain.name}.finality is {policy}, but that tag cannot be settled on: {told} "
                f"({', '.join(faults)}); choose another node, or a number of blocks"
            ) from error
        for answer in answers:
            asked.append(answer.source)
            head, tagged = answer.value
            fault = _fault(chain, head, tagged)
            if fault is not None:
                faults[answer.source] = fault
                continue
            final = final_height(policy, head=head.number, tagged=None if tagged is None else tagged.number)
            found.append((head, final))
    return min(found, key=lambda each: (each[0].number, each[1] or 0))


def _newest_and(tag: Tag) -> Callable[[ChainReader], Awaitable[tuple[BlockRef, BlockRef | None]]]:
    async def question(reader: ChainReader) -> tuple[BlockRef, BlockRef | None]:
        head, tagged = await reader.headers([Tag.LATEST, tag])
        if head is None:
            raise NodeInconsistent("the node answers no latest block")
        return head, tagged

    return question


def _fault(chain: ChainSetup, head: BlockRef, tagged: BlockRef | None) -> TagFault | None:
    if not isinstance(chain.finality, ByTag):
        return None
    return tag_fault(head=head, tagged=tagged, is_instant=chain.is_instant, stuck_after_s=chain.tag_stuck_after_s)


async def _begin(chain: ChainSetup, pool: Pool, head: BlockRef, final: BlockNumber | None) -> BlockRef:
    """The block before the first to be read, as a quorum shows it."""
    # never above the final height: what is settled must not be undone by an ordinary reorg
    number = final if final is not None else BlockNumber(0)
    if chain.start_block != "latest":
        if chain.start_block > head.number + 1:
            raise BlockNotFound(
                f"chains.{chain.name}.start_block {chain.start_block} is not mined yet (head {head.number})"
            )
        number = min(number, BlockNumber(max(0, chain.start_block - 1)))
    (begin,) = await agreed_headers(pool, [number], quorum=chain.quorum)
    if begin is None:
        raise NodeInconsistent(f"the node has no block {number}, but a head of {head.number}")
    return begin
