"""Simulated receivers: the real sender among all that may happen to it, and senders that do what they must not."""

from __future__ import annotations

import asyncio
import functools
import gc
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import standardwebhooks
from aiohttp.client_proto import ResponseHandler

from settler.domain.delivery import Answered, Delivered, Disable, Reply, Retry, verdict
from settler.domain.ids import EventId
from settler.simulation.clock import SimClock, VirtualLoop
from settler.simulation.life import Dead, Life
from settler.simulation.receiver_faults import PRIVATE
from settler.simulation.receiver_requests import Request, is_signed
from settler.simulation.receivers import FAULTS, Receiver, Receivers
from settler.webhook import sign
from settler.webhook.guard import refusal
from settler.webhook.network import vet_nothing
from settler.webhook.send import HttpSender

TIMES = 40
"""Attempts under a fault, so that each of its variants comes up."""


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


@dataclass
class World:
    """Two receivers, and one process with a sender."""

    seed: int = 1
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = SimClock(asyncio.get_running_loop())
        self.receivers = Receivers(random.Random(self.seed), self.clock, on_trace=self.trace.append)
        self.shop = self.receivers.add("shop.example")
        self.other = self.receivers.add("other.example")
        self.life = Life("one")
        self.sender = self.receivers.sender(self.clock, self.life)

    async def send(self, id_: str = "evt_1", to: Receiver | None = None, **changes: Any) -> Reply:
        receiver = to or self.shop
        body = a_body(id_, **changes)
        headers = sign.headers(id_, self.clock.now(), body, receiver.secrets)
        return await self.sender.send(receiver.url, headers, body)

    def unvetted(self, **how: Any) -> aiohttp.ClientSession:
        """A client without the sender's care."""
        return aiohttp.ClientSession(connector=self.receivers.network(self.life).connector(vet_nothing), **how)

    @property
    def told(self) -> list[str]:
        return [violation.what for violation in self.receivers.violations]

    async def close(self) -> None:
        await self.sender.close()


def a_body(id_: str = "evt_1", **changes: Any) -> bytes:
    body = {"id": id_, "type": "invoice.settled", "created_at": "2026-01-01T00:00:00Z", "data": {"id": "inv_1"}}
    return sign.encode({**body, **changes})


# When all is well


@virtual
async def test_send__well__is_processed_once_as_it_was_sent() -> None:
    world = World()
    assert verdict(await world.send()) == Delivered()
    [taken] = world.shop.processed
    assert (taken.event_id, taken.type, taken.body) == ("evt_1", "invoice.settled", a_body())
    assert taken.sent_at <= taken.at <= taken.sent_at + timedelta(seconds=1)
    assert taken.answered in world.shop.answered
    assert world.receivers.violations == []
    await world.close()


@virtual
async def test_send__the_same_again__is_processed_twice_and_first_once() -> None:
    world = World()
    for _ in range(2):
        await world.send()
    assert [taken.event_id for taken in world.shop.processed] == ["evt_1", "evt_1"]
    assert world.shop.first == {"evt_1": world.shop.processed[0]}
    assert world.shop.times == {"evt_1": 2}
    assert world.told == []
    await world.close()


@virtual
async def test_send__secret_rotated__either_signature_verifies() -> None:
    world = World()
    world.shop.secrets.append(world.other.secrets[0])
    await world.send()
    world.shop.secrets.pop(0)
    await world.send("evt_2")
    assert [taken.event_id for taken in world.shop.processed] == ["evt_1", "evt_2"]
    await world.close()


def test_private__each_of_them__is_refused_by_the_guard() -> None:
    assert all(refusal(address) for address in PRIVATE)


# Faults: what each does, and that it can do no more

