"""How often callers may ask, by key and by address."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settler.api.addresses import UNKNOWN, caller_address
from settler.api.limits import Limiter, Limits
from settler.clock import FakeClock
from settler.storage.api_keys import Scope
from tests.api.conftest import NOW, Api, Start, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ff::/48"))


def limiter(clock: FakeClock, *, rate: float = 10, burst: int = 20, callers_max: int = 100) -> Limiter:
    return Limiter(rate_per_s=rate, burst=burst, monotonic=clock.monotonic, callers_max=callers_max)


# -- the bucket --------------------------------------------------------------------------------------------------------


def test_take__a_burst_and_then_the_rate() -> None:
    clock = FakeClock(NOW)
    bucket = limiter(clock)
    assert [bucket.take("a") for _ in range(20)] == [None] * 20
    assert bucket.take("a") == pytest.approx(0.1)
    clock.advance(0.1)
    assert bucket.take("a") is None
    assert bucket.take("a") == pytest.approx(0.1)
    clock.advance(60)
    assert [bucket.take("a") for _ in range(20)] == [None] * 20, "no more than a burst is saved up"
    assert bucket.take("a") is not None


def test_take__what_is_refused__costs_nothing() -> None:
    clock = FakeClock(NOW)
    bucket = limiter(clock, burst=1)
    assert bucket.take("a") is None
    assert [bucket.take("a") for _ in range(1_000)] == [pytest.approx(0.1)] * 1_000
    clock.advance(0.1)
    assert bucket.take("a") is None


def test_take__one_caller_gone_wild__costs_another_nothing() -> None:
    bucket = limiter(FakeClock(NOW), burst=1)
    assert bucket.take("wild") is None
    assert bucket.take("wild") is not None
    assert bucket.take("calm") is None


def test_take__a_dear_request__takes_more_and_waits_at_most_for_a_full_bucket() -> None:
    clock = FakeClock(NOW)
    bucket = limiter(clock, rate=1, burst=10)
    assert bucket.take("a", cost=8) is None
    assert bucket.take("a", cost=3) == pytest.approx(1)
    assert bucket.take("a", cost=2) is None
    assert bucket.take("a", cost=1_000) == pytest.approx(10)
    clock.advance(10)
    assert bucket.take("a", cost=1_000) is None


def test_take__rate_0__never_refuses_and_remembers_nobody() -> None:
    bucket = Limiter(rate_per_s=0, burst=1, monotonic=FakeClock(NOW).monotonic)
    assert {bucket.take("a") for _ in range(1_000)} == {None}
    assert bucket.standing("a") is None
    assert len(bucket) == 0


def test_take__more_callers_than_are_remembered__forgets_who_was_away_longest() -> None:
    bucket = limiter(FakeClock(NOW), burst=1, callers_max=3)
    for who in "abcad":
        bucket.take(who)
        assert len(bucket) <= 3
    assert bucket.take("d") is not None
    assert bucket.take("c") is not None, "what is refused was remembered"
    assert bucket.take("a") is None, "the oldest was forgotten, and begins anew"


@given(
    rate=st.floats(0.1, 1_000),
    burst=st.integers(1, 500),
    steps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
    start=st.floats(0, 1e9),
)
def test_take__whatever_the_pauses__no_more_than_burst_and_rate_allow(
    rate: float, burst: int, steps: list[float], start: float
) -> None:
    clock = FakeClock(NOW)
    clock.advance(int(start))
    bucket = limiter(clock, rate=rate, burst=burst)
    granted, passed_s = 0, 0.0
    for pause_s in steps:
        clock.advance(pause_s)
        passed_s += pause_s
        wait_s = bucket.take("a")
        standing = bucket.standing("a")
        assert standing is not None
        assert 0 <= standing.left <= burst
        assert 0 <= standing.reset_s <= standing.window_s
        if wait_s is None:
            granted += 1
        else:
            assert 0 < wait_s <= burst / rate + 1e-3
            assert standing.left == 0
    assert granted <= burst + passed_s * rate + 1e-3


# -- who asks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "who"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("2001:db8:1:2:3::4", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, [], UNKNOWN),
        ("/run/settler.sock", ["192.0.2.9"], UNKNOWN),
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1"),
        ("10.1.2.3", ["203.0.113.7"], "203.0.113.7"),
        ("10.1.2.3", ["6.6.6.6, 203.0.113.7 , 10.9.9.9"], "203.0.113.7"),
        ("10.1.2.3", ["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
        ("2001:db8:ff::1", ["2001:db8:7::1"], "2001:db8:7::/64"),
        ("10.1.2.3", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ("10.1.2.3", ["<script>"], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.7, "], "10.1.2.3"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.7", *["10.0.0.1"] * 40], "10.0.0.1"),
    ],
)
def test_caller_address__is_what_nobody_can_make_up(peer: str | None, forwarded: list[str], who: str) -> None:
    assert caller_address(peer, forwarded, PROXIES) == who


# -- over HTTP ---------------------------------------------------------------------------------------------------------


async def limited(start: Start, *, rate: float = 1, burst: int = 3) -> Api:
    clock = FakeClock(NOW)
    limits = Limits(rate_per_s=rate, burst=burst, monotonic=clock.monotonic, proxies=[ip_network("127.0.0.0/8")])
    api = await start(limits=limits)
    api.clock = clock
    return api


async def test_a_key_that_asks_too_often__is_429_until_it_has_waited(start: Start) -> None:
    api = await limited(start)
    other = await api.key_for(Scope.READ)
    for left in (2, 1, 0):
        response, _ = await api.ask("GET", "/v1/invoices")
        assert response.status == 200
        assert response.headers["RateLimit-Policy"] == '"key";q=3;w=3'
        assert response.headers["RateLimit"] == f'"key";r={left};t={3 - left}'
    response, problem = await api.ask("POST", "/v1/invoices", json=invoice())
    assert (response.status, problem["type"]) == (429, "urn:settler:problem:too-many-requests")
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["RateLimit"] == '"key";r=0;t=3'
    await api.get("/v1/invoices", key=other)
    api.clock.advance(1)
    assert await api.get("/v1/invoices") == {"data": [], "next_cursor": None}, "what was refused has no effect"


async def test_who_has_no_key__is_counted_by_address_and_keeps_no_good_key_out(start: Start) -> None:
    api = await limited(start, rate=5, burst=15)
    for _ in range(3):
        await api.refused("GET", "/v1/invoices", 401, key="sk_wrong")
    response, _ = await api.ask("GET", "/v1/invoices", key="sk_wrong")
    assert response.status == 429
    assert response.headers["RateLimit-Policy"] == '"address";q=3;w=3'
    assert (await api.client.get("/v1/invoices")).status == 429
    assert (await api.client.get("/nothing")).status == 429
    await api.get("/v1/invoices")


async def test_a_page_asked_for_too_often__says_so_as_a_page(start: Start) -> None:
    """A person used to be shown JSON: the limit comes before the page."""
    api = await limited(start, rate=5, burst=5)
    for path in ("/docs", "/ops/login", "/pay/0123456789abcdefghjkmnpqrs"):
        api.clock.advance(10)
        await api.client.get(path)
        async with api.client.get(path) as response:
            assert (response.status, response.content_type) == (429, "text/html"), path
            assert response.headers["Retry-After"] == "1"


async def test_what_is_not_there__is_counted_by_address_also_under_v1(start: Start) -> None:
    api = await limited(start, rate=5, burst=15)
    asked = [("GET", "/v1/nothing"), ("DELETE", "/v1/invoices"), ("GET", "/"), ("GET", "/v1/nothing")]
    answered = [(await api.ask(method, path))[0].status for method, path in asked]
    assert answered == [404, 405, 404, 429]


async def test_behind_a_proxy__each_of_its_callers_is_counted_apart(start: Start) -> None:
    api = await limited(start, burst=1)

    async def asked_by(address: str) -> int:
        return (await api.client.get("/nothing", headers={"X-Forwarded-For": address})).status

    assert [await asked_by("203.0.113.7") for _ in range(2)] == [404, 429]
    assert [await asked_by("203.0.113.8") for _ in range(2)] == [404, 429]


async def test_probes__are_never_limited(start: Start) -> None:
    api = await limited(start, burst=1)
    for path in ("/livez", "/readyz", "/metrics"):
        for _ in range(5):
            response = await api.client.get(path)
            assert response.status != 429
            assert "RateLimit" not in response.headers


async def test_without_limits__answers_say_nothing_of_any(api: Api) -> None:
    response, _ = await api.ask("GET", "/v1/invoices")
    assert not [name for name in response.headers if name.lower().startswith("ratelimit")]
