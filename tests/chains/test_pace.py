"""Calls a second: by a clock that the waits themselves move."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

import pytest

from chains.errors import RateLimited
from chains.pace import MAX_PACE_WAIT_S, Pace
from chains.replies import Call
from chains.rpc import RpcProvider
from chains.wire import ANYTHING, TEXT
from tests.chains.conftest import Observed, Waits
from tests.chains.scripted_node import ScriptedNode, replying_bytes

CHAIN_ID: Call[object] = Call(method="eth_chainId", params=[], result=ANYTHING)


@dataclass
class Turns:
    """Waits for a pace one after another; `waited_s` of each, `now_s` is the loop's time."""

    pace: Pace
    now_s: float = 1000.0

    async def waits_s(self, *calls: int) -> list[float]:
        """How long each has to wait when it asks as soon as the one before may leave."""
        waited: list[float] = []
        for each in calls:
            before = self.now_s
            await self.pace.wait(each)
            waited.append(round(self.now_s - before, 6))
        return waited

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    made = Turns(Pace(4))
    made.pace._sleep = made.sleep
    monkeypatch.setattr("chains.pace.asyncio.get_running_loop", lambda: Clock(made))
    return made


@dataclass
class Clock:
    turns: Turns

    def time(self) -> float:
        return self.turns.now_s


async def test_wait__first__leaves_at_once(turns: Turns) -> None:
    assert await turns.waits_s(1) == [0]


async def test_wait__singles__leave_evenly(turns: Turns) -> None:
    assert await turns.waits_s(1, 1, 1, 1, 1) == [0, 0.25, 0.25, 0.25, 0.25]


async def test_wait__batch__is_counted_call_by_call(turns: Turns) -> None:
    assert await turns.waits_s(1, 3, 1) == [0, 0.25, 0.75]


async def test_wait__batch_larger_than_a_second__gets_through_and_is_paid_for(turns: Turns) -> None:
    assert await turns.waits_s(100, 1, 1) == [0, 25, 0.25]


async def test_wait__after_a_rest__nothing_was_saved_up(turns: Turns) -> None:
    await turns.waits_s(1)
    turns.now_s += 3600
    assert await turns.waits_s(1, 1) == [0, 0.25]


async def test_wait__queue_beyond_the_bound__is_rate_limited_and_takes_nothing(turns: Turns) -> None:
    await turns.waits_s(int(4 * MAX_PACE_WAIT_S) + 4)
    for _ in range(2):
        with pytest.raises(RateLimited, match="our own bound") as raised:
            await turns.waits_s(1)
        assert raised.value.retry_after_s == MAX_PACE_WAIT_S + 1
    turns.now_s += 1
    assert await turns.waits_s(1) == [MAX_PACE_WAIT_S]


@pytest.mark.parametrize("max_rps", [0, -1, float("nan")])
def test_pace__no_rate__is_a_value_error(max_rps: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Pace(max_rps)


# -- in a provider -----------------------------------------------------------------------------------------------------


async def test_provider__max_rps__paces_calls_and_batches(node: ScriptedNode, waits: Waits, observed: Observed) -> None:
    """The sleep returns at once here: what it was asked for is the queue's length."""
    provider = RpcProvider(node.url, max_rps=0.2, sleep=waits, observer=observed)
    await provider.batch([CHAIN_ID] * 3)
    await provider.call("eth_chainId", [], TEXT)
    assert [round(wait / 5) for wait in waits.seconds] == [3]
    assert [outcome for _, outcome in observed.calls] == ["ok"] * 4
    await provider.close()


async def test_provider__waiting_its_turn__does_not_count_into_the_time_out(
    node: ScriptedNode, observed: Observed
) -> None:
    provider = RpcProvider(node.url, max_rps=4, timeout_s=0.5, attempts=1, observer=observed)
    await asyncio.gather(*[provider.call("eth_chainId", [], TEXT) for _ in range(4)])
    assert observed.calls == [("eth_chainId", "ok")] * 4
    await provider.close()


async def test_provider__queue_beyond_the_bound__is_not_asked(node: ScriptedNode, observed: Observed) -> None:
    provider = RpcProvider(node.url, max_rps=0.01, observer=observed)
    await provider.call("eth_chainId", [], TEXT)
    with pytest.raises(RateLimited, match=r"127\.0\.0\.1: eth_chainId: our own bound"):
        await provider.call("eth_chainId", [], TEXT)
    assert len(node.bodies) == 1
    assert observed.calls == [("eth_chainId", "ok"), ("eth_chainId", "rate_limited")]
    await provider.close()


async def test_provider__each_attempt__waits_its_turn(node: ScriptedNode, waits: Waits) -> None:
    node.next_responses.extend(itertools.repeat(replying_bytes(b"", status=503), 2))
    provider = RpcProvider(node.url, max_rps=0.1, sleep=waits)
    await provider.call("eth_chainId", [], TEXT)
    retries, turns = waits.seconds[0::2], waits.seconds[1::2]
    assert len(node.bodies) == 3
    assert [round(turn / 10) for turn in turns] == [1, 2]
    assert all(retry < 5 for retry in retries)
    await provider.close()
