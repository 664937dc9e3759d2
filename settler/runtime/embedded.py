"""The daemon inside another program of ours: the demo and the benchmarks run the real one, from a real file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from settler.config import load
from settler.runtime.supervisor import daemon


@asynccontextmanager
async def embedded(config: Path) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The daemon of a configuration file, as an operator would write it; its API's address, and its stop.

    The environment is not read: what others see does not depend on this machine's.
    """
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    run = asyncio.create_task(daemon(load(config, {}), stop=stop, on_listening=listening.set_result), name="daemon")
    try:
        first: list[asyncio.Future[Any]] = [run, listening]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            run.result()
        yield listening.result(), stop
    finally:
        stop.set()
        await run
