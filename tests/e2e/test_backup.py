"""The backup drill, as an operator's cron runs it: beside a daemon that customers pay, on both databases; and with
backups that something happened to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from chains.address import to_checksum
from chains.model import Address
from tests.e2e.conftest import Market
from tests.e2e.drilling import DRILL
from tests.support import nursery
from tests.support.daemon import (
    Api,
    ChainTable,
    Process,
    TokenTable,
    clean_environment,
    cli,
    new_address,
    show,
    until,
    write_config,
)
from tests.support.db import on_sqlite
from tests.support.dump import audit
from tests.support.postgres import _binaries

SETTLED_BEFORE = 6
"""Invoices, while more are being paid."""
PAUSE_S = 0.5


@dataclass(frozen=True)
class Drilled:
    code: int
    out: str
    err: str

    @property
    def verdict(self) -> str:
        return self.out.splitlines()[-1]


def drill(*args: str | Path) -> Drilled:
    """A process of its own; PostgreSQL's programs are those of the tests' server."""
    words = [*map(str, args), "--pg-bin", str(_binaries(None))]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        bred = nursery.start(words, env=clean_environment(), stdout=out, stderr=err, main="tests.e2e.drilling")
        code = bred.wait_at_most(100)
        for file in (out, err):
            file.seek(0)
        return Drilled(code, out.read().decode(), err.read().decode())


async def test_drill__while_payments_come__proves_the_backup_and_leaves_nothing_behind(
    market: Market, db_url: str, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    config = write_config(tmp_path, market.chain, database=db_url)
    await asyncio.to_thread(cli, "api-key", "create", "--name", "shop", "--scope", "read", config=config)
    async with Process(config) as process:
        trade = asyncio.create_task(_trade(market, process.api), name="customers")
        await until(lambda: _settled(process.api), lambda n: n >= SETTLED_BEFORE, what="invoices to be settled")
        before = await _settled(process.api)
        done = await asyncio.to_thread(drill, "-c", config, "--to", backups)
        show(done.out)
        assert (done.code, done.err) == (0, ""), done.out
        assert done.verdict.startswith("GOOD: "), done.out
        await until(lambda: _settled(process.api), lambda n: n > before, what="the daemon to settle on")
        trade.cancel()
        await asyncio.gather(trade, return_exceptions=True)
    (backup,) = [file for file in backups.iterdir() if file.suffix != ".json"]
    assert [line.split()[1] for line in done.out.splitlines()[:-1]] == [
        *("backup", "manifest", "restore", "compare", "migrate", "audit", "reconcile")
    ]
    for file in backups.iterdir():
        assert file.stat().st_mode & 0o077 == 0, "it holds secrets"
    said = json.loads(backup.with_name(backup.name + ".json").read_text())
    assert said["rows"]["settlements"] >= SETTLED_BEFORE
    assert said["audit_head"].startswith("1:")
    if db_url.startswith("postgresql"):
        with psycopg.connect(db_url) as conn:
            names = {name for (name,) in conn.execute("SELECT datname FROM pg_database")}
        assert not [name for name in names if name.startswith("settler_drill")]
    await audit(db_url)  # the source is whole


async def _trade(market: Market, api: Api) -> None:
    """Customers, until it is cancelled."""
    while True:
        await market.pay(*[await api.create("1.50") for _ in range(3)])
        await asyncio.sleep(PAUSE_S)


async def _settled(api: Api) -> int:
    return int((await api.metrics()).total("settler_invoices", status="settled"))


# -- backups that something happened to --------------------------------------------------------------------------------

ADDRESS = Address(bytes.fromhex("5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"))


@pytest.fixture
def config(tmp_path: Path, db_url: str) -> Path:
    """A database with an invoice and an operator's action in it; nobody answers for the chain."""
    written = write_config(
        tmp_path, ChainTable(rpc="http://127.0.0.1:1", tokens=[TokenTable(address=new_address())]), database=db_url
    )
    for words in (
        (
            "invoice",
            "create",
            "--amount",
            "1.00",
            "--reference",
            "o-1",
            "--option",
            f"anvil:USDC:{to_checksum(ADDRESS)}",
        ),
        ("api-key", "create", "--name", "shop", "--scope", "read"),
    ):
        assert cli(*words, config=written).returncode == 0
    return written


