"""Times on the command line: RFC 3339, or a day."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from settler.cli.failures import USAGE, Failure

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse_time(text: str | None, *, option: str) -> datetime | None:
    """`2026-01-31T23:59:59Z`, or `2026-01-31` for its first moment in UTC. Raises `Failure` naming the option."""
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # a 13th month, a 61st second
    raise Failure(
        f"{option} {text!r} is no time; write it in UTC, like 2026-01-31T23:59:59Z, or a day, like 2026-01-31",
        code=USAGE,
    )


def parse_period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """`--from`, inclusive, and `--to`, exclusive. Raises `Failure` where nothing can lie between."""
    first, end = parse_time(since, option="--from"), parse_time(until, option="--to")
    if first is not None and end is not None and first >= end:
        raise Failure(f"--from {since} --to {until}: is no period; --to is its end and not in it", code=USAGE)
    return first, end
