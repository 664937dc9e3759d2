"""What happened in a world, in order: a hash of all of it, and the last lines for a person."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import MutableMapping
from typing import Any, NoReturn

import structlog

LINES_KEPT = 400


class Trace:
    """`note` counts for the hash; `remark` only for the reader."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._loop = asyncio.get_running_loop()
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.bugs: list[str] = []
        """Log lines of errors that no fault explains."""

    def note(self, text: str) -> None:
        line = f"{self._loop.time():14.3f}  {text}"
        self._hash.update(line.encode())
        self.lines.append(line)

    def remark(self, text: str) -> None:
        self.lines.append(f"{self._loop.time():14.3f}  {text}")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def listen_to_logs(self) -> None:
        """From now on the daemon's log lines, from `info` on, are remarks, and its bugs are kept."""
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, self._take],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )

    def _take(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> NoReturn:
        error = event.pop("exc_info", None)
        words = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "level"))
        line = f"{event.get('level', '')} {event.get('event', '')} {words}"
        self.remark(f"  log {line}")
        if event.get("outcome") == "bug" or isinstance(error, BaseException):
            self.bugs.append(f"{line}: {error!r}")
        raise structlog.DropEvent
