"""`python -m settler.demo`: a shop and its customers for a settler that runs already, on anvil. deploy/compose.yaml."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress

from settler.config import ConfigError, load


def main() -> int:
    """The exit code: 0 after SIGINT or SIGTERM, 2 for a wrong configuration, 1 if settler refuses what is right."""
    asked = _arguments().parse_args()
    try:
        settings = load(asked.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    from settler.demo.traffic import Refused, Stage, play

    is_refused = False
    stage = Stage(
        settings=settings,
        workers=asked.api,
        node=asked.node,
        receiver=asked.receiver,
        receiver_port=asked.receiver_port,
        every_s=asked.every,
    )
    try:
        asyncio.run(_until_asked(play(stage)))
    except* Refused as refused:
        print(f"error: {refused.exceptions[0]}", file=sys.stderr)
        is_refused = True
    return int(is_refused)


async def _until_asked(playing: Coroutine[None, None, None]) -> None:
    """SIGTERM and SIGINT end it: as the first process of a container it has no default for them."""
    task = asyncio.create_task(playing, name="demo")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m settler.demo", description=__doc__)
    parser.add_argument("-c", "--config", default="settler.toml", help="settler's own configuration file")
    parser.add_argument("--api", action="append", required=True, help="address of a worker; several may be given")
    parser.add_argument("--node", required=True, help="URL of the anvil that settler reads")
    parser.add_argument("--receiver", required=True, help="URL under which settler reaches our webhook receiver")
    parser.add_argument("--receiver-port", type=int, default=9000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two invoices")
    return parser


if __name__ == "__main__":
    sys.exit(main())
