"""Holds what is recorded against the chain, as one provider shows it, and the books against themselves. Sets nothing.

    records    every transfer to a watched address in the range, as logs show it     is final, at that place
    balances   held at the end = held before + what came in - what went out          by logs and `balanceOf`
    books      every entry sums to zero; Σ final = Σ settled + Σ surplus + Σ suspense, and settlements say the same

Balances say whether the logs told all: a node that leaves a payment out of its logs still counts it. They are asked at
the two ends of the range. Most nodes keep the state of the last 128 blocks or so; where it is gone nothing can be said,
and that is a note, no break: a balance at the range's end alone still shows money that logs claim and nobody has.

What was paid to an address before it was watched is counted and no break. What does not belong here: repairing
(`rescan`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from chains.errors import BlockNotFound, ChainError, NodeInconsistent
from chains.model import Address, BlockHash, BlockNumber, BlockSpan, LogQuery, SpanRead, Token, Transfer
from chains.reader import ChainReader
from settler.domain.ledger import Account
from settler.domain.reconciling import Break, BreakKind, conflicts, unrecorded
from settler.stages.rereading import compared_with, persistently, pieces
from settler.stages.setup import ChainSetup
from settler.storage import books
from settler.storage.books import Books, Promised
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.watched import watched_now

BREAKS_MAX = 1_000
"""Listed for one chain; the rest is counted. Where so much is wrong, it is the node or the database."""
BALANCES_MAX = 20_000
"""Addresses whose balances are asked, for each token at both ends: half an hour at 50 calls a second and two tokens."""


class Provider(ChainReader, Protocol):
    """The provider that is asked: a reader that takes spans of any width."""

    @property
    def name(self) -> str: ...

    @property
    def width(self) -> int: ...


class Holdings(Protocol):
    """`chains.holdings.Holdings`, of the same provider."""

    async def sent(
        self, span: BlockSpan, tokens: frozenset[Address], senders: Iterable[Address]
    ) -> tuple[Transfer, ...]: ...

    async def balances(
        self, token: Address, holders: Sequence[Address], *, at: BlockNumber
    ) -> tuple[int | None, ...]: ...


@dataclass(slots=True, kw_only=True)
class Reconciled:
    """What came of it so far."""

    blocks: int = 0
    found: int = 0
    """Transfers to watched addresses that the provider shows."""
    matching: int = 0
    """Of them: final where they stand."""
    before_watched: int = 0
    """Of them: not recorded, and from before their address was watched."""
    balances: int = 0
    """Balances that were compared."""
    breaks: list[Break] = field(default_factory=list)
    unlisted: int = 0
    """Breaks beyond `BREAKS_MAX`."""
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""

    def add(self, found: Iterable[Break]) -> None:
        for each in found:
            if len(self.breaks) < BREAKS_MAX:
                self.breaks.append(each)
            else:
                self.unlisted += 1


class Reconcile:
    """One range of one chain; `found` is what is known so far, also when `run` raises."""

    def __init__(
        self,
        *,
        chain: ChainSetup,
        provider: Provider,
        holdings: Holdings,
        db: Database,
        rescan: str,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        """`rescan`: the command that reads one block again, with `{block}` where it goes."""
        self._chain = chain
        self._provider = provider
        self._holdings = holdings
        self._db = db
        self._rescan = rescan
        self._sleep = sleep
        self._flows: defaultdict[tuple[Address, Address], int] = defaultdict(int)
        """By token and address: what came in less what went out, by the provider's logs."""
        self.found = Reconciled()

    async def run(
        self, span: BlockSpan, state: ChainState, on_piece: Callable[[Reconciled], None] = lambda _: None
    ) -> Reconciled:
        """Checks `span`, which is settled by `state`. Raises `ChainError`, `StorageUnavailable`."""
        async with self._db.read() as conn:
            watched = (await watched_now(conn)).addresses
            promised = await books.promised(conn, self._chain.chain_id)
            self._check_books(await books.books(conn, self._chain.chain_id))
        if not await persistently(lambda: self._stands(state), sleep=self._sleep):
            return self.found
        before: BlockHash | None = None
        for piece in pieces(span, lambda: self._provider.width):
            before = await self._one(piece, state, watched, promised, before)
            on_piece(self.found)
        await self._check_balances(span, sorted(watched))
        return self.found

    async def _stands(self, state: ChainState) -> bool:
        """Whether the provider has the block we settled; a break if it has another."""
        assert state.settled_number is not None, "a range is checked against the settled height"
        (shown,) = await self._provider.headers([state.settled_number])
        if shown is None:
            raise BlockNotFound(f"{self._provider.name} has no block {state.settled_number}, which is settled")
        if shown.hash == state.settled_hash:
            return True
        self.found.add(
            [
                Break(
                    kind=BreakKind.FORK,
                    chain=self._chain.name,
                    detail=f"{self._provider.name} has another block at the settled height: 0x{shown.hash.hex()}",
                    remedy="ask another node with --rpc; if most agree with it, see settler chain list",
                    block_number=state.settled_number,
                )
            ]
        )
        return False

    # -- records -------------------------------------------------------------------------------------------------------

    async def _one(
        self,
        piece: BlockSpan,
        state: ChainState,
        watched: Set[Address],
        promised: Promised,
        before: BlockHash | None,
    ) -> BlockHash:
        query = LogQuery(tokens=self._chain.token_addresses, recipients=watched)
        anchor = BlockNumber(piece.first - 1) if piece.first > 0 else None

        async def read() -> tuple[SpanRead, tuple[Transfer, ...]]:
            found = await self._provider.read_span(piece, query, anchor=anchor)
            if before is not None and (found.anchor is None or found.anchor.hash != before):
                raise NodeInconsistent(f"block {piece.first - 1} was replaced while the range was read")
            return found, await self._holdings.sent(piece, query.tokens, watched)

        shown, sent = await persistently(read, sleep=self._sleep)
        for t in shown.transfers:
            self._flows[t.identity.token, t.identity.recipient] += t.identity.amount
        for t in sent:
            self._flows[t.identity.token, t.identity.sender] -= t.identity.amount
        async with self._db.read() as conn:
            compared = await compared_with(conn, state, shown, query)
        due = [t for t in compared.unrecorded if promised.covers(t, shown.block_of(t).time)]
        found = self.found
        found.blocks += len(piece)
        found.found += len(shown.transfers)
        found.matching += len(compared.matching)
        found.before_watched += len(compared.unrecorded) - len(due)
        name = self._chain.name
        remedy = "ask another node with --rpc, and look at the transaction; a rescan takes nothing back"
        found.add(unrecorded(name, due, remedy=self._rescan))
        found.add(conflicts(name, compared, remedy=remedy))
        return shown.end.hash

    # -- balances ------------------------------------------------------------------------------------------------------

    async def _check_balances(self, span: BlockSpan, watched: Sequence[Address]) -> None:
        if len(watched) > BALANCES_MAX:
            self.found.notes.append(f"balances of {BALANCES_MAX} addresses of {len(watched)} were asked")
            watched = watched[:BALANCES_MAX]
        for token in self._chain.tokens if watched else ():
            await self._check_token(token, span, watched)

    async def _check_token(self, token: Token, span: BlockSpan, watched: Sequence[Address]) -> None:
        at_end = await self._held(token, watched, span.last)
        if at_end is None:
            return
        # before the first block there was nothing
        at_start = (
            await self._held(token, watched, BlockNumber(span.first - 1)) if span.first > 0 else (0,) * len(watched)
        )
        for address, end, start in zip(watched, at_end, at_start or (None,) * len(watched), strict=True):
            if end is None or (at_start is not None and start is None):
                continue
            self.found.balances += 1
            flow = self._flows[token.address, address]
            is_right = end >= flow if start is None else end - start == flow
            if not is_right:
                more_or_less = "" if start is not None else "at least "
                self.found.add(
                    [
                        Break(
                            kind=BreakKind.BALANCE,
                            chain=self._chain.name,
                            detail=f"holds {end} base units after block {span.last}; by the logs of {span} it would be "
                            f"{more_or_less}{(start or 0) + flow}",
                            remedy="its logs leave transfers out, or the token moves without them: compare with "
                            "another node (--rpc), then rescan the range",
                            token=token.address,
                            address=address,
                            amount_base=abs(end - (start or 0) - flow),
                        )
                    ]
                )

    async def _held(self, token: Token, watched: Sequence[Address], at: BlockNumber) -> tuple[int | None, ...] | None:
        """`None`, and a note, where the node cannot say."""
        try:
            held = await self._holdings.balances(token.address, watched, at=at)
        except ChainError as error:
            self.found.notes.append(
                f"{token.symbol} balances at block {at} are not known to {self._provider.name}: {error}"
            )
            return None
        unanswered = held.count(None)
        if unanswered:
            self.found.notes.append(f"{token.symbol} answers no balanceOf for {unanswered} addresses at block {at}")
        return held

    # -- books ---------------------------------------------------------------------------------------------------------

    def _check_books(self, kept: Books) -> None:
        remedy = "the ledger is append-only: compare with a backup, somebody changed the database"
        symbols = {token.address: token.symbol for token in self._chain.tokens}

        def broken(token: Address, detail: str) -> Break:
            name = symbols.get(token, f"0x{token.hex()}")
            return Break(
                kind=BreakKind.LEDGER, chain=self._chain.name, detail=f"{name}: {detail}", remedy=remedy, token=token
            )

        self.found.add(
            broken(token, f"entry {entry} does not sum to zero, but to {total} base units")
            for (entry, token), total in kept.lopsided.items()
        )
        for token in sorted(kept.tokens):
            booked = {account: kept.accounts[token, account] for account in Account}
            stated = {
                Account.RECEIVED: (kept.final[token], "final transfers"),
                Account.SETTLED: (-kept.settled[token], "settlements in force"),
                Account.SURPLUS: (
                    kept.refunded_surplus[token] - kept.surplus[token],
                    "settlements in force and refunds",
                ),
                Account.REFUNDED: (-kept.refunded[token], "refunds"),
            }
            self.found.add(
                broken(token, f"{account.value} is {booked[account]} in the ledger, {total} by the {whose}")
                for account, (total, whose) in stated.items()
                if booked[account] != total
            )
            if sum(booked.values()):
                self.found.add([broken(token, f"the accounts sum to {sum(booked.values())}, not to zero")])
