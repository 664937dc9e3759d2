"""The operator's database URL, read once: `sqlite:///settler.db`, `sqlite://` (memory) or what libpq accepts.

No message shows more of a URL than its scheme: a password that was not quoted may stand anywhere in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from settler.storage.errors import InvalidDatabaseUrl

_FORMS = "write sqlite:///settler.db, sqlite:////absolute/path/settler.db or postgresql://user@host/name"


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    path: Path | None
    """`None`: in memory, gone when the process ends."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    connect_args: dict[str, Any] = field(repr=False)
    """libpq's parameters, the password among them."""


def parse_url(url: str) -> SqliteUrl | PostgresUrl:
    """Which database `url` names. Raises `InvalidDatabaseUrl` with the remedy."""
    scheme, separator, rest = url.partition("://")
    match scheme:
        case "sqlite" if separator:
            return _parse_sqlite(rest)
        case "postgresql" | "postgres" | "postgresql+psycopg" if separator:
            return _parse_postgres(rest)
        case _ if separator:
            raise InvalidDatabaseUrl(f"the database URL begins with {scheme}://, which is not supported; {_FORMS}")
        case _:
            raise InvalidDatabaseUrl(f"the database URL has no scheme; {_FORMS}")


def _parse_sqlite(rest: str) -> SqliteUrl:
    if rest in ("", "/", "/:memory:"):
        return SqliteUrl(path=None)
    if not rest.startswith("/"):
        raise InvalidDatabaseUrl("a SQLite URL has three slashes before a relative path, four with an absolute one")
    name = rest[1:]
    if "?" in name or name.startswith("file:"):
        raise InvalidDatabaseUrl("a SQLite URL takes a path only, no parameters")
    path = Path(name)
    try:
        is_directory, has_directory = path.is_dir(), path.absolute().parent.is_dir()
    except OSError as error:
        raise InvalidDatabaseUrl(f"no file can have the database's name: {error.strerror}") from None
    if is_directory:
        raise InvalidDatabaseUrl(f"{path} is a directory; name a file in it, like {path / 'settler.db'}")
    if not has_directory:
        raise InvalidDatabaseUrl(f"the directory {path.absolute().parent} does not exist; make it first")
    return SqliteUrl(path=path)


def _parse_postgres(rest: str) -> PostgresUrl:
    try:
        args = conninfo_to_dict(f"postgresql://{rest}")
    except psycopg.Error:
        args = None
    ports = str(args.get("port") or "").split(",") if args is not None else []
    if args is None or not all(port == "" or port.isdecimal() for port in ports):
        # Not chained: the driver's message quotes the part it stumbled over.
        raise InvalidDatabaseUrl(
            "PostgreSQL's client library cannot read the database URL; "
            "quote special characters of the password (%40 for @, %2F for /) and see its parameters' names"
        )
    return PostgresUrl(connect_args=dict(args))
