"""Where a span stands: a trace and a place in it. Pure.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_SAMPLED = 0x01
MAX_TRACEPARENT_CHARS = 256
"""Version 0 has 55; later ones may be longer, and are read as far as version 0 goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    is_sampled: bool
    """Whether its spans are kept, by everybody who sees it."""

    @property
    def trace_hex(self) -> str:
        return f"{self.trace_id:032x}"

    @property
    def span_hex(self) -> str:
        return f"{self.span_id:016x}"

    @property
    def traceparent(self) -> str:
        """The W3C header's value."""
        return f"00-{self.trace_hex}-{self.span_hex}-{_SAMPLED if self.is_sampled else 0:02x}"


def derived_place(story: str, *parts: str, ratio: float) -> Place:
    """The place that these names have in every process and at every time: `story` names the trace, all of them the
    span. Without `parts`, the root of the trace.
    """
    trace_id = _number("settler trace", story, size=16)
    return Place(
        trace_id=trace_id,
        span_id=_number("settler span", story, *parts, size=8),
        is_sampled=is_sampled(trace_id, ratio),
    )


def is_sampled(trace_id: int, ratio: float) -> bool:
    """Whether a trace is among the `ratio` (0 .. 1) that is kept; decided by its id alone, alike everywhere."""
    # as OpenTelemetry's TraceIdRatioBased: the lower half of the id against the ratio
    return (trace_id & (1 << 64) - 1) < round(ratio * (1 << 64))


def parse_traceparent(text: str) -> Place | None:
    """The caller's place; `None` for what is none by the W3C's rules."""
    found = _TRACEPARENT.fullmatch(text) if len(text) <= MAX_TRACEPARENT_CHARS else None
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest is not None) or not int(trace, 16) or not int(span, 16):
        return None
    return Place(trace_id=int(trace, 16), span_id=int(span, 16), is_sampled=bool(int(flags, 16) & _SAMPLED))


def _number(*names: str, size: int) -> int:
    """Never 0, which no id may be."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return int.from_bytes(digest[:size]) or 1