NEVER, ALWAYS, SOMETIMES = "never", "always", "sometimes"
EFFECTS: dict[str, tuple[str, str]] = {
    # acknowledged, processed
    "name does not resolve": (NEVER, NEVER),
    "name server is silent": (NEVER, NEVER),
    "DNS rebinding": (SOMETIMES, SOMETIMES),
    "refuses connections": (NEVER, NEVER),
    "connection hangs": (NEVER, NEVER),
    "time-out after processing": (NEVER, ALWAYS),
    "reset before processing": (NEVER, NEVER),
    "reset after processing": (NEVER, ALWAYS),
    "receiver 5xx": (NEVER, SOMETIMES),
    "receiver 4xx": (NEVER, NEVER),
    "receiver 429": (NEVER, NEVER),
    "410 gone": (NEVER, NEVER),
    "redirect": (NEVER, NEVER),
    "slow answer": (SOMETIMES, ALWAYS),
    "garbage answer": (NEVER, SOMETIMES),
    "wrong status line": (NEVER, SOMETIMES),
    "receiver huge answer": (SOMETIMES, ALWAYS),
    "answers 200 with an endless body": (ALWAYS, ALWAYS),
}


def _how_often(count: int) -> str:
    return {0: NEVER, TIMES: ALWAYS}.get(count, SOMETIMES)


def test_effects__stand_for_every_fault() -> None:
    assert tuple(EFFECTS) == FAULTS


@pytest.mark.parametrize("name", FAULTS)
@virtual
async def test_fault__alone__strikes_and_what_is_acknowledged_was_processed(name: str) -> None:
    world = World()
    world.receivers.inject(name, 1.0)
    acknowledged = []
    for number in range(TIMES):
        id_ = EventId(f"evt_{number}")
        reply = await asyncio.wait_for(world.send(id_), 17)
        if verdict(reply) == Delivered():
            acknowledged.append(id_)
        assert isinstance(verdict(reply), Disable) == (name == "410 gone")
    await asyncio.sleep(30)  # what is slow to be processed
    failed = {EventId(f"evt_{number}") for number in range(TIMES)} - set(acknowledged)
    assert world.shop.failed == Counter(failed), "counted from outside, without asking the sender"
    assert world.receivers.struck[name] > TIMES / 3
    assert set(world.receivers.struck) == {name}
    assert (_how_often(len(acknowledged)), _how_often(len(world.shop.processed))) == EFFECTS[name]
    assert set(acknowledged) <= set(world.shop.first)
    assert world.told == []
    await world.close()


@virtual
async def test_fault__429__asks_for_time_in_each_way_there_is() -> None:
    world = World()
    world.receivers.inject("receiver 429", 1.0)
    replies = [await world.send(f"evt_{number}") for number in range(TIMES)]
    asked = {reply.retry_after_s for reply in replies if isinstance(reply, Answered)}
    assert {None, 3_600.0} < asked
    await world.close()


@virtual
async def test_faults__healed_and_withdrawn__strike_no_more() -> None:
    world = World()
    world.receivers.inject("410 gone", 1.0)
    world.receivers.inject("redirect", 1.0, host="other.example")
    world.receivers.withdraw("410 gone", host="shop.example")
    assert verdict(await world.send()) == Delivered()
    assert not isinstance(verdict(await world.send(to=world.other)), Delivered)
    added = world.receivers.add("third.example")
    assert isinstance(verdict(await world.send(to=added)), Disable)
    world.receivers.heal()
    for receiver in world.receivers:
        assert verdict(await world.send("evt_2", to=receiver)) == Delivered()
    await world.close()


@virtual
async def test_faults__all_at_once__same_seed_same_story() -> None:
    def drawn(world: World) -> None:
        for name in FAULTS:
            world.receivers.inject(name, 0.1)

    stories = []
    for seed in (1, 1, 2):
        world = World(seed)
        started = world.clock.monotonic()
        drawn(world)
        replies = [await world.send(f"evt_{number}") for number in range(TIMES)]
        stories.append((replies, world.trace, world.receivers.struck, round(world.clock.monotonic() - started, 6)))
        assert world.told == []
        await world.close()
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


