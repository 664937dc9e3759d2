"""How the logs of a span are asked for: all of the tokens, or only those to us, in one call or in several. Pure.

    few addresses, any chain          in the filter: 69 bytes each to send, and only our logs come back
    many addresses, a quiet chain     without: 630 bytes a log, of which there are few
    more than one filter takes        without, and matched here; far behind on a busy chain in several filters, since
                                      the answers would be megabytes

What it costs is weighed in bytes, by what this provider's answers have shown; the reading is the same either way.

What does not belong here: how wide the span is (`chains.logs_window`), and asking.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from chains.model import Address

FILTER_RECIPIENTS_MAX = 500
"""Recipients in one filter, until a provider says that it takes fewer: many stop at 1,000 topics (RULES.md section 1),
and the bound is not told beforehand."""
FILTERS_MAX = 10
"""Filters one after the other in one batch: a third of a megabyte to send."""
RECIPIENT_BYTES = 69
"""One in a filter: a topic of 66 characters in quotes, and a comma."""
LOG_BYTES = 630
"""One in an answer, as nodes write it."""
CALL_BYTES = 50_000
"""What a call is worth beside its bytes: it is billed and counted against a rate whatever it answers, and takes as long
as reading and decoding 80 logs does (0.3 ms on a connection that stands)."""
SPLIT_FROM_BYTES = 2_000_000
"""An answer of less is never avoided with several filters: following the head takes three calls a tick, however many
blocks went by, and even on the busiest chains a few blocks are less than that."""
LOOK_FROM_BYTES = 10_000
"""A filter of less is sent as it is: whether the answer without one is smaller is not worth knowing."""
LOOK_BLOCKS = 8
"""Widest span that is asked for without a filter only to see how many logs there are."""
LOOK_EVERY = 1_000
"""Filtered readings between two such looks: on the busiest chain one costs a megabyte and a half, so 1.5 kB a
reading."""
REMEMBERED_BLOCKS = 500
"""What was seen before counts as if it had been so many blocks at most: a chain that changed is known as such soon."""
SURPRISE_LOGS = 20
"""So many more than were seen are expected: after one empty block the next two thousand are not taken for empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What one provider's answers have shown so far; those without a filter count, older ones for less."""

    recipients_max: int = FILTER_RECIPIENTS_MAX
    """At most in one filter; 0: it takes none."""
    blocks: float = 0.0
    logs: float = 0.0
    """In those blocks."""
    wanted: float = 0.0
    """Of the logs: those that a filter would have let through."""
    filtered_since: int = 0
    """Readings since the last without a filter."""


Filters = tuple[tuple[Address, ...], ...]
"""Recipients in order, one call for each part; equal sets make equal calls."""


def plan(blocks: int, recipients: Set[Address] | None, learned: Learned) -> Filters | None:
    """The filters to ask with, or `None`: all logs of the tokens, in one call. `recipients`: not empty; `None`:
    whoever they are to.

    Never more in one filter than the provider takes; several filters only where one answer would be megabytes.
    """
    if recipients is None or not _is_filtered(blocks, len(recipients), learned):
        return None
    ordered = sorted(recipients)
    size = learned.recipients_max
    return tuple(tuple(ordered[at : at + size]) for at in range(0, len(ordered), size))


def unfiltered_bytes(blocks: int, learned: Learned) -> float | None:
    """What one call without a filter costs; `None`: not known yet."""
    if learned.blocks == 0:
        return None
    return CALL_BYTES + blocks * (learned.logs + SURPRISE_LOGS) / learned.blocks * LOG_BYTES


def filtered_bytes(blocks: int, recipients: int, learned: Learned) -> float | None:
    """What as many filters as are needed cost; `None`: the provider does not take that many recipients."""
    if learned.recipients_max == 0:
        return None
    calls = -(-recipients // learned.recipients_max)
    if calls > FILTERS_MAX:
        return None
    ours = learned.wanted / learned.blocks if learned.blocks else 0.0
    return calls * CALL_BYTES + recipients * RECIPIENT_BYTES + blocks * ours * LOG_BYTES


def _is_filtered(blocks: int, recipients: int, learned: Learned) -> bool:
    filtered, unfiltered = filtered_bytes(blocks, recipients, learned), unfiltered_bytes(blocks, learned)
    if filtered is None:
        return False
    is_one_call = recipients <= learned.recipients_max
    if is_one_call and recipients * RECIPIENT_BYTES >= LOOK_FROM_BYTES and blocks <= LOOK_BLOCKS:
        is_look_due = unfiltered is None or learned.filtered_since >= LOOK_EVERY
        if is_look_due:
            return False
    if unfiltered is None:
        return is_one_call
    return filtered < unfiltered and (is_one_call or unfiltered >= SPLIT_FROM_BYTES)


# -- learning ----------------------------------------------------------------------------------------------------------


def refused(learned: Learned, recipients: int) -> Learned:
    """After a filter of so many recipients was refused as too long."""
    return replace(learned, recipients_max=min(learned.recipients_max, recipients // 2))


def answered(learned: Learned, filters: Filters | None, *, blocks: int, logs: int, wanted: int) -> Learned:
    """After an answer of `logs`, of which `wanted` are to our addresses."""
    if filters is not None:
        return replace(learned, filtered_since=learned.filtered_since + 1)
    kept = min(1.0, REMEMBERED_BLOCKS / learned.blocks) if learned.blocks else 0.0
    return replace(
        learned,
        blocks=learned.blocks * kept + blocks,
        logs=learned.logs * kept + logs,
        wanted=learned.wanted * kept + wanted,
        filtered_since=0,
    )
