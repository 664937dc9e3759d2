"""PgBouncer in transaction mode before a PostgreSQL server of ours: Debian's (`deploy/install-system.sh`)."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from tests.support.cluster import free_port
from tests.support.postgres import START_WITHIN_S, SUPERUSER, PostgresServer

CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {home}/users
admin_users = {user}
pool_mode = transaction
default_pool_size = {size}
server_check_delay = 1
server_login_retry = 1
logfile = {home}/log
pidfile =
"""
"""The defaults of Debian's file but for who may come in, how many connections there are and how soon a lost server is
asked again."""
RETRY_S = 0.02


class PgBouncer:
    """`with PgBouncer(server, size=3) as bouncer:` — at most `size` connections a database to the server."""

    def __init__(self, server: PostgresServer, *, size: int) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="settler-pgbouncer-"))
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = CONFIG.format(
            host=server.directory, port=server.port, listen=self._port, home=self._home, user=SUPERUSER, size=size
        )
        (self._home / "users").write_text(f'"{SUPERUSER}" ""\n')
        (self._home / "ini").write_text(config)
        for path in (self._home, *self._home.iterdir()) if self._account else ():
            os.chown(path, self._account.pw_uid if self._account else -1, -1)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        assert program is not None, "no pgbouncer: run deploy/install-system.sh"
        account: dict[str, Any] = (
            {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []} if self._account else {}
        )
        self._process = subprocess.Popen(
            [program, "-q", str(self._home / "ini")],
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **account,
        )
        give_up_at = time.monotonic() + START_WITHIN_S
        while True:
            try:
                self.show("VERSION")
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    said = self._home / "log"
                    raise RuntimeError(
                        f"PgBouncer did not start:\n{said.read_text() if said.exists() else ''}"
                    ) from None
                time.sleep(RETRY_S)
            else:
                return

    def kill(self) -> None:
        """Ends it by SIGKILL, and with it all connections through it."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def show(self, what: str) -> list[dict[str, Any]]:
        """The rows of one of its own `SHOW` commands."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True, row_factory=dict_row, connect_timeout=2) as conn:
            return conn.cursor().execute(f"SHOW {what}".encode()).fetchall()

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)
