"""Faults of the line and of what stands before the node: no answer, half of one, far too much of one, a refusal."""

from __future__ import annotations

import msgspec

from chains.faults.model import End, Exchange, Fault, Harm, Send, Sent

LATE_S = (0.5, 12.0)
"""Between these an answer comes late: before and after a client's time-out."""
RETRY_AFTER_S = 1
HUGE_BYTES = 200 * 2**20
_TEXT = {"Content-Type": "text/plain"}
_HTML = {"Content-Type": "text/html"}


def never(_exchange: Exchange, _body: bytes) -> Sent:
    """Until the client hangs up."""
    return Sent(status=None, end=End.SILENCE)


def late(exchange: Exchange, body: bytes) -> Sent:
    return Sent(body=body, status=exchange.status, delay_s=exchange.random.uniform(*LATE_S))


def reset_before(_exchange: Exchange, _body: bytes) -> Sent:
    return Sent(status=None, end=End.RESET)


def half_then(end: End) -> Send:
    """All is announced, half of it comes."""

    def send(exchange: Exchange, body: bytes) -> Sent:
        return Sent(body=body[: len(body) // 2], status=exchange.status, announced_bytes=len(body), end=end)

    return send


def truncated(exchange: Exchange, body: bytes) -> Sent:
    """A whole HTTP answer that holds half a JSON text."""
    return Sent(body=body[: exchange.random.randrange(len(body))])


def too_many(_exchange: Exchange, _body: bytes) -> Sent:
    return Sent(body=b"Too Many Requests", status=429, headers=_TEXT)


def too_many_for(seconds: int) -> Send:
    def send(_exchange: Exchange, _body: bytes) -> Sent:
        return Sent(body=b"Too Many Requests", status=429, headers={**_TEXT, "Retry-After": str(seconds)})

    return send


def gateway(exchange: Exchange, _body: bytes) -> Sent:
    status = exchange.random.choice((500, 502, 503, 504))
    return Sent(body=f"<html><h1>{status}</h1></html>".encode(), status=status, headers=_HTML)


def huge(_exchange: Exchange, _body: bytes) -> Sent:
    """Spaces before an answer that never begins."""
    return Sent(padding_bytes=HUGE_BYTES)


def huge_announced(_exchange: Exchange, _body: bytes) -> Sent:
    return Sent(padding_bytes=HUGE_BYTES, announced_bytes=HUGE_BYTES)


def refuse_batch(_exchange: Exchange, _body: bytes) -> Sent:
    error = {"code": -32600, "message": "batch requests are not supported"}
    return Sent(body=msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error}))


def missing_reply(exchange: Exchange, _body: bytes) -> Sent:
    """One reply of a batch is left out."""
    left_out = exchange.random.choice(exchange.replies)
    return Sent(body=msgspec.json.encode([reply for reply in exchange.replies if reply is not left_out]))


SENDING = (
    Fault(name="never answers", harm=Harm.PLAIN, send=never),
    Fault(name="answers late", harm=Harm.PLAIN, send=late),
    Fault(name="connection reset", harm=Harm.PLAIN, send=reset_before),
    Fault(name="connection reset in mid-body", harm=Harm.PLAIN, send=half_then(End.RESET)),
    Fault(name="connection closed in mid-body", harm=Harm.PLAIN, send=half_then(End.CLOSED)),
    Fault(name="silence in mid-body", harm=Harm.PLAIN, send=half_then(End.SILENCE)),
    Fault(name="truncated JSON", harm=Harm.PLAIN, send=truncated),
    Fault(name="429", harm=Harm.PLAIN, send=too_many),
    Fault(name="429 with Retry-After", harm=Harm.PLAIN, send=too_many_for(RETRY_AFTER_S)),
    Fault(name="5xx", harm=Harm.PLAIN, send=gateway),
    Fault(name="huge answer", harm=Harm.PLAIN, send=huge),
    Fault(name="huge answer, announced", harm=Harm.PLAIN, send=huge_announced),
    Fault(name="missing reply", harm=Harm.PLAIN, send=missing_reply, is_about_batches=True),
    Fault(name="batch refused", harm=Harm.NONE, send=refuse_batch, is_about_batches=True),
)
