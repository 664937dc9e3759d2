#!/usr/bin/env python3
"""Makes a backup of settler's database, or takes one that is there, and proves that it can be restored.

    drill.py -c settler.toml --to /var/backups/settler           # from cron: back up, restore, verify
    drill.py -c settler.toml --backup /var/backups/settler/F     # verify that one

    #   source ──one snapshot──▶ backup file + manifest ──▶ scratch database ──▶ compare, migrate, audit, reconcile
    #      read only               0600, beside each other     dropped at the end

The manifest (`F.json`) says what the snapshot held: rows a table, a digest of what money rests on, the head of the
audit log. Beside a running daemon; the source is only read. SQLite needs nothing but this Python, PostgreSQL its own
`pg_dump` and `pg_restore`, not older than the server. Run it with the Python that settler is installed in.

Exit: 0 the backup is good · 1 it is not, or none could be made · 2 wrong usage.
"""

# ruff: noqa: T201, TID251 -- an operator's program: it prints, and lets settler's environment name another database

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from databases import Contents, NotGood, Postgres, Source, Sqlite, WrongUsage

from settler.cli import main as settler
from settler.clock import SystemClock
from settler.config import ConfigError, load
from settler.storage.url import PostgresUrl, parse_url


@dataclass
class Report:
    """Says each step as it is done, and keeps it for `--json`."""

    is_quiet: bool
    steps: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        facts: dict[str, Any] = {"step": name, "is_good": False}
        self.steps.append(facts)
        started = time.monotonic()
        try:
            yield facts
            facts["is_good"] = True
        except NotGood as error:
            facts["detail"] = str(error)
            raise
        finally:
            facts["seconds"] = round(time.monotonic() - started, 1)
            if not self.is_quiet:
                verdict = "ok    " if facts["is_good"] else "FAILED"
                print(f"{verdict} {name:<10} {facts['seconds']:>6.1f} s  {facts.get('detail', '')}", flush=True)


def back_up(source: Source, folder: Path, report: Report) -> Path:
    """The backup, whole or not there: what is being written has another name."""
    if not folder.is_dir():
        raise WrongUsage(f"--to {folder}: there is no such folder")
    os.umask(0o077)  # it holds secrets that sign webhooks
    backup = folder / f"settler-{SystemClock().now():%Y%m%dT%H%M%SZ}{source.suffix}"
    partial = backup.with_name(backup.name + ".partial")
    with report.step("backup") as facts:
        try:
            held = source.back_up(partial)
            manifest = _manifest(source, partial, held)
            _synced(partial)
            _manifest_of(backup).write_text(json.dumps(manifest, indent=2) + "\n")
            partial.rename(backup)
        except (sqlite3.Error, psycopg.Error, OSError) as error:
            raise NotGood(f"it could not be made: {' '.join(str(error).split())}") from error
        finally:
            partial.unlink(missing_ok=True)
        facts |= {"file": str(backup), "bytes": manifest["bytes"]}
        facts["detail"] = f"{backup} ({manifest['bytes'] / 1e6:.1f} MB, {sum(held.rows.values())} rows)"
    return backup


def verify(source: Source, backup: Path, config: Path, scratch: str | None, report: Report, *, is_chain: bool) -> None:
    """Raises `NotGood` at the first thing that is wrong with the backup."""
    if not backup.is_file():
        raise WrongUsage(f"--backup {backup}: there is no such file")
    with report.step("manifest") as facts:
        expected = _read_manifest(source, backup)
        facts["detail"] = f"the file is as it was written, of {expected.rows['settlements']} settlements"
    restoring = source.restored(backup, scratch)
    with report.step("restore") as facts:
        try:
            url, found = restoring.__enter__()
        except (psycopg.Error, OSError) as error:
            raise NotGood(f"it could not be restored: {' '.join(str(error).split())}") from error
    try:
        with report.step("compare") as facts:
            differences = expected.differences(found)
            if differences:
                raise NotGood("; ".join(differences[:10]))
            facts["detail"] = f"{len(found.rows)} tables as in the source, {len(found.digests)} of them row by row"
        head = () if expected.audit_head is None else ("--expect-head", expected.audit_head)
        commands: list[tuple[str, tuple[str, ...]]] = [("migrate", ("migrate",)), ("audit", ("audit", "verify", *head))]
        if is_chain:
            commands.append(("reconcile", ("reconcile",)))
        with _on(url):
            for name, words in commands:
                with report.step(name) as facts:
                    facts["detail"] = _settler(*words, "-c", str(config))
    finally:
        restoring.__exit__(None, None, None)


