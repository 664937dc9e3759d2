"""`settler bench …` as a process of its own, as people run it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.daemon import cli, show


async def said(*args: str) -> dict[str, Any]:
    """What `settler bench ARGS --json` prints, once it has succeeded."""
    done = await asyncio.to_thread(cli, "bench", *args, "--json")
    assert done.returncode == 0, done.stderr
    show(done.stdout)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
