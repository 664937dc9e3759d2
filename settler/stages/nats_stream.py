"""The words of NATS JetStream: where to, what a stream has to be, what a message carries, and what an answer means.

Pure but for looking whether named files are there. Connections are in `settler.stages.relay_nats`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from settler.domain.events import EventType
from settler.stages import nats_credentials
from settler.stages.relaying import Message, PublishRefused

if TYPE_CHECKING:
    from nats.js.api import StreamConfig

DUPLICATE_WINDOW_MIN_S = 60.0
"""Far longer than a restart of the relay takes; the server's own default is two minutes."""
_NO_RESPONDERS = "503"
_REFUSALS = frozenset({10054, 10060, 10109})
"""Error codes of JetStream that no repetition mends: message too large, another stream, stream sealed.
https://github.com/nats-io/nats-server/blob/main/server/errors.json"""
_SCHEMES = ("nats", "tls")


class Unavailable(Exception):
    """Tried again by the next `publish`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsTarget:
    """Where to, as an operator says it. Valid by `checked`."""

    servers: tuple[str, ...] = field(repr=False)
    """URLs, which may hold a password or a token; any one of the cluster will do."""
    stream: str
    subject: str
    """`{type}` stands for the event's type, which makes two words of it: `settler.invoice.settled`."""
    creds: Path | None = None
    """A file of NATS credentials, read anew at each connection: they run out and are replaced."""
    tls_ca: Path | None = None
    """Certificates to trust instead of the system's."""
    create_stream: bool = False
    replicas: int = 1
    """Of a stream made here."""

    @property
    def hosts(self) -> str:
        """For people: nothing of the URLs but host and port."""
        parts = [urlsplit(server) for server in self.servers]
        return ", ".join(f"{part.hostname}:{part.port or 4222}" for part in parts)


def checked(target: NatsTarget) -> NatsTarget:
    """`target` as it is. Raises `ValueError` naming the option, without showing a URL."""
    for server in target.servers:
        try:
            parts = urlsplit(server)
            is_right = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_right = False
        if not is_right or not server.isprintable() or " " in server:
            raise ValueError("--url: is no URL of a NATS server; write one like nats://127.0.0.1:4222")
    if not target.stream or any(c in target.stream for c in " .*>/\\") or not target.stream.isprintable():
        raise ValueError(f"--stream {target.stream!r}: give a name without spaces, dots, slashes, * and >")
    words = target.subject.replace("{type}", "a.b").split(".")
    if not all(word and word.isascii() and word.isprintable() and not set(word) & set(" *>{}") for word in words):
        raise ValueError(f"--subject {target.subject!r}: write words with dots between, like settler.{{type}}")
    if target.tls_ca is not None and not target.tls_ca.is_file():
        raise ValueError(f"--tls-ca {target.tls_ca}: there is no such file")
    if target.creds is not None:
        try:
            nats_credentials.read(target.creds)
        except ValueError as error:
            raise ValueError(f"--creds: {error}") from None
    return target


def headers(message: Message) -> dict[str, str]:
    """Of one message. Names and values are ASCII."""
    of_ours = {
        "Nats-Msg-Id": message.id,
        "Content-Type": "application/json",
        "Settler-Type": message.type,
        "Settler-Position": str(message.position),
    }
    if message.merchant is not None:
        of_ours["Settler-Merchant"] = quote(message.merchant, safe="")
    return of_ours


def subject_filter(subject: str) -> str:
    """What all subjects match: each event's type has two words."""
    if subject.endswith("{type}"):
        return subject.replace("{type}", ">") if subject.count("{type}") == 1 else subject.replace("{type}", "*.*")
    return subject.replace("{type}", "*.*")


def stream_problem(config: StreamConfig, subject: str) -> str | None:
    """Why a stream is of no use to a relay, and what to do; `None`: it is."""
    filters = config.subjects or []
    for type_ in EventType:
        wanted = subject.replace("{type}", type_.value)
        if not any(matches(each, wanted) for each in filters):
            return f"takes no {wanted}; add {subject_filter(subject)} to its subjects"
    if config.no_ack:
        return "acknowledges nothing (no_ack); turn that off"
    if config.sealed:
        return "is sealed; choose another"
    if 0 < config.duplicate_window < DUPLICATE_WINDOW_MIN_S:
        return (
            f"knows duplicates for {config.duplicate_window:g} s only (duplicate_window), shorter than a restart may "
            f"take; give it {DUPLICATE_WINDOW_MIN_S:.0f} s or more"
        )
    return None


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject without wildcards is one of the pattern's: `*` is a word, `>` at the end one or more."""
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(words) >= len(wanted) and all(w in {"*", word} for w, word in zip(wanted[:-1], words, strict=False))
    return len(words) == len(wanted) and all(w in {"*", word} for w, word in zip(wanted, words, strict=True))


def reply_error(headers: dict[str, str] | None, data: bytes, stream: str) -> Exception | None:
    """What a stream's answer to a message says is wrong; `None`: it is stored there."""
    if headers is not None and headers.get("Status") == _NO_RESPONDERS:
        return Unavailable(f"no stream takes the message: is {stream} gone?")
    try:
        answer: dict[str, Any] = json.loads(data)
        failed = answer.get("error")
        if failed is None:
            return _ack_error(answer, stream)
        text = f"JetStream: {plain(failed.get('description', 'no reason given'))}"
        return PublishRefused(text) if failed.get("err_code") in _REFUSALS else Unavailable(text)
    except (ValueError, AttributeError, TypeError):
        return Unavailable("JetStream answered what is no acknowledgement")


def _ack_error(answer: dict[str, Any], stream: str) -> Exception | None:
    if answer.get("stream") != stream:
        return PublishRefused(f"stream {answer.get('stream')!r} took the message, not {stream}; see their subjects")
    # A server before 2.10.25 may call a duplicate what it never stored; a place in the stream proves it.
    # https://github.com/nats-io/nats-server/pull/6415
    return None if answer.get("seq") else Unavailable("JetStream confirmed a message without saying where it is")


def plain(error: object) -> str:
    """The words of the client's error, without its own decoration."""
    text = str(getattr(error, "description", None) or error).removeprefix("nats: ").strip("'")
    return text or type(error).__name__
