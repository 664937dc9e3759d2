"""Bytes of a JSON-RPC answer to results or errors, each reply matched by its id. Pure.

Every reply asked for gets an outcome: the decoded result, or the `ChainError` that stands for what came instead. A
gateway's HTML, truncated JSON, a reply without result and error, and a missing reply are `Transient` (somebody between
answered, or half an answer arrived); a reply that was not asked for, came twice, or has the wrong shape is
`NodeInconsistent`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from chains.classify import MAX_READ_CHARS, classify
from chains.errors import (
    ChainError,
    MethodUnsupported,
    NodeInconsistent,
    Rejected,
    ResultTooLarge,
    Transient,
)
from chains.wire import WireError, WireReply

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T_co]):
    """One JSON-RPC call, and the shape its result must have."""

    method: str
    params: Sequence[object]
    result: msgspec.json.Decoder[T_co]
    """Decodes straight from the answer's bytes; a null fits only where its type allows `None`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back over HTTP, undecoded."""

    status: int
    body: bytes | bytearray
    """Not copied once it is here: it may have megabytes."""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRefused:
    """The provider does not take this batch as a batch: each call has to be sent alone."""

    error: ChainError
    is_lasting: bool
    """It is about batches as such; else this one was perhaps only too large."""


def read_single(answer: Answer, call: Call[T], call_id: int) -> T | ChainError:
    """The outcome of one call sent alone."""
    reply = _decoded(answer, _REPLY)
    if isinstance(reply, ChainError):
        return reply
    return _outcome(reply, answer, call, call_id)


def read_batch(answer: Answer, calls: Sequence[Call[T]], ids: Sequence[int]) -> list[T | ChainError] | BatchRefused:
    """One outcome a call, in the order of `calls`, whatever the order of the replies."""
    if _ARRAY.match(answer.body) is None:
        return _refused_as_a_whole(answer, len(calls))
    replies = _decoded(answer, _REPLIES)
    if isinstance(replies, ChainError):
        return [replies] * len(calls)
    if (refusal := _refused_inside(replies, answer)) is not None:
        return refusal
    by_id = {reply.id: reply for reply in replies if reply.id is not None}
    named = sum(reply.id is not None for reply in replies)
    if len(by_id) != named or not by_id.keys() <= set(ids):
        foreign: ChainError = NodeInconsistent("the batch reply holds ids twice, or ids that were not asked")
        return [foreign] * len(calls)
    orphan = next((reply for reply in replies if reply.id is None), None)
    return [
        _outcome(reply, answer, call, call_id)
        if (reply := by_id.get(call_id, orphan)) is not None
        else Transient(f"the batch reply lacks {len(ids) - named} of {len(ids)} replies")
        for call, call_id in zip(calls, ids, strict=True)
    ]


# -- one reply ---------------------------------------------------------------------------------------------------------

_REPLY = msgspec.json.Decoder(WireReply)
_REPLIES = msgspec.json.Decoder(list[WireReply])
_ERROR = msgspec.json.Decoder(WireError)
_ERROR_TEXT = msgspec.json.Decoder(str)

_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NULL = b"null"
_ARRAY = re.compile(rb"\s*\[")
_BATCH_WORDS = re.compile(r"\bbatch", re.IGNORECASE)


def _outcome(reply: WireReply, answer: Answer, call: Call[T], call_id: int) -> T | ChainError:
    if (error := _error_of(reply, answer)) is not None:
        return error
    if answer.status >= 300:
        return classify("", http_status=answer.status, retry_after_s=answer.retry_after_s)
    if memoryview(reply.result).nbytes == 0:
        return Transient("the reply has neither result nor error")
    if reply.id != call_id:
        return NodeInconsistent(f"the reply has id {ascii(reply.id)[:24]}, asked was {call_id}")
    try:
        return call.result.decode(reply.result)
    except _NOT_JSON as error:
        return NodeInconsistent(f"the result has another shape than the specification's: {error}")


def _error_of(reply: WireReply, answer: Answer) -> ChainError | None:
    """The error member, in whatever shape it came; `None` when there is none."""
    raw = bytes(reply.error)
    if not raw or raw == _NULL:
        return None
    error = _wire_error(raw)
    return classify(
        error.message,
        code=error.code,
        data=bytes(error.data),
        http_status=answer.status,
        retry_after_s=answer.retry_after_s,
    )


def _wire_error(raw: bytes) -> WireError:
    try:
        return _ERROR.decode(raw)
    except _NOT_JSON:
        return WireError(message=_text(raw))


def _text(raw: bytes) -> str:
    """An error that is a bare string, or in a shape of its own: its text is all there is to classify."""
    try:
        return _ERROR_TEXT.decode(raw)
    except _NOT_JSON:
        return raw[:MAX_READ_CHARS].decode("utf-8", "replace")


# -- whole answers -----------------------------------------------------------------------------------------------------

D = TypeVar("D")


def _decoded(answer: Answer, decoder: msgspec.json.Decoder[D]) -> D | ChainError:
    """The body as JSON-RPC; else what the HTTP status and the text say."""
    try:
        return decoder.decode(answer.body)
    except msgspec.ValidationError as error:
        if answer.status < 300:
            return NodeInconsistent(f"the answer is not JSON-RPC: {error}")
    except _NOT_JSON:
        if answer.status < 300:
            return Transient(f"the answer is not JSON ({len(answer.body)} bytes)")
    text = answer.body[:MAX_READ_CHARS].decode("utf-8", "replace")
    return classify(text, http_status=answer.status, retry_after_s=answer.retry_after_s)


def _refused_as_a_whole(answer: Answer, count: int) -> list[T | ChainError] | BatchRefused:
    """One object, or no JSON at all, where an array was due: one error for every call, or a refusal of batches."""
    reply = _decoded(answer, _REPLY)
    error = reply if isinstance(reply, ChainError) else _error_of(reply, answer)
    if error is None:
        return [Transient("one reply came for a batch, without an error")] * count
    is_about_batches = isinstance(error, Rejected | MethodUnsupported) or _BATCH_WORDS.search(str(error)) is not None
    if is_about_batches or isinstance(error, ResultTooLarge):
        return BatchRefused(error=error, is_lasting=is_about_batches)
    return [error] * count


def _refused_inside(replies: list[WireReply], answer: Answer) -> BatchRefused | None:
    for reply in replies:
        error = _error_of(reply, answer)
        if error is not None and _BATCH_WORDS.search(str(error)):
            return BatchRefused(error=error, is_lasting=True)
    return None
