"""Whatever bytes come back, each call gets a result of its type or an error: no crash, no other call's result."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from chains.errors import ChainError
from chains.replies import Answer, BatchRefused, Call, read_batch, read_single
from chains.wire import TEXT

ASKED: list[Call[str]] = [Call(method="eth_chainId", params=[], result=TEXT)] * 3
IDS = [7, 8, 9]

json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just("batch"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "result", "error", "message", "code", "data"]), inner, max_size=5)
    ),
    max_leaves=20,
)
statuses = st.sampled_from([200, 200, 200, 301, 400, 429, 500])


@given(st.binary(max_size=60) | json.map(msgspec.json.encode), statuses)
@example(b"[" * 5000, 200)
@example(b'{"error":' * 5000, 200)
@example(b'{"id":7,"error":{"data":' + b"[" * 5000, 200)
def test_read__any_bytes__are_an_outcome_for_each_call(body: bytes, status: int) -> None:
    answer = Answer(status=status, body=body)
    single = read_single(answer, ASKED[0], 7)
    assert isinstance(single, str | ChainError)
    batch = read_batch(answer, ASKED, IDS)
    if not isinstance(batch, BatchRefused):
        assert len(batch) == 3
        assert all(isinstance(each, str | ChainError) for each in batch)


@given(st.permutations(IDS), st.sets(st.sampled_from(IDS)), st.integers(0, 3))
def test_read_batch__replies_shuffled_and_missing__never_mix(order: list[int], missing: set[int], cut: int) -> None:
    replies: list[Any] = [{"id": each, "result": str(each)} for each in order if each not in missing]
    body = msgspec.json.encode(replies)
    outcomes = read_batch(Answer(status=200, body=body[: len(body) - cut]), ASKED, IDS)
    assert not isinstance(outcomes, BatchRefused)
    for call_id, outcome in zip(IDS, outcomes, strict=True):
        if cut or call_id in missing:
            assert isinstance(outcome, ChainError)
        else:
            assert outcome == str(call_id)
