"""Logs are events: `log.info("transfer.matched", chain=…, invoice=…)`. JSON lines for machines, colour for a
terminal.

Promises: one line an event, control characters escaped, so that nothing a node or a client sends can forge a
line; URLs are cut to scheme, host and port, and values under a key that names a secret are not written. What does
not belong here: what to log, and any file or rotation (stderr only; the platform keeps it)."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO, cast
from urllib.parse import urlsplit

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

REDACTED = "[redacted]"
MAX_VALUE_CHARS = 2_000
"""Longer text (a node's error page) is cut."""
_MAX_TRACE_CHARS = 20_000
_MAX_NESTING = 4
_TRACES = ("exception", "stack")
"""Keys under which structlog puts tracebacks: the one kind of text that may have several lines, each
indented.
"""

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:secret|password|passwd|api_?key|private_?key|authorization|cookie|mnemonic|xprv|dsn"
    r"|credential|(?:access|auth|bearer|session)_token)s?(?:$|_)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\bsk_[0-9a-f]{16,}|\bwhsec_[A-Za-z0-9+/=_-]{16,}|\bBearer\s+\S+|\b(?:password|secret|api_?key)=\S+",
    re.IGNORECASE,
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure(format_: Format, level: Level, stream: TextIO | None = None) -> None:
    """Sends all logs, those of libraries too, to `stream` (default: stderr). May be called again.

    `auto`: console on a terminal, JSON elsewhere.
    """
    out = stream if stream is not None else sys.stderr
    is_console = format_ == "console" or (format_ == "auto" and out.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                redact,
                _console(out) if is_console else _json_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # One line a request is the API's own business, and debug of these says the URL.
    for noisy in ("aiohttp.access", "asyncio", "urllib3", "web3", "alembic", "aiosqlite"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> FilteringBoundLogger:
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: takes secrets, URLs' paths and control characters out of an event."""
    return {redact_text(str(key)): _clean(str(key), value, _MAX_NESTING) for key, value in event.items()}


def redact_text(text: str, *, max_chars: int = MAX_VALUE_CHARS) -> str:
    """Text without secrets: URLs cut to scheme, host and port, keys replaced, control characters escaped."""
    text = text if len(text) <= max_chars else text[: max_chars - 1] + "…"
    text = _SECRET_VALUE.sub(REDACTED, _URL.sub(_host_only, text))
    return escape_controls(text)


def escape_controls(text: str) -> str:
    """Text that cannot move a cursor, begin a line or turn its direction, whoever wrote it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _clean(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_KEY.search(key):
        return REDACTED
    if key in _TRACES:
        lines = str(value).splitlines()
        return "\n  ".join(redact_text(line, max_chars=_MAX_TRACE_CHARS) for line in lines)
    if isinstance(value, bytes):
        return "0x" + value[:MAX_VALUE_CHARS].hex()
    if depth > 0 and isinstance(value, Mapping):
        return {redact_text(str(k)): _clean(str(k), v, depth - 1) for k, v in value.items()}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, item, depth - 1) for item in value]
    return redact_text(str(value))


def _host_only(found: re.Match[str]) -> str:
    try:
        parts = urlsplit(found[0])
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return REDACTED
    if parts.scheme == "sqlite":
        return found[0]
    has_more = parts.path.strip("/") or parts.query or parts.username or parts.fragment
    return f"{parts.scheme}://{host}{port}" + ("/…" if has_more else "")


def _json_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    ordered = {name: event[name] for name in ("timestamp", "level", "event") if name in event}
    return json.dumps({**ordered, **event}, ensure_ascii=False, default=str)


def _console(out: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
