"""What a world must have, by its plan, so that a defect can show in it; and which faults bring it out."""

from __future__ import annotations

from collections.abc import Callable

from settler.domain.finality import ByTag, Depth
from settler.domain.invoices import Match
from settler.simulation.plan import Plan

Need = Callable[[Plan], bool]

LIES = (
    "empty logs", "partial logs", "tampered amount", "tampered token", "tampered recipient", "tampered transaction",
    "invented log",
)  # fmt: skip
"""About what happened in a block; told by one provider of several."""
TAMPERING = ("tampered amount", "tampered token", "tampered recipient", "tampered transaction")
"""Likewise, with as many payments as there are."""
CRASHES = ("kill -9", "crash before a write", "crash during a write", "crash after a write")
FORKS = ("reorg", "transaction included elsewhere", "transaction dropped", "transaction replaced")
DATABASE = (
    "crash before a write", "crash during a write", "crash after a write", "commit unknown, done",
    "commit unknown, lost", "serialization failure", "database gone", "disk full", "kill -9",
)  # fmt: skip


def both(one: Need, other: Need) -> Need:
    return lambda plan: one(plan) and other(plan)


def has_habit(*names: str) -> Need:
    """Any of them."""
    return lambda plan: any(name in plan.customs.habits for name in names)


def has_decision(name: str) -> Need:
    return lambda plan: name in plan.decisions


def has_match(match: Match) -> Need:
    return lambda plan: match in plan.customs.matches


def has_lone_provider(plan: Plan) -> bool:
    """One is believed alone, on some chain."""
    return any(chain.quorum == 1 for chain in plan.chains)


def has_liar(plan: Plan) -> bool:
    return any(chain.liar is not None for chain in plan.chains)


def has_depth(plan: Plan) -> bool:
    return any(isinstance(chain.finality, Depth) for chain in plan.chains)


def has_tag(plan: Plan) -> bool:
    return any(isinstance(chain.finality, ByTag) for chain in plan.chains)


def has_tag_and_depth(plan: Plan) -> bool:
    return any(isinstance(chain.finality, ByTag) and chain.finality.min_depth > 0 for chain in plan.chains)


def has_two_tokens(plan: Plan) -> bool:
    """On some chain, of different decimals."""
    return any(len(chain.tokens) > 1 for chain in plan.chains)


def has_choice_of_chains(plan: Plan) -> bool:
    """An invoice may be paid on one chain or another."""
    return len(plan.chains) > 1 and plan.customs.several_options_rate > 0


def has_quick_looks(plan: Plan) -> bool:
    """Ticks take a good part of the time: then two workers, or one that stood still, meet in the middle of one."""
    return all(chain.poll_s < 10 for chain in plan.chains)


def has_whole_lives(plan: Plan) -> bool:
    """Invoices expire, and cease to be monitored, well before the world ends."""
    return plan.customs.expires_in_s[1] + plan.customs.monitoring_s < 0.6 * plan.steps * plan.gap_s


def has_receiver(plan: Plan) -> bool:
    return plan.receivers > 0
