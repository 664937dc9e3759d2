"""What any `WebhookSender` promises: run over the real one and the fake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest
import pytest_asyncio

from settler.clock import FakeClock
from settler.domain.delivery import Answered, NoAnswer
from settler.webhook.fake import FakeSender
from settler.webhook.send import HttpSender, WebhookSender
from tests.webhook.receiver import Receiver, raw_server, receiving, reset
from tests.webhook.samples import NOW

TIMEOUT_S = 0.3
HEADERS = {"webhook-id": "evt_1", "webhook-signature": "v1,abc"}


class Rig(Protocol):
    """A sender, and an endpoint for each behaviour."""

    @property
    def sender(self) -> WebhookSender: ...
    def endpoint(self, *codes: int) -> str:
        """Answers these, one after another, then 200."""
        ...

    def hanging(self) -> str: ...
    def broken(self) -> str: ...
    def arrived(self, url: str) -> Sequence[tuple[str, bytes]]:
        """`webhook-id` and body of what arrived there."""
        ...


@dataclass
class FakeRig:
    sender: FakeSender

    def endpoint(self, *codes: int) -> str:
        self.sender.answer("http://e.test/", *(Answered(status_code=code) for code in codes))
        return "http://e.test/"

    def hanging(self) -> str:
        self.sender.hanging.add("http://hang.test/")
        return "http://hang.test/"

    def broken(self) -> str:
        self.sender.answer("http://broken.test/", NoAnswer(reason="reset"))
        return "http://broken.test/"

    def arrived(self, url: str) -> Sequence[tuple[str, bytes]]:
        return [(sent.headers["webhook-id"], sent.body) for sent in self.sender.sent_to(url)]


@dataclass
class RealRig:
    sender: HttpSender
    receiver: Receiver
    broken_url: str

    def endpoint(self, *codes: int) -> str:
        self.receiver.codes["/e"] = list(codes)
        return self.receiver.base + "/e"

    def hanging(self) -> str:
        return self.receiver.base + "/hang"

    def broken(self) -> str:
        return self.broken_url

    def arrived(self, url: str) -> Sequence[tuple[str, bytes]]:
        path = url.removeprefix(self.receiver.base)
        return [(got.headers["webhook-id"], got.body) for got in self.receiver.got_at(path)]


@pytest_asyncio.fixture(params=["fake", "real"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        yield FakeRig(FakeSender(timeout_s=TIMEOUT_S))
        return
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        broken = await stack.enter_async_context(raw_server(reset))
        sender = HttpSender(clock=FakeClock(NOW), allow_private=True, timeout_s=TIMEOUT_S)
        yield RealRig(await stack.enter_async_context(sender), receiver, broken)


async def test_send__ok__delivers_these_bytes_once(rig: Rig) -> None:
    url = rig.endpoint()
    assert await rig.sender.send(url, HEADERS, b'{"a":1}') == Answered(status_code=200)
    assert rig.arrived(url) == [("evt_1", b'{"a":1}')]


async def test_send__any_status__is_the_answer_and_no_exception(rig: Rig) -> None:
    url = rig.endpoint(500, 302, 410)
    replies = [await rig.sender.send(url, HEADERS, b"{}") for _ in range(4)]
    assert replies == [Answered(status_code=code) for code in (500, 302, 410, 200)]


async def test_send__hanging__is_no_answer_in_time(rig: Rig) -> None:
    async with asyncio.timeout(TIMEOUT_S + 2):
        assert isinstance(await rig.sender.send(rig.hanging(), HEADERS, b"{}"), NoAnswer)


async def test_send__broken__is_no_answer(rig: Rig) -> None:
    assert isinstance(await rig.sender.send(rig.broken(), HEADERS, b"{}"), NoAnswer)


async def test_send__one_hangs__another_is_answered_meanwhile(rig: Rig) -> None:
    hanging = asyncio.create_task(rig.sender.send(rig.hanging(), HEADERS, b"{}"))
    await asyncio.sleep(0)
    assert await rig.sender.send(rig.endpoint(), HEADERS, b"{}") == Answered(status_code=200)
    assert not hanging.done()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
