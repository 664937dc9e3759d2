"""Logging in at the operator's pages: who gets in, how long, and who does not; forms of ours and forms of others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from sqlalchemy import select

from settler.api.limits import Limits
from settler.api.pages.session import IDLE, LIFE, NONCE_BYTES, RENEWED_EVERY, SKEW, Seal, Session, key_id_of, opened
from settler.storage import api_keys, schema
from settler.storage.api_keys import Scope
from tests.api.conftest import NOW, Api, Start, entropy
from tests.api.ops_browser import OWN_SITE, Browser
from tests.support.db import sqlite_alone

SEAL = Seal.of_key(hashlib.sha256(b"a key").digest())
KEY_ID = "key_01kjmma2g00000000000000004"
PROXIED = {"Host": "ops.example.com", "X-Forwarded-Proto": "https"}


db_url = sqlite_alone  # what is kept of keys is tested on both in tests/cli/test_api_keys.py


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api.client)


def session(**changes: Any) -> Session:
    return replace(Session.begin(KEY_ID, now=NOW, entropy=entropy(NONCE_BYTES)), **changes)


# What a cookie says


def test_opened__a_sealed_session__is_the_same_again() -> None:
    one = session()
    cookie = one.sealed(SEAL)
    assert opened(cookie, SEAL, now=NOW) == one
    assert key_id_of(cookie) == KEY_ID


@pytest.mark.parametrize(
    ("after", "is_open"),
    [
        (timedelta(0), True),
        (IDLE - timedelta(seconds=1), True),
        (IDLE, False),
        (-SKEW, True),
        (-SKEW - timedelta(seconds=1), False),
    ],
)
def test_opened__used_last_before__ends_when_idle(after: timedelta, is_open: bool) -> None:
    found = opened(session().sealed(SEAL), SEAL, now=NOW + after)
    assert (found is not None) is is_open


def test_opened__however_much_it_is_used__ends_after_its_life() -> None:
    used = session(seen=NOW + LIFE - timedelta(seconds=1))
    assert opened(used.sealed(SEAL), SEAL, now=NOW + LIFE - timedelta(seconds=1)) == used
    assert opened(used.sealed(SEAL), SEAL, now=NOW + LIFE) is None


def test_opened__any_character_changed__is_none() -> None:
    cookie = session().sealed(SEAL)
    for index, char in enumerate(cookie):
        forged = cookie[:index] + ("1" if char != "1" else "2") + cookie[index + 1 :]
        assert opened(forged, SEAL, now=NOW) is None, forged


@pytest.mark.parametrize("text", ["", "x", "....", f"{KEY_ID}.1.1.x.y", "é" * 100, "0" * 100_000])
def test_opened__no_cookie_of_ours__is_none(text: str) -> None:
    assert opened(text, SEAL, now=NOW) is None
    assert key_id_of(text) is None


def test_seal__of_another_key__opens_nothing() -> None:
    other = Seal.of_key(hashlib.sha256(b"another key").digest())
    assert opened(session().sealed(other), SEAL, now=NOW) is None


def test_mark__is_for_its_purpose_and_parts_alone() -> None:
    mark = SEAL.mark("form", "ab", "c")
    assert SEAL.fits(mark, "form", "ab", "c")
    for purpose, parts in (
        ("session", ("ab", "c")),
        ("form", ("a", "bc")),
        ("form", ("abc",)),
        ("form", ("ab", "c", "")),
    ):
        assert not SEAL.fits(mark, purpose, *parts)
    assert not SEAL.fits("é", "form", "ab", "c")


def test_renewed__not_at_each_request() -> None:
    one = session()
    assert one.renewed(NOW + RENEWED_EVERY - timedelta(seconds=1)) is None
    later = one.renewed(NOW + RENEWED_EVERY)
    assert later is not None
    assert (later.seen, later.began) == (NOW + RENEWED_EVERY, NOW)
    assert later.form_mark(SEAL) == one.form_mark(SEAL)


# Over HTTP: in and out


async def test_log_in__leads_to_the_page_that_was_asked_for(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key, at="/ops/holds?status=all")
    assert browser.address == "/ops/holds?status=all"
    assert set(browser.cookies) == {"settler"}
    assert api.key not in "".join(browser.cookies.values())


async def test_log_in__with_a_session__leads_on(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    await browser.open("/ops/login")
    assert browser.address == "/ops"


async def test_log_out__ends_the_session_wherever_its_cookie_is(browser: Browser, api: Api) -> None:
    """A cookie that was copied used to live on for up to eight hours."""
    await browser.log_in(api.key)
    copied, other = Browser(api.client), Browser(api.client)
    copied.cookies = dict(browser.cookies)
    await other.log_in(api.key)
    await copied.open("/ops/holds")
    assert copied.address == "/ops/holds"
    await browser.open("/ops")
    await browser.send("/logout")
    for known, leads_to in ((copied, "/ops/login?next=%2Fops%2Fholds"), (other, "/ops/holds")):
        await known.open("/ops/holds")
        assert known.address == leads_to


async def test_session__sealed_from_what_the_database_holds__is_not_let_in(browser: Browser, api: Api) -> None:
    """Who reads a backup knows the hash of each key, and so how to seal; not the nonce of any open session."""
    await browser.log_in(api.key)
    async with api.db.read() as conn:
        (key,) = await api_keys.list_all(conn)
        found = await api_keys.find_live_by_id(conn, key.id)
        assert found is not None
        (row,) = (await conn.execute(select(schema.ops_sessions))).all()
    now = api.clock.now()
    seal = Seal.of_key(found[1])
    forged = Browser(api.client)
    for nonce in (entropy(NONCE_BYTES), row.nonce_hash[:NONCE_BYTES]):
        one = Session.begin(key.id, now=now, entropy=nonce)
        assert opened(one.sealed(seal), seal, now=now) == one
        forged.cookies = {"settler": one.sealed(seal)}
        await forged.open("/ops")
        assert forged.address.startswith("/ops/login")


async def test_log_in__never_leads_elsewhere(api: Api) -> None:
    for next_ in (
        "https://evil.example/",
        "//evil.example",
        "/ops/../v1",
        "/opsx",
        "/ops\\@evil.example",
        "javascript:1",
        "/pay/x",
    ):
        browser = Browser(api.client)
        await browser.open("/ops/login")
        await browser.send("/ops/login", key=api.key, next=next_)
        assert browser.address == "/ops", next_


async def test_log_in__no_live_key__is_refused_and_not_shown_again(browser: Browser) -> None:
    for key in ("sk_" + "0" * 64, "nonsense", "x" * 201, "sk_é", " "):
        html = await browser.log_in(key, status=403)
        assert "That is no live key" in html.text
        assert html.form("/ops/login").fields["key"] == ""
        assert set(browser.cookies) == {"settler-login"}


async def test_log_in__a_key_that_may_not_read__is_refused(browser: Browser, api: Api) -> None:
    html = await browser.log_in(await api.key_for(Scope.WRITE), status=403)
    assert "does not have the scope read" in html.text


async def test_log_in__without_the_form_s_cookie__is_refused(browser: Browser, api: Api) -> None:
    await browser.open("/ops/login")
    browser.cookies.clear()
    html = await browser.send("/ops/login", key=api.key, status=403)
    assert "did not send back the cookie" in html.text
    await browser.send("/ops/login", key=api.key)
    assert browser.address == "/ops"


async def test_log_in__two_tabs__either_form_will_do(browser: Browser, api: Api) -> None:
    await browser.open("/ops/login")
    first = browser.html
    await browser.open("/ops/login")
    browser.html = first
    await browser.send("/ops/login", key=api.key)
    assert browser.address == "/ops"


async def test_log_in__too_often__is_429_until_later(browser: Browser, api: Api) -> None:
    await browser.open("/ops/login")
    for _ in range(10):
        await browser.send("/ops/login", key="sk_wrong", status=403)
    form = browser.html
    html = await browser.send("/ops/login", key=api.key, status=429)
    assert "too many attempts" in html.text
    browser.html = form
    api.clock.advance(6)
    await browser.send("/ops/login", key=api.key)
    assert browser.address == "/ops"


async def test_log_in__one_address_that_floods__keeps_nobody_else_out(start: Start) -> None:
    """What an address tried beyond its own bound still counted against the bound of all: one machine that asked a
    hundred times a minute kept every operator from logging in.
    """
    limits = Limits(rate_per_s=0, burst=1, monotonic=float, proxies=[ip_network("127.0.0.0/8")])
    api = await start(limits=limits)
    stranger = Browser(api.client, headers={**OWN_SITE, "X-Forwarded-For": "203.0.113.7"})
    await stranger.open("/ops/login")
    form = stranger.html.form("/ops/login")
    for attempt in range(150):
        data = {**form.fields, "key": "sk_wrong"}
        await stranger.request("POST", "/ops/login", data=data, status=403 if attempt < 10 else 429)
    operator = Browser(api.client, headers={**OWN_SITE, "X-Forwarded-For": "203.0.113.8"})
    await operator.log_in(api.key)
    assert operator.address == "/ops"


async def test_log_out__ends_it_in_this_browser(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    await browser.send("/ops/logout")
    assert browser.path == "/ops/login"
    assert "settler" not in browser.cookies
    await browser.open("/ops/invoices")
    assert browser.address == "/ops/login?next=%2Fops%2Finvoices"


# How long


async def test_session__in_use__is_renewed_and_ends_after_a_day_s_work(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    for _ in range(int(LIFE / timedelta(minutes=50))):
        api.clock.advance(50 * 60)
        await browser.open("/ops/invoices")
        assert browser.path == "/ops/invoices"
    api.clock.advance(50 * 60)
    await browser.open("/ops/invoices")
    assert browser.path == "/ops/login"


async def test_session__idle__ends(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    api.clock.advance(IDLE.total_seconds())
    await browser.open("/ops")
    assert browser.path == "/ops/login"


async def test_session__a_page_that_refreshes_itself__is_no_use_of_it(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    before = browser.cookies["settler"]
    api.clock.advance(IDLE.total_seconds() - 60)
    await browser.open("/ops", headers={"Sec-Fetch-Dest": "empty"})
    assert browser.cookies["settler"] == before
    api.clock.advance(60)
    await browser.open("/ops")
    assert browser.path == "/ops/login"


async def test_session__its_key_is_revoked__ends_at_once(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    await browser.open("/ops/invoices")
    key_id = key_id_of(browser.cookies["settler"])
    assert key_id is not None
    async with api.db.write() as conn:
        await api_keys.revoke(conn, key_id, now=NOW, who="test", reason="lost")
    await browser.open("/ops/invoices")
    assert browser.path == "/ops/login"


async def test_session__its_key_is_rotated__ends_at_once_and_begins_with_the_new_text(
    browser: Browser, api: Api
) -> None:
    await browser.log_in(api.key)
    key_id = key_id_of(browser.cookies["settler"])
    assert key_id is not None
    async with api.db.write() as conn:
        _, text = await api_keys.rotate(
            conn, key_id, now=NOW, overlap=timedelta(days=1), who="test", secret=entropy(32)
        )
    html = await browser.log_in(api.key, status=403)
    assert "That key was rotated" in html.text
    await browser.send("/ops/login", key=text)
    assert browser.address == "/ops"


async def test_session__forged_with_another_key_s_id__is_none(browser: Browser, api: Api) -> None:
    await browser.log_in(await api.key_for(Scope.READ))
    cookie = browser.cookies["settler"]
    async with api.db.read() as conn:
        found = await api_keys.find_current(conn, api.key)
    assert found is not None
    browser.cookies["settler"] = f"{found[0].id}.{cookie.partition('.')[2]}"
    await browser.open("/ops")
    assert browser.path == "/ops/login"


async def test_session__is_noted_as_use_of_the_key(start: Start) -> None:
    uses = api_keys.KeyUses()
    api = await start(key_uses=uses)
    browser = Browser(api.client)
    await browser.log_in(api.key)
    assert uses.take() == {key_id_of(browser.cookies["settler"]): NOW}


# Cookies


async def test_cookie__over_https__is_bound_to_its_host(api: Api) -> None:
    browser = Browser(api.client, headers={**OWN_SITE, **PROXIED})
    await browser.log_in(api.key)
    assert set(browser.cookies) == {"__Host-settler"}
    response = await browser.request("GET", "/ops/login")
    await browser.send("/ops/logout")
    assert browser.cookies.keys() == {"__Host-settler-login"}
    assert response.status == 200


async def test_cookie__is_secure_unless_plain_http_to_this_machine(api: Api) -> None:
    for headers, is_secure in (
        ({}, False),
        ({"Host": "localhost:8080"}, False),
        ({"Host": "[::1]:8080"}, False),
        ({"Host": "ops.example.com"}, True),
        ({"X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-Proto": "http", "Host": "ops.example.com"}, True),
        ({"Origin": "https://127.0.0.1"}, True),
    ):
        async with api.client.get("/ops/login", headers=headers) as response:
            (cookie,) = response.cookies.values()
        assert (cookie.key == "__Host-settler-login") is is_secure, headers
        assert bool(cookie["secure"]) is is_secure, headers
        api.client.session.cookie_jar.clear()


async def test_cookie__planted_over_plain_http__does_not_count_over_https(browser: Browser, api: Api) -> None:
    """Whoever can write a cookie without Secure must not log the operator in as somebody else."""
    await browser.log_in(api.key)
    browser.headers |= PROXIED
    await browser.open("/ops")
    assert browser.path == "/ops/login"


# Forms of others


async def test_post__from_elsewhere__is_403_whatever_it_carries(api: Api) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {},
    ):
        browser = Browser(api.client)
        await browser.open("/ops/login")
        browser.headers = headers
        html = await browser.send("/ops/login", key=api.key, status=403)
        assert "from another site" in html.text, headers
        browser.headers = dict(OWN_SITE)
        await browser.log_in(api.key)
        browser.headers = headers
        await browser.send("/ops/logout", status=403)
        assert "settler" in browser.cookies


@pytest.mark.parametrize("origin", ["http://[", "http://a]b", "x://\u2100", "://", "http://", "127.0.0.1"])
async def test_post__with_an_origin_that_is_none__is_403(api: Api, origin: str) -> None:
    """An address with half a bracket could not be taken apart: a 500 with a traceback, for whoever sent one."""
    headers = {"Origin": origin}
    for path in ("/ops/login", f"/ops/invoices/inv_{'0' * 26}/cancel"):
        async with api.client.post(path, headers=headers) as response:
            assert response.status == 403, await response.text()


async def test_post__without_fetch_metadata__goes_by_its_origin(api: Api) -> None:
    """A browser that reaches settler over plain http at another machine's address sends no `Sec-Fetch-Site`."""
    url = api.client.make_url("/")
    browser = Browser(api.client, headers={"Origin": f"http://{url.host}:{url.port}"})
    await browser.log_in(api.key)
    assert browser.address == "/ops"


