"""When the process is ready and alive, and what it says when it is not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from settler.clock import FakeClock
from settler.health import MAX_HEAD_SILENCE_S, MAX_LAG_S, MAX_TICK_SILENCE_S, Health


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def health(clock: FakeClock) -> Health:
    made = Health(clock)
    made.expect_chain("base")
    return made


def reasons(health: Health) -> list[str]:
    is_ready, found = health.ready()
    assert is_ready == (not found)
    return [f"{r['chain']}: {r['reason']}" for r in found]


def test_ready__a_chain_not_read_yet__is_starting(health: Health) -> None:
    assert reasons(health) == ["base: starting: not read yet"]


def test_ready__a_chain_at_its_head__is_ready(health: Health) -> None:
    health.progressed("base", lag_s=0)
    assert reasons(health) == []


def test_ready__a_quiet_chain__stays_ready(health: Health, clock: FakeClock) -> None:
    """Nothing new for an hour, but the head is asked for: that is not being behind."""
    for _ in range(60):
        clock.advance(60)
        health.progressed("base", lag_s=0)
    assert reasons(health) == []


def test_ready__a_scan_that_trails__is_not_ready_until_it_caught_up(health: Health) -> None:
    health.progressed("base", lag_s=MAX_LAG_S + 1)
    assert reasons(health) == ["base: the scan trails the head by 61 s of chain time"]
    health.progressed("base", lag_s=MAX_LAG_S)
    assert reasons(health) == []


def test_ready__no_provider__until_one_answers(health: Health) -> None:
    health.progressed("base", lag_s=0)
    health.provider_down("base")
    assert reasons(health) == ["base: no provider answers"]
    health.progressed("base", lag_s=0)
    assert reasons(health) == []


def test_ready__provider_down_from_the_start__says_so(health: Health) -> None:
    health.provider_down("base")
    assert reasons(health) == ["base: no provider answers"]


def test_ready__halted__until_resumed(health: Health) -> None:
    health.progressed("base", lag_s=0)
    health.halted("base", "finality violation at 5")
    assert reasons(health) == ["base: halted: finality violation at 5"]
    health.progressed("base", lag_s=0)
    assert reasons(health) == ["base: halted: finality violation at 5"]
    health.resumed("base")
    assert reasons(health) == []


def test_ready__refused__until_it_is_as_configured(health: Health) -> None:
    health.refused("base", "serves chain 1")
    assert reasons(health) == ["base: refused: serves chain 1"]
    health.progressed("base", lag_s=0)
    assert reasons(health) == []


def test_ready__head_not_asked_for__is_not_ready(health: Health, clock: FakeClock) -> None:
    health.progressed("base", lag_s=0)
    clock.advance(MAX_HEAD_SILENCE_S + 1)
    assert reasons(health) == ["base: the head was not asked for 151 s"]


def test_ready__one_chain_of_two__names_it(health: Health) -> None:
    health.expect_chain("arbitrum")
    health.progressed("base", lag_s=0)
    assert reasons(health) == ["arbitrum: starting: not read yet"]


def test_ready__stopping__is_not_ready(health: Health) -> None:
    health.progressed("base", lag_s=0)
    health.draining()
    assert reasons(health) == [": the process is stopping"]


def test_alive__loops_that_tick__are_alive(health: Health, clock: FakeClock) -> None:
    health.expect_loop("expire")
    for _ in range(5):
        clock.advance(MAX_TICK_SILENCE_S)
        health.ticked("expire")
    assert health.alive() == (True, [])


def test_alive__a_loop_that_does_not_tick__is_named(health: Health, clock: FakeClock) -> None:
    health.expect_loop("expire", max_silence_s=30)
    health.expect_loop("dispatch")
    clock.advance(31)
    assert health.alive() == (False, ["expire has not ticked for 31 s"])


def test_alive__a_loop_that_ended_or_was_never_expected__is_not_missed(health: Health, clock: FakeClock) -> None:
    """Opening a chain is a loop that ends: it must not have the process restarted ten minutes later."""
    health.ticked("open:base")
    health.expect_loop("expire")
    health.forget_loop("expire")
    clock.advance(10 * MAX_TICK_SILENCE_S)
    assert health.alive() == (True, [])
