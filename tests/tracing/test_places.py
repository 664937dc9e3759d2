"""Where spans stand: derived alike everywhere, and read from headers as the W3C says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.tracing import derived_place, parse_traceparent
from settler.tracing.places import is_sampled

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_derived_place__same_names__same_place_in_every_process() -> None:
    root = derived_place("inv_1", ratio=1)
    assert root == derived_place("inv_1", ratio=1)
    # golden: another release must find the traces that this one began
    assert root.traceparent == "00-4e88c04dcc474bf49111d2719da7247e-3396ff3ed9751a6e-01"


def test_derived_place__other_names__other_places_in_the_same_trace() -> None:
    root, step, other = (derived_place("inv_1", *parts, ratio=1) for parts in ((), ("evt_1",), ("evt_2",)))
    assert root.trace_id == step.trace_id == other.trace_id
    assert len({root.span_id, step.span_id, other.span_id}) == 3
    assert derived_place("inv_2", ratio=1).trace_id != root.trace_id


def test_is_sampled__ratio__keeps_about_so_many_and_always_the_same() -> None:
    traces = [derived_place(f"inv_{n}", ratio=0.25) for n in range(4_000)]
    assert 0.2 < sum(place.is_sampled for place in traces) / len(traces) < 0.3
    more = [derived_place(f"inv_{n}", ratio=0.5) for n in range(4_000)]
    assert all(wide.is_sampled for narrow, wide in zip(traces, more, strict=True) if narrow.is_sampled)


@given(st.integers(1, 2**128 - 1))
def test_is_sampled__0_and_1__none_and_all(trace_id: int) -> None:
    assert is_sampled(trace_id, 1)
    assert not is_sampled(trace_id, 0)


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-is-like", True),
    ],
)
def test_parse_traceparent__right__is_the_callers_place(text: str, sampled: bool) -> None:
    place = parse_traceparent(text)
    assert place is not None
    assert (place.trace_hex, place.span_hex, place.is_sampled) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "a" * 300,
        "٠٠-" + TRACE + "-" + SPAN + "-01",
    ],
)
def test_parse_traceparent__wrong__is_none(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.text(max_size=80))
def test_parse_traceparent__anything__is_a_place_that_reads_alike_or_none(text: str) -> None:
    place = parse_traceparent(text)
    assert place is None or parse_traceparent(place.traceparent) == place
