"""A sender that reaches nobody: for tests of what stands above it. Keeps the promises of `WebhookSender` (conformance
suite); the simulation has the real sender (`settler.simulation.receivers`)."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from settler.domain.delivery import Answered, NoAnswer, Reply

DELIVERED = Answered(status_code=200)


@dataclass(frozen=True, slots=True)
class Sent:
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class FakeSender:
    """Answers what it was told to, else 200, and remembers all it was given."""

    timeout_s: float = 15.0
    sent: list[Sent] = field(default_factory=list)
    answers: defaultdict[str, deque[Reply]] = field(default_factory=lambda: defaultdict(deque))
    """Per URL, the next answers; then `default`."""
    default: Reply = DELIVERED
    hanging: set[str] = field(default_factory=set)
    """URLs that never answer: `send` waits `timeout_s` of real time."""

    def answer(self, url: str, *replies: Reply) -> None:
        self.answers[url].extend(replies)

    def sent_to(self, url: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.url == url]

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.sent.append(Sent(url, dict(headers), body))
        if url in self.hanging:
            await asyncio.sleep(self.timeout_s)
            return NoAnswer(reason=f"no answer within {self.timeout_s:g} s")
        await asyncio.sleep(0)
        return self.answers[url].popleft() if self.answers[url] else self.default