def _settler(*words: str) -> str:
    """Runs the command, in this process; its last line. Raises `NotGood` where it found a problem."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = settler(words)
    lines = said.getvalue().strip().splitlines()
    if code != 0:
        raise NotGood(f"settler {words[0]} ended with {code}: {' | '.join(lines[-8:])}")
    return lines[-1] if lines else ""


@contextmanager
def _on(url: str) -> Iterator[None]:
    """settler's configuration names this database within the block, whatever it named before."""
    before = dict(os.environ)
    os.environ.pop("SETTLER__DATABASE__URL_FILE", None)
    os.environ["SETTLER__DATABASE__URL"] = url
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# -- the manifest ------------------------------------------------------------------------------------------------------


def _manifest_of(backup: Path) -> Path:
    return backup.with_name(backup.name + ".json")


def _manifest(source: Source, file: Path, held: Contents) -> dict[str, Any]:
    return {
        "made_at": f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ}",
        "kind": source.kind,
        "revision": held.revision,
        "bytes": file.stat().st_size,
        "sha256": _sha256(file),
        "audit_head": held.audit_head,
        "rows": dict(held.rows),
        "digests": dict(held.digests),
    }


def _read_manifest(source: Source, backup: Path) -> Contents:
    """What the backup ought to hold. Raises `NotGood` where the file is not what was written."""
    try:
        said = json.loads(_manifest_of(backup).read_text())
        kind, size, digest = said["kind"], said["bytes"], said["sha256"]
        expected = Contents(
            rows=said["rows"], digests=said["digests"], revision=said["revision"], audit_head=said["audit_head"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotGood(f"its manifest {_manifest_of(backup)} cannot be read: {error!r}") from error
    if kind != source.kind:
        raise WrongUsage(f"--backup {backup}: is of {kind}, the configuration names {source.kind}")
    if backup.stat().st_size != size:
        raise NotGood(f"the file has {backup.stat().st_size} bytes, {size} were written: it was cut off or changed")
    if _sha256(backup) != digest:
        raise NotGood("the file was changed since it was written: its SHA-256 is another")
    return expected


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _synced(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


# -- the command -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    report = Report(is_quiet=given.json)
    problem: str | None = None
    backup: Path | None = given.backup
    try:
        source = _source(given.config, given.pg_bin)
        if backup is None:
            backup = back_up(source, given.to, report)
        verify(source, backup, given.config, given.scratch, report, is_chain=not given.no_chain)
    except WrongUsage as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NotGood as error:
        problem = str(error)
    against = "" if given.no_chain else ", and its records agree with the chains"
    if given.json:
        print(
            json.dumps({"is_good": problem is None, "backup": str(backup), "problem": problem, "steps": report.steps})
        )
    elif problem is None:
        print(f"GOOD: {backup} can be restored{against}")
    else:
        print(f"NOT GOOD: {problem}")
    return 0 if problem is None else 1


def _source(config: Path, programs: Path | None) -> Source:
    try:
        url = parse_url(load(config).database_url)
    except ConfigError as error:
        raise WrongUsage("; ".join(map(str, error.problems))) from None
    if isinstance(url, PostgresUrl):
        return Postgres(url.connect_args, programs)
    if url.path is None:
        raise WrongUsage("database.url: a database in memory cannot be backed up")
    return Sqlite(url.path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drill.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("-c", "--config", type=Path, default=Path("settler.toml"), help="settler's configuration")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=Path, metavar="FOLDER", help="make a backup there, then verify it")
    what.add_argument("--backup", type=Path, metavar="FILE", help="verify this one, made by an earlier drill")
    parser.add_argument(
        "--scratch",
        metavar="WHERE",
        help="where to restore to: a folder (SQLite; default: the system's for temporary files), or a URL of a server "
        "on which a database may be made (PostgreSQL; default: the source's server)",
    )
    parser.add_argument("--pg-bin", type=Path, metavar="FOLDER", help="where pg_dump and pg_restore are; default: PATH")
    parser.add_argument("--no-chain", action="store_true", help="do not compare with the chains: no node is asked")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON, on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
