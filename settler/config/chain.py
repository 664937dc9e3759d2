"""One `[chains.NAME]` table with the registry's facts: which chain it is, its tokens, when its blocks are
final.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from chains import registry
from chains.address import to_checksum
from chains.model import Address, BlockNumber, ChainId, LabelSources, Token
from chains.proof import Status, Unprovable, profile_of
from chains.registry import ChainFacts
from settler.config.errors import Path, Problem, key_of
from settler.config.tables import ChainTable, PolicyTable, TokenTable
from settler.config.values import CHAIN_NAME, FINALITY_FORMS
from settler.domain.drafting import ChainOffer
from settler.domain.finality import ByTag, Depth, FinalityPolicy, Tier

POLL_INTERVAL_S = 2.0
"""Where the block time is unknown."""
_POLL_BOUNDS_S = (0.5, 4.0)
"""Below: a provider's budget spent on looking. Above: a payment shows late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFeedSettings:
    address: Address
    max_age_s: int
    """Older than this an answer is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    name: str
    chain_id: ChainId
    rpc: tuple[SecretStr, ...] = field(repr=False)
    """The providers' URLs, in order of preference. They may hold keys: shown as `providers` only."""
    quorum: int
    """Providers that must agree before anything settles."""
    proof: Literal["none", "receipts"]
    rpc_max_rps: float | None
    rpc_max_in_flight: int
    rpc_hedge_after_s: float | None
    start_block: BlockNumber | Literal["latest"]
    finality: FinalityPolicy
    poll_interval_s: float
    """Seconds between two looks at the head."""
    tokens: tuple[Token, ...]
    tiers: tuple[Tier, ...]
    price_feeds: Mapping[Address, PriceFeedSettings]
    """By token."""
    depeg_floor: int
    """In units of 10**-`FINEST_SCALE` of a token's currency: below it settlements in tokens with a feed are held."""
    sanctions_oracle: Address | None
    label_sources: LabelSources
    """Contracts whose references are believed, beside the tokens."""
    explorer: str | None
    """A web site that shows transactions at `/tx/0x…`, without the slash at its end."""
    facts: ChainFacts | None
    """What the registry knows of this chain id; `None` for a chain it does not know."""

    @property
    def providers(self) -> tuple[str, ...]:
        """What logs, metrics and tables call the providers: their hosts, `host#2` for the second of one host."""
        seen: Counter[str] = Counter()
        names = []
        for url in self.rpc:
            host = urlsplit(url.get_secret_value()).hostname or ""
            seen[host] += 1
            names.append(host if seen[host] == 1 else f"{host}#{seen[host]}")
        return tuple(names)

    def offer(self) -> ChainOffer:
        """The chain as an invoice may name it."""
        return ChainOffer(
            name=self.name,
            chain_id=self.chain_id,
            tokens={t.symbol: t for t in self.tokens},
            explorer=self.explorer,
        )


def resolve(
    name: str, table: ChainTable, policy: PolicyTable, refused: Iterable[Path]
) -> tuple[ChainSettings | None, list[Problem]]:
    """The settings of a chain, or what is wrong with them. `refused`: paths of the file that have their
    problem already.
    """
    return _Resolver(name, table, policy, frozenset(refused)).resolve()


