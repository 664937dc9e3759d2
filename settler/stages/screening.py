"""Asks, before payments settle, what speaks against them: the tokens, their prices, their payers (RULES.md section 4).

    token_paused   the token was paused, upgraded or replaced, or froze the receiving address
    depeg          its price feed is below the floor, stale, broken or silent
    sanctions      the payer is on the chain's sanctions list, or that does not answer

What is found stands beside the payment's evidence and holds the settlement that would rest on it; the payment itself is
recorded and final. A contract that reverts or answers nonsense is said against the payment; providers that do not
answer keep the tick failing, so that nothing settles unasked. As many providers as the quorum are asked, and any one of
them that speaks against a payment is enough: a liar can hold money back, and can let none pass alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from chains.errors import QuorumLost
from chains.model import Address, Announcement, ContractCall, SpanRead, Transfer, TransferIdentity
from chains.oracles import DECIMALS, LATEST_ROUND_DATA, is_sanctioned_call, read_flag, read_price
from chains.pool import Pool
from settler.clock import Clock
from settler.domain.risks import Risk, against_payer, against_price, against_token
from settler.domain.settlement import HoldReason
from settler.stages.announced import Announced
from settler.stages.setup import ChainSetup
from settler.storage import chains, risks
from settler.storage.engine import Database

Flagged = Mapping[TransferIdentity, Mapping[HoldReason, str]]


class Screener:
    """Of one chain."""

    def __init__(self, *, chain: ChainSetup, pool: Pool, db: Database, clock: Clock) -> None:
        self._chain = chain
        self._pool = pool
        self._db = db
        self._announced = Announced(chain=chain, pool=pool, db=db, clock=clock)

    async def flags(self, read: SpanRead, *, is_final: bool) -> Flagged:
        """What speaks against each transfer of the reading that moves money; those without anything are left out.

        `is_final`: the chain made the span's blocks final, so that what tokens announced in them is kept.

        Raises `ChainError` when it cannot be told now.
        """
        money = [t for t in read.transfers if t.identity.amount > 0]
        if not money:
            return {}
        found: dict[TransferIdentity, dict[HoldReason, str]] = defaultdict(dict)
        tokens = await self._against_tokens(money, read, is_final=is_final)
        prices = await self._against_prices({t.identity.token for t in money}, read)
        payers = await self._against_payers({t.identity.sender for t in money})
        for t in money:
            i = t.identity
            for reason, why in (
                (HoldReason.TOKEN_PAUSED, tokens.get((i.token, i.recipient))),
                (HoldReason.DEPEG, prices.get(i.token)),
                (HoldReason.SANCTIONS, payers.get(i.sender)),
            ):
                if why is not None:
                    found[i][reason] = why
        return found

    async def _against_tokens(
        self, money: Sequence[Transfer], read: SpanRead, *, is_final: bool
    ) -> dict[tuple[Address, Address], str]:
        """By token and receiving address."""
        fresh: frozenset[Announcement] = frozenset()
        if is_final:
            while not await self._announced.read_to(read.end.number):
                pass
        else:
            fresh = await self._announced.beyond(read.end.number)
        async with self._db.read() as conn:
            known = {token: list(kept) for token, kept in (await risks.of_chain(conn, self._chain.chain_id)).items()}
        for each in fresh:
            known.setdefault(each.token, []).append(Risk(announcement=each, is_accepted=False))
        pairs = {(t.identity.token, t.identity.recipient) for t in money if t.identity.token in known}
        said = {(token, to): against_token(known[token], to) for token, to in pairs}
        return {pair: why for pair, why in said.items() if why is not None}

    async def _against_prices(self, tokens: set[Address], read: SpanRead) -> dict[Address, str]:
        feeds = {token: self._chain.price_feeds[token] for token in sorted(tokens) if token in self._chain.price_feeds}
        if not feeds:
            return {}
        calls = [
            ContractCall(to=f.address, data=data) for f in feeds.values() for data in (LATEST_ROUND_DATA, DECIMALS)
        ]
        now = await self._chain_time(read)
        found: dict[Address, str] = {}
        for answer in await self._asked(calls):
            for number, (token, feed) in enumerate(feeds.items()):
                price = read_price(answer[2 * number], answer[2 * number + 1])
                why = against_price(price, floor=self._chain.depeg_floor, max_age=feed.max_age, now=now)
                if why is not None:
                    found.setdefault(token, why)
        return found

    async def _against_payers(self, payers: set[Address]) -> dict[Address, str]:
        oracle = self._chain.sanctions_oracle
        if oracle is None:
            return {}
        ordered = sorted(payers)
        calls = [ContractCall(to=oracle, data=is_sanctioned_call(payer)) for payer in ordered]
        found: dict[Address, str] = {}
        for answer in await self._asked(calls):
            for payer, said in zip(ordered, answer, strict=True):
                why = against_payer(read_flag(said))
                if why is not None:
                    found.setdefault(payer, why)
        return found

    async def _asked(self, calls: Sequence[ContractCall]) -> list[tuple[bytes | None, ...]]:
        quorum = self._chain.quorum
        answers = await self._pool.ask(lambda reader: reader.contract_calls(calls), count=quorum, is_needed=True)
        if len(answers) < quorum:
            raise QuorumLost(f"only {len(answers)} of {quorum} providers say what contracts answer")
        return [answer.value for answer in answers]

    async def _chain_time(self, read: SpanRead) -> datetime:
        """The newest block's: a feed is as old as the chain says, whatever our clock says."""
        async with self._db.read() as conn:
            state = await chains.get(conn, self._chain.chain_id)
        heads = [read.end.time] if state is None or state.head_time is None else [read.end.time, state.head_time]
        return max(heads)
