"""The databases that benchmarks write to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from settler.storage.connect import POOL_SIZE
from settler.storage.engine import Database


@asynccontextmanager
async def opened(url: str, *, pool_size: int = POOL_SIZE) -> AsyncIterator[Database]:
    """Raises as `Database.open` does."""
    db = await Database.open(url, pool_size=pool_size)
    try:
        yield db
    finally:
        await db.dispose()
