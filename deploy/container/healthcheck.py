"""Whether the daemon in this container is alive: exit 0 if `/livez` answers 200, else 1. The image's HEALTHCHECK.

Not `/readyz`: that is 503 while a single chain lags, and starting the process again mends no chain. Plain sockets, for
it runs every few seconds: a tenth of what importing an HTTP client costs.
"""

import os
import socket
import sys

TIMEOUT_S = 4.0
"""Below the image's own, so that it is this program that says why."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- read here, not bound


def main() -> int:
    host, _, port = os.environ["SETTLER__API__LISTEN"].rpartition(":")  # noqa: TID251 -- no part of settler
    host = host.strip("[]")
    try:
        with socket.create_connection((EVERYWHERE.get(host, host), int(port)), TIMEOUT_S) as asked:
            asked.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with asked.makefile("rb") as answer:
                status = answer.readline().decode("latin-1").strip()
    except (OSError, ValueError) as error:  # nothing there, or no such address
        sys.stdout.write(f"no answer at {host}:{port}: {error}\n")
        return 1
    sys.stdout.write(f"{status}\n")
    return 0 if status.split(" ")[1:2] == ["200"] else 1


if __name__ == "__main__":
    sys.exit(main())