# A sender that does what it must not is found out


@virtual
async def test_violation__names_not_vetted__somebody_came_to_a_private_address() -> None:
    world = World()
    world.receivers.inject("DNS rebinding", 1.0)
    async with HttpSender(
        clock=world.clock, allow_private=True, network=world.receivers.network(world.life)
    ) as careless:
        for _ in range(5):
            await careless.send(world.shop.url, {}, b"{}")
    assert any("a connection to a private address" in what for what in world.told)
    await world.close()


@virtual
async def test_violation__private_addresses_allowed__is_none() -> None:
    world = World()
    async with world.receivers.sender(world.clock, world.life, allow_private=True) as sender:
        await sender.send("http://169.254.169.254/", {}, b"{}")
    assert world.told == []
    await world.close()


@virtual
async def test_rebinding__looked_up_twice__some_second_answer_is_private() -> None:
    """Who vets one answer and connects by another: that is what rebinding is."""
    world = World()
    world.receivers.inject("DNS rebinding", 1.0)
    pairs = [[await world.receivers.look_up("shop.example") for _ in range(2)] for _ in range(TIMES)]
    public = list(world.shop.addresses)
    assert any(first == public and refusal(second[0]) for first, second in pairs)
    await world.close()


@virtual
async def test_violation__redirects_followed__are_seen_at_their_targets() -> None:
    world = World()
    world.receivers.inject("redirect", 1.0, host="shop.example")
    body = a_body()
    async with world.unvetted() as session:
        for _ in range(TIMES):
            headers = sign.headers("evt_1", world.clock.now(), body, world.shop.secrets)
            try:
                await session.post(world.shop.url, data=body, headers=headers)
            except aiohttp.ClientError:
                continue
    assert any(what.endswith("/redirected: was a redirect followed?") for what in world.told)
    assert any("a connection to a private address" in what for what in world.told)
    await world.close()


@pytest.mark.parametrize("name", ["receiver huge answer", "answers 200 with an endless body"])
@virtual
async def test_violation__answer_read_without_a_bound__is_seen(name: str) -> None:
    world = World()
    world.receivers.inject(name, 1.0)
    body = a_body()
    async with world.unvetted(max_headers=1_000_000) as session:
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        connector._factory = functools.partial(ResponseHandler, loop=asyncio.get_running_loop())
        for _ in range(8):
            headers = sign.headers("evt_1", world.clock.now(), body, world.shop.secrets)
            try:
                async with asyncio.timeout(1), session.post(world.shop.url, data=body, headers=headers) as response:
                    async for _chunk in response.content.iter_any():
                        pass
            except (TimeoutError, aiohttp.ClientError):
                continue
    assert any(what.endswith("bytes of one answer were read") for what in world.told)
    await world.close()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"id": "evt_2"}, "not the body of an event"),
        ({"data": {}}, "not the body of an event"),
        ({"type": "invoice.paid"}, "which is none"),
        ({"created_at": "2026-01-01T00:00:00"}, "no zone"),
        ({"created_at": "today"}, "today"),
    ],
)
@virtual
async def test_violation__body_that_is_no_event__is_seen(changes: dict[str, Any], what: str) -> None:
    world = World()
    assert verdict(await world.send(**changes)) != Delivered()
    assert len(world.told) == 1
    assert what in world.told[0]
    assert world.shop.processed == []
    await world.close()


@virtual
async def test_violation__another_body_under_the_same_id__is_seen() -> None:
    world = World()
    await world.send()
    await world.send(data={"id": "inv_2"})
    assert world.told == ["two bodies under the id evt_1"]
    await world.close()


@virtual
async def test_violation__signed_for_another__is_seen() -> None:
    world = World()
    body = a_body()
    headers = sign.headers("evt_1", world.clock.now(), body, world.other.secrets)
    assert await world.sender.send(world.shop.url, headers, body) == Answered(status_code=401)
    assert "not signed with a secret of this receiver" in world.told[0]
    await world.close()


