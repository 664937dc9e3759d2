"""What a seed stands for: chains, people, and which things go wrong in this world, how often. Drawn before it begins.

Swarm testing (Groce et al., "Swarm Testing", 2012): each world has a part of all faults, at its own rates; a world in
which everything fails at once never gets far enough to fail interestingly.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chains.faults import FAULTS, Harm, harm_beside
from chains.model import Tag
from settler.domain.finality import ByTag, Depth, FinalityPolicy
from settler.domain.invoices import Match
from settler.runtime.outside import Cadence
from settler.simulation.driver import CHAIN_FAULTS
from settler.simulation.operators import DECISIONS
from settler.simulation.people import COMMON, HABITS, Customs
from settler.simulation.receiver_faults import FAULTS as RECEIVER_FAULTS
from settler.simulation.store_faults import STORE_FAULTS

PROCESS_FAULTS = ("kill -9", "clock jump", "two workers", "a worker stands still", "lost lease", "restart")
PROVIDER_FAULTS = ("provider down",)
STEPS = 100
"""Of a world, unless said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlan:
    symbol: str
    decimals: int
    address: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlan:
    name: str
    chain_id: int
    block_s: float
    finality: FinalityPolicy
    tag_lag: int
    """Blocks by which the chain's own `finalized` trails its head."""
    providers: int
    quorum: int
    proves: bool
    poll_s: float
    tokens: Sequence[TokenPlan]
    liar: int | None
    """The only provider that may tell lies; `None` where nobody could tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    steps: int
    gap_s: float
    """Mean time between two steps."""
    chains: Sequence[ChainPlan]
    customs: Customs
    cadence: Cadence
    late: str
    tolerance_bps: int
    faults: Mapping[str, float]
    """Those of this world; how likely each strikes when it may."""
    decisions: Sequence[str]
    receivers: int
    trouble_rate: float
    """The part of all steps in which something begins to go wrong."""


SHAPES = (
    # name, chain id, seconds a block, blocks `finalized` trails
    ("ethereum", 1, 12.0, 64),
    ("base", 8453, 2.0, 60),
    ("arbitrum", 42161, 0.25, 240),
    ("polygon", 137, 2.0, 12),
    ("anvil", 31337, 5.0, 20),
    ("slow", 909090, 60.0, 6),
)
TEMPOS = ((2.0, 8.0), (15.0, 60.0), (200.0, 900.0), (1_800.0, 5_400.0), (3_600.0, 21_600.0))
"""Seconds between two looks at the head: the slower, the more of a chain's time goes by for the same work."""
SLOW_S = 7_200.0
MOST_BLOCKS_A_POLL = 1_000
TROUBLE_RATES = (0.1, 0.3, 0.5)
TROUBLE_RATE_OF_SOME = 0.9
PROVING = frozenset({1, 31337})
"""Chains whose simulated headers and receipts are real, so that they can be proven."""


def draw(seed: int, steps: int = STEPS, *, only: Collection[str] = ()) -> Plan:
    """The plan of a seed. Nothing but the arguments decides anything. `only`: these kinds of fault and no others go
    wrong in it, as often as they ever do; all else is as drawn.
    """
    r = random.Random(f"settler {seed}")
    poll_s = r.uniform(*r.choice(TEMPOS))
    gap_s = poll_s * r.uniform(3, 8)
    shapes = [s for s in SHAPES if s[2] <= poll_s and poll_s / s[2] <= MOST_BLOCKS_A_POLL]
    chosen = r.sample(shapes, min(len(shapes), r.choice((1, 1, 2, 2, 3))))
    chains = [_chain(r, shape, poll_s) for shape in chosen]
    habits = tuple({*r.sample(HABITS, r.randint(3, len(HABITS))), *r.sample(COMMON, 2)})
    return Plan(
        seed=seed,
        steps=steps,
        gap_s=gap_s,
        chains=chains,
        customs=Customs(
            habits=sorted(habits),
            matches=r.choice(_MATCHES),
            expires_in_s=(3 * gap_s, r.choice((10, 40, 100)) * gap_s),
            monitoring_s=int(r.choice((5, 30)) * gap_s),
            amounts=r.choice((("100", "19.99", "0.5"), ("1000000", "1"), ("7.123456", "250"))),
            several_options_rate=r.choice((0.0, 0.3, 1.0)),
            shared_addresses=r.randint(1, 3),
        ),
        cadence=Cadence(
            lease_s=max(1.0, poll_s * 0.8),
            expire_s=max(2.0, poll_s),
            dispatch_s=max(0.5, poll_s / 2),
            gauges_s=max(5.0, poll_s * 10),
            place_s=max(5.0, poll_s * 2),
            note_s=max(60.0, poll_s * 20),
            tidy_s=max(600.0, poll_s * 20),
            announced_s=max(600.0, poll_s * 4),
        ),
        late=r.choice(("accept", "hold")),
        tolerance_bps=r.choice((0, 0, 50)),
        faults=_faults(r, only),
        decisions=sorted(r.sample(DECISIONS, r.randint(2, len(DECISIONS)))),
        receivers=r.choice((0, 1, 1, 2, 3)),
        trouble_rate=TROUBLE_RATE_OF_SOME if only else r.choice(TROUBLE_RATES),
    )