class _Resolver:
    """Collects problems of one chain table; what depends on a refused value is not judged."""

    def __init__(self, name: str, table: ChainTable, policy: PolicyTable, refused: frozenset[Path]) -> None:
        self._name = name
        self._table = table
        self._policy = policy
        self._at: Path = ("chains", name)
        self._refused = {path[2:] for path in refused if path[:2] == self._at}
        self._problems: list[Problem] = []

    def resolve(self) -> tuple[ChainSettings | None, list[Problem]]:
        self._check_name()
        chain_id = None if self._is_refused("chain_id") else self._chain_id()
        facts = None if chain_id is None else registry.chain_by_id(chain_id)
        rpc = () if self._is_refused("rpc") else self._rpc()
        quorum = 1 if not rpc or self._is_refused("quorum") else self._quorum(rpc)
        finality = None
        if chain_id is not None and not self._is_refused("finality"):
            finality = self._finality(facts)
        tokens = self._tokens(chain_id, facts)
        self._check_tiers(finality)
        oracle = None if chain_id is None else self._sanctions_oracle(chain_id)
        proof = "none" if chain_id is None or self._is_refused("proof") else self._proof(chain_id, facts)
        if chain_id is None or not rpc or finality is None or self._problems or self._refused:
            return None, self._problems
        table = self._table
        known = registry.known_contracts(chain_id)
        return ChainSettings(
            name=self._name,
            chain_id=chain_id,
            rpc=rpc,
            quorum=quorum,
            proof=proof,
            rpc_max_rps=table.rpc_max_rps,
            rpc_max_in_flight=table.rpc_max_in_flight,
            rpc_hedge_after_s=table.rpc_hedge_after_s,
            start_block="latest" if table.start_block == "latest" else BlockNumber(table.start_block),
            finality=finality,
            poll_interval_s=_default_poll_interval_s(facts) if table.poll_interval_s is None else table.poll_interval_s,
            tokens=tokens,
            tiers=table.tiers,
            price_feeds={t.address: feed for t in tokens if (feed := self._price_feed(t)) is not None},
            depeg_floor=self._policy.floor,
            sanctions_oracle=oracle,
            label_sources=LabelSources(
                proxies=frozenset(known.request_proxies if table.request_proxies is None else table.request_proxies),
                escrows=frozenset(known.payment_escrows if table.payment_escrows is None else table.payment_escrows),
            ),
            explorer=table.explorer or (None if facts is None else facts.explorer),
            facts=facts,
        ), []

    def _problem(self, below: Path, message: str) -> None:
        self._problems.append(Problem(key_of(self._at + below), message))

    def _is_refused(self, key: str) -> bool:
        return any(path[:1] == (key,) for path in self._refused)

    def _check_name(self) -> None:
        if not CHAIN_NAME.fullmatch(self._name):
            self._problem((), "is no name for a chain; give 1 to 32 of a-z, 0-9 and -, like base")

    def _chain_id(self) -> ChainId | None:
        given, known = self._table.chain_id, registry.known_chain(self._name)
        if known is None and given is None:
            near = get_close_matches(self._name, [c.key for c in registry.all_chains()], n=1)
            hint = f", or did you mean chains.{near[0]}?" if near else ""
            self._problem(("chain_id",), f"is missing, and no known chain is called {self._name!r}; give its id{hint}")
            return None
        if known is not None and given is not None and given != known.chain_id:
            self._problem(
                ("chain_id",),
                f"{given} is not the id of {known.name}, which is {known.chain_id}; "
                "correct it, or give this chain another name",
            )
            return known.chain_id
        return known.chain_id if given is None and known is not None else ChainId(given or 0)

    def _rpc(self) -> tuple[SecretStr, ...]:
        urls = self._table.rpc
        if not urls:
            self._problem(("rpc",), "is missing; give the http(s):// or ws(s):// URL of a provider of the chain")
        seen: dict[str, int] = {}
        for index, url in enumerate(urls):
            before = seen.setdefault(url.get_secret_value(), index)
            if before != index:
                self._problem(("rpc", index), f"is the same URL as rpc[{before}]; one node cannot confirm itself")
        return urls

    def _quorum(self, rpc: tuple[SecretStr, ...]) -> int:
        given = self._table.quorum
        if given is not None and given > len(rpc):
            self._problem(
                ("quorum",),
                f"{given} providers cannot agree where rpc has {len(rpc)}; add providers, or write {len(rpc)}",
            )
        return min(2, len(rpc)) if given is None else given

    def _proof(self, chain_id: ChainId, facts: ChainFacts | None) -> Literal["none", "receipts"]:
        try:
            profile = profile_of(chain_id)
        except Unprovable as unprovable:
            if self._table.proof == "receipts":
                self._problem(("proof",), f'"receipts" is not possible: {unprovable}; write "none"')
            return "none"
        if self._table.proof is not None:
            return self._table.proof
        is_money = facts is not None and not facts.is_testnet
        return "receipts" if is_money and profile.status is Status.VERIFIED else "none"

    def _finality(self, facts: ChainFacts | None) -> FinalityPolicy | None:
        if self._table.finality is not None:
            return self._table.finality
        if facts is not None and facts.finality is not None:
            return ByTag(tag=facts.finality.tag, min_depth=facts.finality.min_depth)
        why = "the chain is not known" if facts is None else f"what {facts.name}'s tags mean is not verified"
        self._problem(("finality",), f"is missing, and {why}; {FINALITY_FORMS}")
        return None

    def _check_tiers(self, finality: FinalityPolicy | None) -> None:
        """Where depths can be compared: a tier that waits as long as the chain, or longer, has no effect."""
        if self._is_refused("tiers") or not isinstance(finality, Depth):
            return
        for index, tier in enumerate(self._table.tiers):
            if isinstance(tier.policy, Depth) and tier.policy.blocks >= finality.blocks:
                self._problem(
                    ("tiers", index),
                    f"finality {tier.policy} is no sooner than the chain's own {finality}; give fewer blocks, or leave "
                    "the tier out",
                )

    def _sanctions_oracle(self, chain_id: ChainId) -> Address | None:
        given = self._table.sanctions_oracle
        if given != "chainalysis":
            return given
        known = registry.known_contracts(chain_id).sanctions_oracle
        if known is None:
            self._problem(
                ("sanctions_oracle",), "no oracle of Chainalysis is known on this chain; give a contract's address"
            )
        return known

    def _price_feed(self, token: Token) -> PriceFeedSettings | None:
        for symbol, table in self._table.token.items():
            # by an alias of the registry too
            is_meant = symbol == token.symbol or registry.token(token.chain_id, symbol) == token
            if is_meant and table.price_feed is not None:
                return PriceFeedSettings(address=table.price_feed, max_age_s=table.price_feed_max_age_s)
        return None

    # -- tokens ------------------------------------------------------------------------------------------

    def _tokens(self, chain_id: ChainId | None, facts: ChainFacts | None) -> tuple[Token, ...]:
        found: list[tuple[Path, Token]] = []
        given = self._table.token
        for symbol, table in given.items():
            token = self._given(chain_id, symbol, table)
            if token is not None:
                found.append((("token", symbol), token))
        for index, symbol in enumerate(self._table.tokens):
            if symbol in given or ("token", symbol) in {path[:2] for path in self._refused}:
                continue
            if chain_id is None:
                continue
            known = registry.token(chain_id, symbol)
            if known is None:
                self._problem(("tokens", index), self._unknown_token(chain_id, symbol, facts))
            else:
                found.append((("tokens", index), known))
        self._check_distinct(found)
        has_any = found or given or self._table.tokens
        if not (has_any or self._is_refused("token") or self._is_refused("tokens")):
            self._problem(("tokens",), f"is missing; name at least one token{_known_symbols(chain_id)}")
        return tuple(token for _, token in found)

    def _given(self, chain_id: ChainId | None, symbol: str, table: TokenTable) -> Token | None:
        below: Path = ("token", symbol)
        if table.address is None and table.decimals is None and chain_id is not None:
            known = registry.token(chain_id, symbol)
            if known is not None and not any(path[:2] == below for path in self._refused):
                return known
        is_whole = True
        for name, value, remedy in (
            ("address", table.address, "give the contract's checksummed address"),
            ("decimals", table.decimals, "give what the contract's decimals() answers"),
        ):
            if value is None:
                is_whole = False
                if (*below, name) not in self._refused:
                    self._problem((*below, name), f"is missing; {remedy}")
        if chain_id is None or not is_whole or table.address is None or table.decimals is None:
            return None
        return Token(
            chain_id=chain_id,
            symbol=symbol,
            address=table.address,
            decimals=table.decimals,
            currency=table.currency,
        )

    def _unknown_token(self, chain_id: ChainId, symbol: str, facts: ChainFacts | None) -> str:
        name = facts.name if facts is not None else f"chain {chain_id}"
        return (
            f"{symbol!r} is not known on {name}{_known_symbols(chain_id)}; "
            f"or give its address and decimals in [chains.{self._name}.token.{symbol}]"
        )

    def _check_distinct(self, found: list[tuple[Path, Token]]) -> None:
        """One symbol an address and one address a symbol: both name a token elsewhere."""
        seen: dict[str, Path] = {}
        for path, token in found:
            for name in (to_checksum(token.address), token.symbol):
                before = seen.setdefault(name, path)
                if before != path:
                    other = key_of(self._at + before)
                    self._problem(path, f"{name} is named by {other} already; remove one of the two")
                    break


def _known_symbols(chain_id: ChainId | None) -> str:
    symbols = sorted({k.token.symbol for k in registry.all_tokens() if k.token.chain_id == chain_id})
    return f"; known there: {', '.join(symbols)}" if symbols else ""


def _default_poll_interval_s(facts: ChainFacts | None) -> float:
    """Half a block: a payment is seen half a block after its own, on average."""
    if facts is None:
        return POLL_INTERVAL_S
    low, high = _POLL_BOUNDS_S
    return min(high, max(low, facts.block_time_s / 2))
