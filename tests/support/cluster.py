"""A PostgreSQL primary and its standby on this machine: each commit is with both before it is answered, so that nothing
answered is lost when the standby takes over.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Self

from tests.support.postgres import DURABLE, SUPERUSER, PostgresServer

SETTINGS = {**DURABLE, "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}


class Cluster:
    """`with Cluster() as cluster:` — ended and removed after the block."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.primary = PostgresServer(settings=SETTINGS, port=free_port())
            stack.callback(self.primary.remove)
            self.primary.start()
            self.standby = PostgresServer(settings=SETTINGS, port=free_port(), standby_of=self.primary)
            stack.callback(self.standby.remove)
            self.standby.start()
            self.primary.wait_for_standby()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def url(self, database: str, parameters: str = "target_session_attrs=read-write") -> str:
        """Both servers; the client finds the one that takes writes."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return f"postgresql://{SUPERUSER}@{hosts}/{database}?{parameters}"


def free_port() -> int:
    """Of 127.0.0.1, free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
