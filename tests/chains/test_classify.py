"""Every collected wording of a refusal, and anything else a provider might say."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chains.classify import MAX_MESSAGE_CHARS, classify, suggested_span
from chains.errors import (
    BlockNotFound,
    ChainError,
    FilterTooLong,
    HistoryPruned,
    MethodUnsupported,
    RangeTooWide,
    RateLimited,
    Rejected,
    ResultTooLarge,
    Reverted,
    Timeout,
    Transient,
    Unknown,
)

CLASSES: dict[str, type[ChainError]] = {
    "range_too_large": RangeTooWide,
    "result_too_large": ResultTooLarge,
    "rate_limited": RateLimited,
    "block_not_found": BlockNotFound,
    "history_pruned": HistoryPruned,
    "method_unsupported": MethodUnsupported,
    "fatal": Rejected,
    "timeout": Timeout,
    "transient": Transient,
}
COLLECTED: list[dict[str, Any]] = msgspec.json.decode((files("chains.data") / "refusals.json").read_bytes())
SAID: list[Any] = [
    pytest.param(shape, id=f"{number} {shape['provider']}")
    for number, shape in enumerate(COLLECTED)
    if not shape["message"].startswith("(no error)")
]
"""Without the five that are no errors but lies with HTTP 200: tests/chains/test_lies.py."""


def test_collection__is_whole() -> None:
    assert len(COLLECTED) == 152
    assert len(SAID) == 147


@pytest.mark.parametrize("shape", SAID)
def test_classify__collected_wording__is_its_class(shape: dict[str, Any]) -> None:
    error = classify(shape["message"], code=shape["code"], http_status=shape["http_status"])
    assert type(error) in {CLASSES[shape["class"]], FilterTooLong}
    assert error.label == CLASSES[shape["class"]].label


def test_classes__nine_and_the_unknown__are_counted_apart() -> None:
    assert len({*(error.label for error in CLASSES.values()), Unknown.label}) == 10


@pytest.mark.parametrize(
    "message",
    [
        "exceed max addresses or topics per search position",
        "This query contains 5006 filters. The current limit is 5000.",
        "request exceeded max allowed addresses",
    ],
)
def test_classify__too_much_in_the_filter__is_not_about_blocks(message: str) -> None:
    """Narrowing the range to one block would not help: less must be asked for."""
    assert type(classify(message, code=-32602)) is FilterTooLong


@pytest.mark.parametrize("shape", [each for each in SAID if each.values[0].get("suggested")])
def test_classify__number_in_the_message__becomes_the_span(shape: dict[str, Any]) -> None:
    error = classify(shape["message"], code=shape["code"], http_status=shape["http_status"])
    assert isinstance(error, RangeTooWide)
    suggested = shape["suggested"]
    if suggested["kind"] == "cap":
        # one source had lowered it already
        assert error.max_span in {max(1, suggested["blocks"] - 1), suggested["blocks"]}
        assert error.max_span is not None
        assert error.max_span <= suggested["blocks"]
    elif suggested["from"] is not None:
        base = 16 if suggested["from"].startswith("0x") else 10
        assert error.max_span == int(suggested["to"], base) - int(suggested["from"], base) + 1


@pytest.mark.parametrize(
    ("message", "blocks"),
    [
        ("eth_getLogs is limited to a 10,000 range", 9_999),
        ("Limit exceeded: Query requested more than 10.000 blocks", 9_999),
        ("eth_getLogs range is too large, max is 10k blocks", 9_999),
        ("block range exceeds 1", 1),
        ("block range exceeds 0", None),
        ("Try with this block range [0x10, 0x1f].", 16),
        ("Try with this block range [0x1f, 0x10].", None),
        ("retry with the range 6000000-6000509", 510),
        ("retry with the range 6000509-6000000", None),
        ("block range too large", None),
        ("", None),
    ],
)
def test_suggested_span(message: str, blocks: int | None) -> None:
    assert suggested_span(message) == blocks


@pytest.mark.parametrize(
    ("message", "code", "status", "error"),
    [
        ("", None, None, Unknown),
        ("quota of unicorns", -32000, 200, Unknown),
        ("", -32005, 200, Unknown),
        ("", 429, 200, RateLimited),
        ("", "429", 200, RateLimited),
        ("", "not a number", 200, Unknown),
        ("", float("inf"), 200, Unknown),
        ("", -32601, 500, MethodUnsupported),
        ("", 3, 200, Reverted),
        ("execution reverted: rate limit exceeded, block range too large", 3, 200, Reverted),
        ("range limit exceeded", None, 429, RateLimited),
        ("", None, 503, Transient),
        ("", None, 418, Rejected),
        ("", None, 200, Unknown),
    ],
)
def test_classify__text_then_code_then_status(
    message: str, code: Any, status: int | None, error: type[ChainError]
) -> None:
    assert type(classify(message, code=code, http_status=status)) is error


def test_classify__unknown__is_transient_with_its_own_label() -> None:
    error = classify("quota of unicorns")
    assert isinstance(error, Transient)
    assert error.label == "unknown"


def test_classify__message__is_one_short_printable_line() -> None:
    error = classify("Too Many\r\nRequests \x1b[31m" + "x" * 5000)
    assert str(error).isprintable()
    assert len(str(error)) <= MAX_MESSAGE_CHARS + 1


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (b"", None),
        (b'{"rate":{"backoff_seconds":30}}', 30.0),
        (b'{"rate":{"backoff_seconds":0}}', 0.25),
        (b'{"rate":{}}', 0.25),
        (b'{"rate":null}', None),
        (b'"0x"', None),
        (b"{", None),
    ],
)
def test_classify__backoff_in_data__is_the_wait(data: bytes, seconds: float | None) -> None:
    error = classify("Too Many Requests", data=data)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == seconds


@given(
    message=st.text(max_size=3000),
    code=st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=10)),
    data=st.binary(max_size=50),
    status=st.one_of(st.none(), st.integers(min_value=-1, max_value=999)),
)
@example(message="range[" * 300, code=None, data=b"", status=None)
@example(message="method " * 280, code=None, data=b"", status=None)
@example(message="limited to " + "9" * 1900, code=None, data=b"", status=None)
def test_classify__anything__never_raises(message: str, code: Any, data: bytes, status: int | None) -> None:
    error = classify(message, code=code, data=data, http_status=status)
    assert isinstance(error, ChainError)
    if isinstance(error, RangeTooWide):
        assert error.max_span is None or error.max_span >= 1
