"""What the drill does with a database of either kind: copies one state of it, restores the copy, says what it holds.

The source is only read, in one transaction that sees one state, whatever is committed meanwhile. What does not belong
here: what makes a backup good (`drill`).
"""

# ruff: noqa: S603, TID251 -- it runs PostgreSQL's own programs, with the environment it was given

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from settler.clock import SystemClock
from settler.storage.errors import InvalidDatabaseUrl
from settler.storage.url import PostgresUrl, parse_url

DIGESTED = (
    *("settlements", "settlement_lines", "reversals", "refunds", "ledger_entries", "ledger_lines"),
    *("operator_actions", "invoices", "invoice_options", "transfers"),
)
"""Tables whose every row is compared; of the others the number of rows. What money rests on."""
AUDIT_LOG = "operator_actions"
REVISION = "alembic_version"
DIGEST_BYTES = 32
ROWS_AT_ONCE = 5_000


class NotGood(Exception):
    """The backup does not do, or none could be made: exit 1."""


class WrongUsage(Exception):
    """Exit 2."""


class Source(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def back_up(self, to: Path) -> Contents:
        """Writes one state to `to`, and says what it holds."""
        ...

    def restored(self, backup: Path, scratch: str | None) -> AbstractContextManager[tuple[str, Contents]]:
        """A scratch database made of it: its URL, and what it holds. Gone at the end."""
        ...


# -- what a database holds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What one snapshot holds."""

    rows: Mapping[str, int]
    """By table."""
    digests: Mapping[str, str]
    """Of `DIGESTED`: the sum of their rows' SHA-256, so that no order matters."""
    revision: str | None
    audit_head: str | None
    """As `settler audit verify --expect-head` takes it; `None`: no operator did anything yet."""

    def differences(self, other: Contents) -> list[str]:
        """What is otherwise in `other`, a line each."""
        found = [
            f"{table}: {self.rows.get(table, 'no')} rows in the source, {other.rows.get(table, 'no')} restored"
            for table in sorted({*self.rows, *other.rows})
            if self.rows.get(table) != other.rows.get(table)
        ]
        found += [
            f"{table}: as many rows, but not the same"
            for table in sorted(self.digests)
            if self.rows.get(table) == other.rows.get(table) and self.digests[table] != other.digests.get(table)
        ]
        return found


def digest_of(rows: Iterable[bytes]) -> str:
    total = 0
    for row in rows:
        total += int.from_bytes(hashlib.sha256(row).digest())
    return (total % (1 << 8 * DIGEST_BYTES)).to_bytes(DIGEST_BYTES).hex()


class Snapshot(Protocol):
    """One state of a database, for reading."""

    def tables(self) -> list[str]: ...
    def count(self, table: str) -> int: ...
    def texts(self, table: str) -> Iterator[bytes]:
        """Each row, written in a way that equal rows share."""
        ...

    def one(self, query: str) -> Sequence[Any] | None: ...


def contents(snapshot: Snapshot) -> Contents:
    tables = snapshot.tables()
    if not {"settlements", "chains", REVISION} <= set(tables):
        raise NotGood("this is no database of settler: it has none of its tables")
    head = snapshot.one(f"SELECT seq, hash FROM {AUDIT_LOG} ORDER BY seq DESC LIMIT 1")  # noqa: S608  # a constant
    revision = snapshot.one(f"SELECT version_num FROM {REVISION}")  # noqa: S608  # a constant
    return Contents(
        rows={table: snapshot.count(table) for table in tables},
        digests={table: digest_of(snapshot.texts(table)) for table in tables if table in DIGESTED},
        revision=None if revision is None else str(revision[0]),
        audit_head=None if head is None else f"{head[0]}:{bytes(head[1]).hex()}",
    )


# -- SQLite ------------------------------------------------------------------------------------------------------------


class SqliteSnapshot:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def tables(self) -> list[str]:
        found = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        )
        return [name for (name,) in found]

    def count(self, table: str) -> int:
        (rows,) = self._connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()  # noqa: S608  # its own name
        return int(rows)

    def texts(self, table: str) -> Iterator[bytes]:
        for row in self._connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  # its own name
            yield repr(row).encode()

    def one(self, query: str) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._connection.execute(query).fetchone()
        return row


