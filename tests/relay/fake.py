"""A broker in memory that keeps the promises of `Publisher` (conformance suite), and fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from settler.stages.relaying import Message, Published, PublishRefused


@dataclass(slots=True)
class FakeBroker:
    stored: dict[str, Message] = field(default_factory=dict)
    """By id, in the order they came; one that is known is dropped."""
    sizes: list[int] = field(default_factory=list)
    """Of each batch."""
    in_flight: list[int] = field(default_factory=list)
    """What each batch was to be sent with."""
    is_down: bool = False
    is_refusing: bool = False
    stores: int | None = None
    """Of the next batch only so many messages are stored; `None`: all."""
    confirms: int | None = None
    """Of what is stored only so many messages are confirmed; `None`: all."""

    @property
    def names(self) -> list[str]:
        return list(self.stored)

    async def publish(self, messages: Sequence[Message], *, in_flight: int) -> Published:
        await asyncio.sleep(0)
        self.sizes.append(len(messages))
        self.in_flight.append(in_flight)
        if self.is_refusing:
            raise PublishRefused("the broker has no such stream")
        if self.is_down:
            return Published(confirmed=0, trouble="the broker does not answer")
        stores, self.stores = self.stores, None
        confirms, self.confirms = self.confirms, None
        taken = messages[: len(messages) if stores is None else stores]
        for message in taken:
            self.stored.setdefault(message.id, message)
        confirmed = len(taken) if confirms is None else min(confirms, len(taken))
        trouble = None if confirmed == len(messages) else "the broker went away"
        return Published(confirmed=confirmed, trouble=trouble)

    async def close(self) -> None:
        pass
