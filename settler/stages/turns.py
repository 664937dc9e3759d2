"""Long work in pieces: the API and the other chains live in the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

T = TypeVar("T")

PIECE = 200
"""Payments or invoices looked at in one go: some 10 ms."""


async def in_turns(values: Iterable[T]) -> AsyncIterator[T]:
    """The values in order; after each so many, everybody else has a turn."""
    for at, value in enumerate(values, start=1):
        yield value
        if at % PIECE == 0:
            await asyncio.sleep(0)