@pytest.mark.parametrize("hours", [-1, 1])
@virtual
async def test_violation__timestamp_is_off__only_where_clocks_are_right(hours: int) -> None:
    world = World()
    body = a_body()
    headers = sign.headers("evt_1", world.clock.now() + timedelta(hours=hours), body, world.shop.secrets)
    world.receivers.timestamps_may_be_off = True
    assert await world.sender.send(world.shop.url, headers, body) == Answered(status_code=401)
    assert (world.receivers.refused, world.told) == (1, [])
    world.receivers.timestamps_may_be_off = False
    await world.sender.send(world.shop.url, headers, body)
    assert "after its timestamp" in world.told[0]
    assert world.shop.processed == []
    await world.close()


@pytest.mark.parametrize("change", [{}, {"webhook-id": "evt_2"}, {"webhook-timestamp": "1"}, {"webhook-signature": ""}])
def test_is_signed__as_the_library_of_merchants_has_it(change: dict[str, str]) -> None:
    secret, body = sign.new_secret(bytes(32)), a_body()
    now = datetime.now(UTC)  # the library knows no other clock
    headers = {**sign.headers("evt_1", now, body, [sign.new_secret(bytes(range(32))), secret]), **change}
    try:
        standardwebhooks.Webhook(secret).verify(body, headers)
        is_genuine = True
    except standardwebhooks.WebhookVerificationError:
        is_genuine = False
    assert is_signed(Request("POST", "/hook", headers, body), [secret]) == is_genuine
    assert is_genuine == (not change)


# Life and death


@virtual
async def test_frozen__before_it_connects__nothing_leaves_until_it_moves() -> None:
    world = World()
    world.life.freeze()
    sending = asyncio.create_task(world.send())
    await asyncio.sleep(5)
    assert world.trace == []
    world.life.thaw()
    assert verdict(await sending) == Delivered()
    await world.close()


@virtual
async def test_frozen__while_it_waits_for_the_answer__hears_it_when_it_moves() -> None:
    world = World()
    sending = asyncio.create_task(world.send())
    await asyncio.sleep(0.001)  # it has arrived, and takes longer than that
    assert len(world.trace) == 1
    world.life.freeze()
    await asyncio.sleep(5)
    assert len(world.shop.processed) == 1
    assert not sending.done()
    world.life.thaw()
    assert verdict(await sending) == Delivered()
    await world.close()


@virtual
async def test_killed__while_it_waits_for_the_answer__is_dead_and_the_receiver_works_on() -> None:
    world = World()
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    sending = [asyncio.create_task(world.send(f"evt_{number}")) for number in range(3)]
    await asyncio.sleep(0.001)
    assert len(world.trace) == 3
    world.life.kill()
    ends = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(end) for end in ends] == [Dead] * 3
    await asyncio.sleep(5)
    assert {taken.event_id for taken in world.shop.processed} == {"evt_0", "evt_1", "evt_2"}
    del world, sending, ends
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == [], "nothing of the dead was left open"


@pytest.mark.parametrize("is_frozen", [False, True])
@virtual
async def test_killed__before_it_connects__nothing_arrives(is_frozen: bool) -> None:
    world = World()
    if is_frozen:
        world.life.freeze()
    sending = asyncio.create_task(world.send())
    if is_frozen:
        await asyncio.sleep(5)
    world.life.kill()
    with pytest.raises(Dead):
        await sending
    await asyncio.sleep(30)
    assert (world.trace, world.shop.processed) == ([], [])


@virtual
async def test_send__over_tls__finds_nobody() -> None:
    """Said in the module's docstring: an endpoint of a simulated world has an http:// URL."""
    world = World()
    reply = await world.sender.send(world.shop.url.replace("http:", "https:"), {}, b"{}")
    assert isinstance(verdict(reply), Retry)
    assert world.trace == []
    await world.close()
