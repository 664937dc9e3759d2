"""What any `Publisher` promises: run over NATS JetStream and the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from settler.stages.nats_stream import NatsTarget
from settler.stages.relay_nats import NatsPublisher
from settler.stages.relaying import Message, Published, Publisher, PublishRefused
from tests.relay import nats_server
from tests.relay.fake import FakeBroker
from tests.relay.nats_server import STREAM, SUBJECT, NatsServer
from tests.relay.samples import a_message


class Rig(Protocol):
    """A publisher, and the broker behind it."""

    @property
    def publisher(self) -> Publisher: ...
    async def stored(self) -> Sequence[tuple[str, bytes]]:
        """Ids and bodies, in the order they were stored."""
        ...

    async def goes_down(self) -> None: ...
    async def comes_back(self) -> None: ...
    async def will_not_take_it(self) -> None: ...


@dataclass
class FakeRig:
    publisher: FakeBroker

    async def stored(self) -> Sequence[tuple[str, bytes]]:
        return [(m.id, m.body) for m in self.publisher.stored.values()]

    async def goes_down(self) -> None:
        self.publisher.is_down = True

    async def comes_back(self) -> None:
        self.publisher.is_down = False

    async def will_not_take_it(self) -> None:
        self.publisher.is_refusing = True


@dataclass
class RealRig:
    publisher: NatsPublisher
    server: NatsServer

    async def stored(self) -> Sequence[tuple[str, bytes]]:
        return [(m.id, m.body) for m in await nats_server.stored(self.server)]

    async def goes_down(self) -> None:
        await self.server.stop()

    async def comes_back(self) -> None:
        await self.server.start()

    async def will_not_take_it(self) -> None:
        async with nats_server.connected(self.server) as client:
            await client.jetstream().delete_stream(STREAM)


@pytest.fixture(params=["fake", pytest.param("nats", marks=pytest.mark.slow)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    if request.param == "fake":
        yield FakeRig(FakeBroker())
        return
    async with nats_server.serving(tmp_path) as server:
        await nats_server.add_stream(server)
        publisher = NatsPublisher(NatsTarget(servers=(server.url,), stream=STREAM, subject=SUBJECT))
        yield RealRig(publisher, server)
        await publisher.close()


def some(first: int, count: int) -> list[Message]:
    return [a_message(number, body=f'{{"n":{number}}}'.encode()) for number in range(first, first + count)]


@pytest.mark.parametrize("in_flight", [1, 7, 1_000])
async def test_publish__many__are_stored_once_in_order(rig: Rig, in_flight: int) -> None:
    messages = some(0, 50)
    assert await rig.publisher.publish(messages, in_flight=in_flight) == Published(confirmed=50)
    assert await rig.stored() == [(m.id, m.body) for m in messages]


async def test_publish__known_ids__count_as_stored_and_are_not_stored_again(rig: Rig) -> None:
    await rig.publisher.publish(some(0, 10), in_flight=4)
    assert await rig.publisher.publish(some(0, 20), in_flight=4) == Published(confirmed=20)
    assert [id_ for id_, _ in await rig.stored()] == [m.id for m in some(0, 20)]


async def test_publish__down__says_so_and_goes_on_once_it_is_back(rig: Rig) -> None:
    await rig.publisher.publish(some(0, 3), in_flight=4)
    await rig.goes_down()
    failed = await rig.publisher.publish(some(3, 3), in_flight=4)
    assert failed.confirmed == 0
    assert failed.trouble
    await rig.comes_back()
    published = await rig.publisher.publish(some(3, 3), in_flight=4)
    if published.trouble:  # the connection that broke was noticed by this one
        published = await rig.publisher.publish(some(3, 3), in_flight=4)
    assert published == Published(confirmed=3)
    assert [id_ for id_, _ in await rig.stored()] == [m.id for m in some(0, 6)]


async def test_publish__what_is_never_taken__is_refused(rig: Rig) -> None:
    await rig.publisher.publish(some(0, 1), in_flight=4)
    await rig.will_not_take_it()
    with pytest.raises(PublishRefused, match="stream"):
        for _ in range(3):
            await rig.publisher.publish(some(1, 1), in_flight=4)