def taken(config: Path) -> Path:
    """A backup, which is good."""
    done = drill("-c", config, "--to", config.parent, "--no-chain", "--json")
    said = json.loads(done.out)
    assert (done.code, said["is_good"]) == (0, True), done.out + done.err
    assert [step["step"] for step in said["steps"]][-1] == "audit", "no node was asked"
    return Path(said["backup"])


def manifest_of(backup: Path) -> Path:
    return backup.with_name(backup.name + ".json")


def cut_off(backup: Path) -> None:
    with backup.open("r+b") as file:
        file.truncate(backup.stat().st_size - 1)


def one_byte(backup: Path) -> None:
    flip(backup, backup.stat().st_size // 2, 1)


def no_manifest(backup: Path) -> None:
    manifest_of(backup).unlink()


def before_it_was_hashed(backup: Path) -> None:
    """As bad memory does: file and manifest agree, and are both wrong."""
    size = backup.stat().st_size
    flip(backup, size // 4, size // 2)
    hashed_again(backup)


def flip(backup: Path, at: int, length: int) -> None:
    with backup.open("r+b") as file:
        file.seek(at)
        old = file.read(length)
        file.seek(at)
        file.write(bytes(byte ^ 0x55 for byte in old))


def hashed_again(backup: Path) -> None:
    said = json.loads(manifest_of(backup).read_text())
    said |= {"sha256": hashlib.sha256(backup.read_bytes()).hexdigest(), "bytes": backup.stat().st_size}
    manifest_of(backup).write_text(json.dumps(said))


HARMS: dict[Callable[[Path], None], str] = {
    cut_off: "it was cut off or changed",
    one_byte: "its SHA-256 is another",
    no_manifest: "cannot be read",
    before_it_was_hashed: "",
}


def test_drill__damaged_backup__is_not_good(config: Path, tmp_path: Path) -> None:
    backup = taken(config)
    for harm, words in HARMS.items():
        folder = tmp_path / harm.__name__
        folder.mkdir()
        damaged = folder / backup.name
        shutil.copy(backup, damaged)
        shutil.copy(manifest_of(backup), folder)
        harm(damaged)
        done = drill("-c", config, "--backup", damaged, "--no-chain")
        assert (done.code, done.verdict.partition(":")[0]) == (1, "NOT GOOD"), harm
        assert words in done.verdict
        assert ("FAILED restore" in done.out) is (harm is before_it_was_hashed)


@on_sqlite
def test_drill__row_changed_or_gone_or_the_audit_log_cut__is_named(config: Path) -> None:
    """Somebody had the backup in hand, and wrote its manifest anew."""
    backup = taken(config)
    good, manifest = backup.read_bytes(), manifest_of(backup).read_text()
    for statement, words in (
        ("UPDATE invoices SET reference = 'o-2'", "invoices: as many rows, but not the same"),
        ("DELETE FROM events WHERE seq = 1", "events: 1 rows in the source, 0 restored"),
        ("DROP TABLE relays", "relays: 0 rows in the source, no restored"),
    ):
        backup.write_bytes(good)
        manifest_of(backup).write_text(manifest)
        with closing(sqlite3.connect(backup)) as db:
            db.execute(statement)
            db.commit()
        hashed_again(backup)
        done = drill("-c", config, "--backup", backup, "--no-chain")
        assert done.code == 1
        assert words in done.verdict
    backup.write_bytes(good)
    manifest_of(backup).write_text(json.dumps(json.loads(manifest) | {"audit_head": f"1:{'9c' * 32}"}))
    done = drill("-c", config, "--backup", backup, "--no-chain")
    assert done.code == 1
    assert "the audit log was written anew" in done.verdict


@on_sqlite
def test_drill__wrong_usage__is_a_line_and_code_2(config: Path, tmp_path: Path) -> None:
    """As an operator starts it."""
    for args in (("--to", tmp_path / "nowhere"), ("--backup", tmp_path / "none.db")):
        done = subprocess.run(
            [sys.executable, DRILL, "-c", config, *args],
            env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: --")


@on_sqlite
def test_drill__chain_that_was_never_read__is_no_proof(config: Path) -> None:
    done = drill("-c", config, "--to", config.parent)
    assert done.code == 1
    assert "anvil was not read yet" in done.verdict
