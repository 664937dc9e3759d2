"""How many blocks one `eth_getLogs` asks for. Pure.

Two different numbers bound it: the structural cap of the provider (blocks per request, which is remembered) and what
the density of logs allows just now (which is found again: halve when refused, grow slowly when served, and never beyond
what we want to hold of one answer). The width is never below one block: a provider that refuses a single block cannot
be helped by narrowing.

    width 2000   refused 1000   refused 500   served 562   served 632 …   cap
    width 2000   no answer 1000   no answer 500   served 1000   served 2000   the provider was down, not too small
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chains.model import BlockNumber, BlockSpan

FIRST_BLOCKS = 100
"""Asked of a provider nothing is known of yet: its first answer shows how dense the chain is, and is not refused where
the usual width would be."""
START_BLOCKS = 2_000
"""What most providers' paid and public plans take (Alchemy 2K, Polygon 2000, Avalanche 2048)."""
MAX_BLOCKS = 10_000
"""The widest cap that is common (Infura, Coinbase, BlockPI, Chainstack paid)."""
WANTED_LOGS = 5_000
"""An answer of more is not asked for again: three megabytes. While it is decoded nothing else is done (10 ms), and
several are held at a time: four, of each provider that has to agree."""
GROWTH_DIVISOR = 8
"""Growth by an eighth a served span: back from a halving after six spans, so that a cap is not hit every other call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsWindow:
    """How wide to ask one provider next. `1 <= width <= cap`."""

    width: int = START_BLOCKS
    """Blocks the next span may have."""
    cap: int = MAX_BLOCKS
    """The structural bound, the least of what the provider ever named."""
    careful_from: int = START_BLOCKS
    """From this width on growth is an eighth; below it the provider was only ever silent, and growth doubles."""
    is_first: bool = False
    """Nothing was asked yet: the first answer decides how wide to begin."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= self.cap:
            raise ValueError(f"a window needs 1 <= width <= cap, got width {self.width}, cap {self.cap}")


NEW_PROVIDER = LogsWindow(width=FIRST_BLOCKS, is_first=True)


def next_span(cursor: BlockNumber, upto: BlockNumber, width: int) -> BlockSpan | None:
    """The next blocks to read: at most `width` of `(cursor, upto]`, `None` when there are none.

    #  cursor              upto
    #  100    | 101 .. 110 | 111      width >= 10 gives 101..110
    """
    if width < 1:
        raise ValueError(f"width must be at least one block, got {width}")
    if cursor >= upto:
        return None
    return BlockSpan(first=BlockNumber(cursor + 1), last=BlockNumber(min(upto, cursor + width)))


def narrowed(window: LogsWindow, span_len: int, suggested: int | None = None, *, is_cap: bool = False) -> LogsWindow:
    """The window after a span of `span_len` blocks was refused: always narrower than that, unless it was one block,
    and never wider than it was (the refusal may be of a span asked before the window narrowed).

    `suggested`: `RangeTooWide.max_span`; believed only when it is narrower than what was refused, else the span is
    halved. `is_cap`: the suggestion is the provider's structural cap (`RangeTooWide` that is no `ResultTooLarge`) and
    is remembered.
    """
    halved = max(1, span_len // 2)
    is_believable = suggested is not None and 1 <= suggested < span_len
    wanted = suggested if suggested is not None and is_believable else halved
    cap = min(window.cap, wanted) if is_cap and is_believable else window.cap
    width = min(window.width, wanted, cap)
    return LogsWindow(width=width, cap=cap, careful_from=width)


def unanswered(window: LogsWindow, span_len: int) -> LogsWindow:
    """The window after no answer came to a span of `span_len` blocks in time.

    Half of it, as after a refusal; but it may have been the provider that was down, so it may come back by doubling.
    """
    return replace(window, width=min(window.width, max(1, span_len // 2)), is_first=False)


def widened(window: LogsWindow) -> LogsWindow:
    """The window after a full span was served: twice as wide up to `careful_from`, from there an eighth wider, at
    least one block, never beyond the cap.
    """
    careful = window.width + max(1, window.width // GROWTH_DIVISOR)
    grown = max(careful, min(2 * window.width, window.careful_from))
    return replace(window, width=min(window.cap, grown))


def bounded(window: LogsWindow, span_len: int, logs: int) -> LogsWindow:
    """The window after a span of `span_len` blocks was answered with so many logs: not wider than `WANTED_LOGS` of the
    same density. It comes back as soon as blocks are quieter.
    """
    if window.is_first:
        window = replace(window, width=min(START_BLOCKS, window.cap), is_first=False)
    if logs * window.width <= WANTED_LOGS * span_len:
        return window
    return replace(window, width=max(1, WANTED_LOGS * span_len // logs))