def slow_ones(first: int) -> Iterator[int]:
    """The seeds from `first` on whose looks are `SLOW_S` apart or more."""
    return (seed for seed in itertools.count(first) if draw(seed).chains[0].poll_s >= SLOW_S)


_MATCHES: Sequence[Sequence[Match]] = (
    (Match.ADDRESS,),
    (Match.ADDRESS, Match.AMOUNT),
    (Match.AMOUNT, Match.PAYER),
    (Match.ADDRESS, Match.REFERENCE),
    tuple(Match),
)


def _chain(r: random.Random, shape: tuple[str, int, float, int], poll_s: float) -> ChainPlan:
    name, chain_id, block_s, tag_lag = shape
    providers = r.choice((1, 2, 3, 3, 4))
    quorum = {1: 1, 2: r.choice((1, 2)), 3: 2, 4: r.choice((2, 3))}[providers]
    depth = r.choice((2, 5, 12, 30))
    finality: FinalityPolicy = r.choice(
        (
            Depth(blocks=depth),
            Depth(blocks=depth),
            ByTag(tag=Tag.FINALIZED),
            ByTag(tag=Tag.FINALIZED, min_depth=tag_lag + 3),
        )
    )
    tokens = [TokenPlan(symbol="USDX", decimals=6, address=_address(r))]
    if r.random() < 0.6:
        tokens.append(TokenPlan(symbol="DAIX", decimals=18, address=_address(r)))
    return ChainPlan(
        name=name,
        chain_id=chain_id,
        block_s=block_s,
        finality=finality,
        tag_lag=tag_lag,
        providers=providers,
        quorum=quorum,
        proves=chain_id in PROVING and r.random() < 0.6,
        poll_s=poll_s,
        tokens=tokens,
        liar=r.randrange(providers) if quorum >= 2 else None,
    )


def _address(r: random.Random) -> bytes:
    return b"\x70" + r.randbytes(19)


FAULT_GROUPS: Sequence[Sequence[str]] = (
    (*FAULTS, *PROVIDER_FAULTS),
    CHAIN_FAULTS,
    PROCESS_FAULTS,
    STORE_FAULTS,
    RECEIVER_FAULTS,
)
"""What begins to go wrong is drawn from a group drawn before: there are more ways to answer wrongly than to die."""
ALL_FAULTS: Sequence[str] = tuple(name for group in FAULT_GROUPS for name in group)
"""Every kind there is. One that never struck in a run of many seeds fails it."""


def _faults(r: random.Random, only: Collection[str]) -> dict[str, float]:
    share = r.choice((0.15, 0.4, 0.8))
    drawn = {name: r.choice(_rates(name)) for name in ALL_FAULTS if r.random() < share}
    return {name: max(_rates(name)) for name in ALL_FAULTS if name in only} if only else drawn


def _rates(name: str) -> tuple[float, ...]:
    """Of a database there are many opportunities in each tick: at higher rates no process gets anywhere."""
    if name == "database gone":
        return (0.001, 0.003)
    return (0.003, 0.01, 0.03) if name in STORE_FAULTS else (0.05, 0.2, 0.6, 1.0)


def is_lie(name: str, faults: Collection[str]) -> bool:
    """Whether, beside the other faults of this world, only other providers can tell: then one alone may do it."""
    return harm_beside(FAULTS[name], faults) is Harm.LIE
