"""A folder with a configuration and a database of the test's own, and the command line run in it."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from settler.cli import main

SHOP = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CONFIG = f"""
[database]
url = "sqlite:///settler.db"
[chains.local]
chain_id = 31337
rpc = "http://127.0.0.1:1/k3y-of-the-node"
[chains.local.token.USDC]
address = "{TOKEN}"
decimals = 6
"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The lines of stderr, each an error and none a traceback."""
        lines = self.err.splitlines()
        assert all(line.startswith("error: ") for line in lines), self.err
        return [line.removeprefix("error: ") for line in lines]


@dataclass
class Shell:
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *args: str) -> Ran:
        self.capsys.readouterr()
        code = main(args)
        out, err = self.capsys.readouterr()
        return Ran(code=code, out=out, err=err)

    def create(self, reference: str, *args: str, amount: str = "100.00", option: str = f"local:USDC:{SHOP}") -> Ran:
        return self(
            "invoice", "create", "--amount", amount, "--reference", reference, "--option", option, "--json", *args
        )

    def count(self, table: str) -> int:
        with closing(sqlite3.connect(self.folder / "settler.db")) as db:
            (number,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(number)


@pytest.fixture
def bare_settler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """`settler …` in a folder with a `settler.toml` and no database; logging is put back afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settler.toml").write_text(CONFIG)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Shell(tmp_path, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def settler(bare_settler: Shell, sqlite_template: Path) -> Shell:
    """As `bare_settler`, with an empty, migrated database."""
    shutil.copy(sqlite_template, bare_settler.folder / "settler.db")
    return bare_settler