class Sqlite:
    """A database in a file."""

    kind = "sqlite"
    suffix = ".db"

    def __init__(self, path: Path) -> None:
        self._path = path

    def back_up(self, to: Path) -> Contents:
        if not self._path.is_file():
            raise NotGood(f"{self._path}: there is no such database")
        with closing(_read_only(self._path)) as source:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on one state is seen
            found = contents(SqliteSnapshot(source))
            with closing(sqlite3.connect(to)) as target:
                source.backup(target)
                # one file, that needs no other beside it
                target.execute("PRAGMA journal_mode = DELETE")
            source.rollback()
        return found

    @contextmanager
    def restored(self, backup: Path, scratch: str | None) -> Iterator[tuple[str, Contents]]:
        with tempfile.TemporaryDirectory(prefix="settler-drill-", dir=scratch) as folder:
            file = Path(folder) / "restored.db"
            shutil.copyfile(backup, file)
            try:
                with closing(_read_only(file)) as restored:
                    flaws = [row[0] for row in restored.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
                    flaws += [f"{row[0]} names a row of {row[2]} that is missing" for row in restored.execute(_KEYS)]
                    if flaws:
                        raise NotGood(f"the file is damaged: {'; '.join(flaws[:5])}")
                    found = contents(SqliteSnapshot(restored))
            except sqlite3.DatabaseError as error:
                raise NotGood(f"the file is damaged: {error}") from error
            yield f"sqlite:///{file}", found


_KEYS = "PRAGMA foreign_key_check"


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


class PostgresSnapshot:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def tables(self) -> list[str]:
        found = self._connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
        )
        return [name for (name,) in found]

    def count(self, table: str) -> int:
        found = self._connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        return int(found[0]) if found else 0

    def texts(self, table: str) -> Iterator[bytes]:
        with self._connection.cursor(name="drill") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(sql.SQL("SELECT row_::text FROM {} AS row_").format(sql.Identifier(table)))
            for (text,) in cursor:
                yield text.encode()

    def one(self, query: str) -> Sequence[Any] | None:
        return self._connection.execute(query.encode()).fetchone()


class Postgres:
    """A database of a server."""

    kind = "postgresql"
    suffix = ".dump"

    def __init__(self, args: Mapping[str, Any], programs: Path | None) -> None:
        self._args = dict(args)
        self._programs = programs

    def back_up(self, to: Path) -> Contents:
        with _snapshot(self._args) as source:
            exported = source.execute("SELECT pg_export_snapshot()").fetchone()
            assert exported is not None, "the function answers a row"
            found = contents(PostgresSnapshot(source))
            # The same state that was counted, whatever is committed meanwhile.
            options = ["--format=custom", f"--snapshot={exported[0]}", f"--file={to}"]
            self._run("pg_dump", self._args, *options)
        return found

    @contextmanager
    def restored(self, backup: Path, scratch: str | None) -> Iterator[tuple[str, Contents]]:
        args = self._args
        if scratch is not None:
            args = _postgres_args(scratch, "--scratch")
        name = f"settler_drill_{SystemClock().now():%Y%m%d%H%M%S}_{os.getpid()}"
        made = {**args, "dbname": name}
        with psycopg.connect(**{**args, **_PATIENCE}, autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            try:
                options = ["--no-owner", "--no-privileges", "--exit-on-error", f"--dbname={_without_password(made)}"]
                self._run("pg_restore", made, *options, str(backup), is_named=True)
                with _snapshot(made) as restored:
                    found = contents(PostgresSnapshot(restored))
                yield _url(made), found
            finally:
                server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, program: str, args: Mapping[str, Any], *options: str, is_named: bool = False) -> None:
        """The password goes through the environment: everybody on the machine can read a command line."""
        found = shutil.which(program, path=None if self._programs is None else str(self._programs))
        if found is None:
            raise WrongUsage(f"{program} is not installed; install PostgreSQL's client, or name its folder: --pg-bin")
        named = () if is_named else (f"--dbname={_without_password(args)}",)
        env = {**os.environ, **({"PGPASSWORD": str(args["password"])} if args.get("password") else {})}
        done = subprocess.run([found, *named, *options], env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotGood(f"{program}: {' '.join(done.stderr.split())[:500]}")


_PATIENCE = {"connect_timeout": 15, "application_name": "settler drill", "prepare_threshold": None}


@contextmanager
def _snapshot(args: Mapping[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """One state of it, and no way to change it."""
    with psycopg.connect(**{**args, **_PATIENCE}) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET LOCAL timezone = 'UTC'")
        yield connection
        connection.rollback()


def _without_password(args: Mapping[str, Any]) -> str:
    return make_conninfo(**{name: value for name, value in args.items() if name != "password"})


def _url(args: Mapping[str, Any]) -> str:
    """As `database.url` takes it; goes to settler through its environment."""
    rest = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in args.items() if name != "dbname")
    return f"postgresql:///{quote(str(args['dbname']), safe='')}?{rest}"


def _postgres_args(url: str, option: str) -> dict[str, Any]:
    try:
        parsed = parse_url(url)
    except InvalidDatabaseUrl as error:
        raise WrongUsage(f"{option}: {error}") from None
    if not isinstance(parsed, PostgresUrl):
        raise WrongUsage(f"{option}: the source is PostgreSQL; give the URL of a server of it to restore to")
    return dict(parsed.connect_args)