async def test_post__without_the_session_s_mark__is_403(browser: Browser, api: Api) -> None:
    for mark in ("", "x", "é", "0" * 43):
        await browser.open("/ops")
        if browser.path == "/ops/login":
            await browser.log_in(api.key)
        html = await browser.send("/ops/logout", form_mark=mark, status=403)
        assert "out of date" in html.text
        assert "settler" in browser.cookies


async def test_post__with_the_mark_of_another_session__is_403(browser: Browser, api: Api) -> None:
    other = Browser(api.client)
    await other.log_in(api.key)
    await browser.log_in(api.key)
    await browser.send("/ops/logout", form_mark=other.html.form("/ops/logout").fields["form_mark"], status=403)


async def test_post__when_the_session_is_over__leads_to_the_login(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    api.clock.advance(IDLE.total_seconds())
    await browser.send("/ops/logout")
    assert browser.path == "/ops/login"


async def test_post__no_form_of_ours__is_refused(api: Api) -> None:
    form: dict[str, Any]
    for form, status in (
        ({"data": b"a=1&a=2"}, 400),
        ({"data": b"%ff=1"}, 400),
        ({"data": b"a=%00"}, 400),
        ({"data": "é=1".encode()}, 400),
        ({"data": b"&".join(b"f%d=1" % n for n in range(30))}, 400),
        ({"data": b"key=" + b"x" * 100_000}, 413),
        ({"json": {"key": "x"}}, 415),
    ):
        headers = dict(OWN_SITE)
        if "data" in form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        async with api.client.post("/ops/login", headers=headers, **form) as response:
            assert response.status == status, form
            assert response.content_type == "text/html"


# Without keys


async def test_no_keys__lets_in_and_still_wants_its_own_forms(start: Start) -> None:
    api = await start(auth="none")
    browser = Browser(api.client)
    html = await browser.open("/ops")
    assert browser.path == "/ops"
    assert "anonymous" in html.text
    assert html.actions() == []
    assert browser.cookies == {}
    headers = {**OWN_SITE, "Content-Type": "application/x-www-form-urlencoded"}
    path = "/ops/invoices/inv_01kdy021000000000000000006/cancel"
    async with api.client.post(path, data=b"form_mark=x", headers=headers) as response:
        assert response.status == 403
    await browser.open("/ops/login")
    assert browser.path == "/ops"


async def test_no_keys__called_by_another_name__is_421(start: Start) -> None:
    """DNS rebinding: a name elsewhere that points at this machine."""
    api = await start(auth="none")
    browser = Browser(api.client, headers={**OWN_SITE, "Host": "rebound.example"})
    html = await browser.open("/ops", status=421)
    assert "rebound.example" in html.text


# What browsers are told


async def test_every_answer__is_kept_by_nobody_and_framed_by_nobody(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    for path, status in (("/ops", 200), ("/ops/login", 200), ("/ops/nowhere", 404), ("/ops/holds?limit=x", 422)):
        response = await browser.request("GET", path, status=status)
        assert response.headers["Cache-Control"] == "no-store", path
        assert "default-src 'none'" in response.headers["Content-Security-Policy"], path
        assert response.headers["Referrer-Policy"] == "same-origin", path
        assert response.headers["X-Frame-Options"] == "DENY", path


async def test_a_link_from_another_site__goes_on_by_itself(api: Api) -> None:
    """Browsers keep a strict cookie back then: the page that is shown leads here once more, and now it is sent."""
    browser = Browser(api.client, headers={"Sec-Fetch-Site": "cross-site"})
    html = await browser.open("/ops/invoices?status=pending")
    assert browser.address == "/ops/invoices?status=pending"
    (refresh,) = [meta["content"] for meta in html.of("meta") if meta.get("http-equiv") == "refresh"]
    assert refresh == "0; url=/ops/invoices?status=pending"
    html = await browser.open("/ops/'><script>", status=404)
    assert html.of("script") == []


async def test_head__answers_like_get_without_a_body(browser: Browser, api: Api) -> None:
    await browser.log_in(api.key)
    await browser.request("HEAD", "/ops")
    assert browser.raw == ""
