"""Ticks as spans: those that did something, with the calls they made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from chains.errors import RateLimited
from settler.clock import FakeClock
from settler.runtime.loop import Loop, Ticked, run
from settler.runtime.tally import TallyingObserver
from settler.stages.progress import Progress
from settler.tracing import Span
from tests.tracing.test_tracer import Sink, tracer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Ignored:
    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        pass

    def before_tick(self, chain: str) -> int:
        return 0

    async def after_tick(self, tick: Ticked) -> None:
        pass


async def ticked(*ticks: Callable[[TallyingObserver], Progress]) -> list[Span]:
    """What is told of a loop whose stage does these, one after the other."""
    sink, clock, stop = Sink(), FakeClock(NOW), asyncio.Event()
    live = tracer(sink, clock)
    observer = TallyingObserver(Ignored(), provider="node.example", tracer=live)
    left = list(ticks)

    class Stage:
        async def tick(self) -> Progress:
            do = left.pop(0)
            if not left:
                stop.set()
            return do(observer)

    async def pause_s() -> float:
        return 1.0

    stage = Stage()
    loop = Loop(
        stage=stage, name="watch", chain="base", pause_s=pause_s, clock=clock, jitter=lambda: 0.0, watcher=Ignored(),
        tracer=live,
    )  # fmt: skip
    await run(loop, stop)
    return sink.spans


def idle(observer: TallyingObserver) -> Progress:
    observer.on_call("eth_getBlockByNumber", "ok", 0.1)
    return Progress(has_more=False, facts={"head": 7})


def busy(observer: TallyingObserver) -> Progress:
    observer.on_call("eth_getLogs", "ok", 0.25)
    observer.on_call("eth_getLogs", "rate_limited", 0.5)
    return Progress(has_more=False, facts={"span": "5..7", "transfers": 1})


def failing(_observer: TallyingObserver) -> Progress:
    raise RateLimited("node.example: slow down")


async def test_tick__that_found_nothing__is_not_told() -> None:
    assert await ticked(idle, idle) == []


async def test_tick__that_did_something__is_told_with_its_calls() -> None:
    tick, first, second = await ticked(idle, busy)
    assert tick.attributes == {
        "settler.stage": "watch",
        "settler.chain": "base",
        "settler.outcome": "ok",
        "settler.tick.span": "5..7",
        "settler.tick.transfers": 1,
    }
    assert (tick.name, tick.parent, tick.error) == ("stage.tick", None, None)
    assert [call.parent for call in (first, second)] == [tick.place] * 2
    assert first.attributes == {
        "rpc.system": "jsonrpc",
        "rpc.method": "eth_getLogs",
        "server.address": "node.example",
        "settler.outcome": "ok",
    }
    assert (first.name, first.error, second.error) == ("rpc eth_getLogs", None, "rate_limited")


async def test_tick__that_failed__is_told_with_the_word_for_it() -> None:
    (tick,) = await ticked(failing)
    assert tick.error == tick.attributes["settler.outcome"] == "rate_limited"
    assert "slow down" not in str(tick), "what a node says stays in the log"
