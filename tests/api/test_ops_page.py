"""The operator's pages to look at: what is on them, whose words they show and how, their lists; that looking is all."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from settler.api.pages import ops, ops_text
from settler.domain.drafting import ChainOffer, OptionRequest
from settler.domain.invoices import Match
from settler.storage import chains, invoices, schema, suspense
from settler.storage.api_keys import Scope
from settler.storage.errors import StorageUnavailable
from tests.api.conftest import CATALOG, NOW, Api, Start, invoice
from tests.api.ops_browser import Browser, Html
from tests.api.ops_world import Shop, add_endpoint, build_shop, bury_oldest, seen
from tests.stages.test_operating import place
from tests.support.db import sqlite_alone
from tests.support.world import CHAIN_ID, World, token

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066\x1b[31m",
    "&lt;b&gt;",
    "W" * 190,
]
GARBAGE = (
    b"",
    b"\xff\xfe",
    b"%ff",
    b"%00",
    b"%ed%a0%80",
    "é\u202e".encode(),
    b"a" * 5_000,
    b"&&==;;",
    b"%",
    b"%zz",
    b"\x01",
    b'"<',
)
PAGES = ("/ops", "/ops/invoices", "/ops/suspense", "/ops/holds", "/ops/dead-letters")


@pytest.fixture(scope="module")
def filled(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop]:
    """A database with a shop in it, to be copied."""
    path = tmp_path_factory.mktemp("ops") / "shop.db"
    shutil.copy(sqlite_template, path)
    return path, build_shop(f"sqlite:///{path}")


@pytest.fixture
def shop(filled: tuple[Path, Shop], sqlite_db_url: str) -> Shop:
    """In the database of this test; to be asked for before `api`."""
    shutil.copy(filled[0], sqlite_db_url.removeprefix("sqlite:///"))
    return filled[1]


db_url = sqlite_alone  # statements that the two read differently are tried in test_ops_actions


@pytest.fixture
async def browser(api: Api) -> Browser:
    browser = Browser(api.client)
    await browser.log_in(api.key)
    return browser


def all_pages(shop: Shop) -> tuple[str, ...]:
    return (
        *PAGES,
        f"/ops/invoices/{shop.open_invoice.id}",
        f"/ops/invoices/{shop.held.id}",
        f"/ops/invoices/{shop.settled.id}",
        f"/ops/transfers/{shop.money.id}",
        f"/ops/holds/{shop.hold.id}",
    )


def check_accessible(html: Html) -> None:
    """What a reader's software needs, as far as tags tell."""
    (document,) = html.of("html")
    assert document["lang"] == "en"
    assert len(html.of("main")) == len(html.of("h1")) == len(html.of("title")) == 1
    assert html.hrefs[0] == "#main"
    ids = {attributes["id"] for _, attributes in html.tags if "id" in attributes}
    labelled = {label["for"] for label in html.of("label")}
    for control in (*html.of("input"), *html.of("select")):
        assert control.get("type") == "hidden" or control["id"] in labelled, control
    for _, attributes in html.tags:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= ids, attributes
        assert not any(name.startswith("on") or name == "style" for name in attributes), attributes
    for table in html.of("table"):
        assert table["role"] == "table"
    assert all(header["scope"] in {"col", "row"} for header in html.of("th"))
    levels = [int(tag[1]) for tag, _ in html.tags if tag in {"h1", "h2", "h3"}]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels


# What is on them


async def test_pages__of_an_empty_database__say_so(browser: Browser) -> None:
    said = {
        "/ops": "Nothing is held.",
        "/ops/invoices": "No invoice is like that.",
        "/ops/suspense": "Nothing: all that came in belongs to an invoice.",
        "/ops/holds": "No hold is like that.",
        "/ops/dead-letters": "None: every endpoint has all its events",
    }
    for path, words in said.items():
        html = await browser.open(path)
        assert words in html.text, path
        check_accessible(html)


async def test_pages__of_a_full_one__are_accessible_and_lead_nowhere_else(shop: Shop, browser: Browser) -> None:
    for path in all_pages(shop):
        html = await browser.open(path)
        check_accessible(html)
        assert all(href.startswith(("/", "?", "#")) for href in html.hrefs), path
        for tag in ("script", "link", "form", "img"):
            for part in html.of(tag):
                address = str(part.get("src") or part.get("href") or part.get("action"))
                assert address.startswith(("/", "data:image/svg+xml,")), address


async def test_login__is_accessible(api: Api) -> None:
    check_accessible(await Browser(api.client).open("/ops/login"))


async def test_overview__counts_and_tells_what_is_wrong(shop: Shop, api: Api, browser: Browser) -> None:
    api.health.expect_chain("anvil")
    api.health.halted("anvil", "block 17 was replaced below the settled height")
    api.providers += [
        {"chain": "anvil", "provider": "node-a.example", "up": True, "state": "up", "reason": None, "head": 20,
         "latency_ms": 41},
        {"chain": "anvil", "provider": "node-b.example", "up": False, "state": "cooling", "reason": "answered 502",
         "head": 17, "latency_ms": None},
    ]  # fmt: skip
    async with api.db.write() as conn:
        state = await chains.get(conn, CHAIN_ID)
        assert state is not None
        await chains.advance(conn, state, now=NOW, guard=(), halted_at=NOW, halt_reason="block 17 was replaced")
    text = (await browser.open("/ops")).text
    for words in (
        "Not ready",
        "block 17 was replaced below the settled height",
        "1 in suspense",
        "1 hold",
        "1 dead letter",
        "USDC on anvil (1) 100.00",
        "manual 1",
        "pending 1 processing 1 settled 1 expired 0 canceled 1 reversed 0",
        "anvil eip155:31337 halted block 17 was replaced since 2026-03-01 12:00:00 UTC 18 18 15 15 0 s",
        "up node-a.example 41 ms",
        "cooling node-b.example answered 502",
        "base eip155:8453 not read yet",
    ):
        assert words in text, words


async def test_invoice__shows_all_there_is(shop: Shop, api: Api, browser: Browser) -> None:
    view = await seen(api.db).view(shop.held.id)
    html = await browser.open(f"/ops/invoices/{shop.held.id}")
    for words in (
        f"Invoice {shop.held.reference} processing on hold",
        "Requested 100.00 USD Received 100.00 USD Settled 0.00 USD",
        "the payer asked for a refund",
        view["options"][0]["pay_to"],
        shop.held.id,
    ):
        assert words in html.text, words
    assert html.links["Payment page"] == f"/pay/{shop.held.pay_token}"
    assert html.links["manual"] == f"/ops/holds/{shop.hold.id}"
    assert f"/ops/transfers/{view['payments'][0]['transfer_id']}" in html.hrefs
    settled = await browser.open(f"/ops/invoices/{shop.settled.id}")
    assert "Settlements 100.00 USD" in settled.text


async def test_transfer__several_may_be_meant__are_offered_to_choose(api: Api, browser: Browser) -> None:
    world = await World.on(api.db)
    first = await world.invoice("100")
    second = await world.invoice("100", pay_to=first.options[0].pay_to)
    world.pay(first)
    world.mine(5)
    await world.catch_up()
    (money,) = await world.transfers()
    html = await browser.open(f"/ops/transfers/{money.id}")
    assert "ambiguous" in html.text
    assert {html.links[first.reference], html.links[second.reference]} == {
        f"/ops/invoices/{first.id}",
        f"/ops/invoices/{second.id}",
    }
    html = await browser.open(f"/ops/transfers/{money.id}{html.links[f'Choose {second.reference}']}")
    assert html.form("/assign").fields["invoice_id"] == second.id
    html = await browser.open(f"/ops/transfers/{money.id}?invoice=%22%3E%3Cscript%3E")
    assert html.form("/assign").fields["invoice_id"] == ""


async def test_transaction__leads_to_an_explorer_on_the_web_alone(shop: Shop, start: Start) -> None:
    tx_hash = "0x" + shop.money.identity.tx_hash.hex()
    for explorer, leads_to in (
        ("https://scan.example", f"https://scan.example/tx/{tx_hash}"),
        ("javascript:alert(1)//", None),
        ("data:text/html,", None),
        (None, None),
    ):
        offer = ChainOffer(name="anvil", chain_id=CHAIN_ID, tokens={"USDC": token()}, explorer=explorer)
        api = await start(catalog={**CATALOG, "anvil": offer})
        browser = Browser(api.client)
        await browser.log_in(api.key)
        html = await browser.open(f"/ops/transfers/{shop.money.id}")
        outside = [a for a in html.of("a") if not str(a["href"]).startswith(("/", "#"))]
        assert [a["href"] for a in outside] == ([] if leads_to is None else [leads_to])
        assert all({"noreferrer", "noopener"} <= set(str(a["rel"]).split()) for a in outside)


# Lists


async def test_invoices__are_found_by_filter(shop: Shop, api: Api, browser: Browser) -> None:
    made = await api.post("/v1/invoices", invoice(reference="a&b=c", merchant="acme"))
    for query, found in (
        ("?status=pending&exception=&reference=&merchant=", {made["id"], shop.open_invoice.id}),
        ("?exception=on_hold", {shop.held.id}),
        ("?reference=a%26b%3Dc", {made["id"]}),
        ("?merchant=acme", {made["id"]}),
        ("?merchant=nobody", set()),
    ):
        html = await browser.open(f"/ops/invoices{query}")
        shown = {href.rpartition("/")[2] for href in html.hrefs if href.startswith("/ops/invoices/inv_")}
        assert shown == found, query
    html = await browser.open("/ops/invoices?status=settled&reference=%3Cb%3E")
    assert html.form("/ops/invoices").fields["reference"] == "<b>"
    (chosen,) = [option["value"] for option in html.of("option") if "selected" in option]
    assert chosen == "settled"


async def test_lists__go_on_page_by_page_with_their_filter(api: Api, browser: Browser) -> None:
    for _ in range(5):
        await api.post("/v1/invoices", invoice())
    seen_ids: list[str] = []
    path = "/ops/invoices?status=pending&limit=2"
    for count in (2, 2, 1):
        html = await browser.open(path)
        ids = [href.rpartition("/")[2] for href in html.hrefs if href.startswith("/ops/invoices/inv_")]
        assert len(ids) == count
        seen_ids += ids
        path = f"/ops/invoices{html.links.get('Older', '')}"
        assert ("Older" in html.links) is (len(seen_ids) < 5)
    assert len(set(seen_ids)) == 5
    assert browser.html.links["Newest"] == "/ops/invoices"


async def test_lists__a_filter_that_makes_no_sense__says_why(browser: Browser) -> None:
    for path, said in (
        ("/ops/invoices?status=paid", "choose one of pending, processing"),
        ("/ops/invoices?limit=1000", "give at most 200"),
        ("/ops/invoices?cursor=nonsense", "was not given out for this list"),
        ("/ops/invoices?who=me", "is not known here"),
        ("/ops/suspense?reason=lost", "choose one of no_invoice"),
        ("/ops/suspense?show=all", "choose one of waiting, dismissed"),
        ("/ops/holds?status=%3Cscript%3E", "choose one of held, released, all"),
        ("/ops/dead-letters?cursor=x", "was not given out for this list"),
    ):
        html = await browser.open(path, status=422)
        assert said in html.text, path
        assert all(script.get("src") for script in html.of("script"))


async def test_suspense__by_reason_and_chain(shop: Shop, browser: Browser) -> None:
    for query, is_there in (
        ("?reason=no_invoice&chain=anvil", True),
        ("?reason=late", False),
        ("?chain=base", False),
        ("?chain=nowhere", False),
        ("?show=dismissed", False),
    ):
        html = await browser.open(f"/ops/suspense{query}")
        assert ("100.00 USDC" in html.text) is is_there, query


async def test_suspense__what_left_the_chain_or_moves_no_money__does_not_wait(
    shop: Shop, api: Api, browser: Browser
) -> None:
    t = schema.transfers
    for changes in ({"status": "orphaned"}, {"status": "final", "reason": "ignored_zero"}):
        async with api.db.write() as conn:
            await conn.execute(sa.update(t).where(t.c.id == shop.money.id).values(**changes))
        assert "100.00 USDC" not in (await browser.open("/ops/suspense")).text, changes
        assert "0 in suspense" in (await browser.open("/ops")).text, changes


async def test_suspense__more_than_is_summed__says_at_least(
    shop: Shop, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspense, "SUMMED_MAX", 0)
    assert "at least 0.00" in (await browser.open("/ops")).text


# Whose words


async def test_strangers_words__are_shown_and_do_nothing(api: Api, browser: Browser) -> None:
    world = await World.on(api.db)
    shown_on: dict[str, list[str]] = {}
    for number, words in enumerate(HOSTILE):
        way = OptionRequest(chain="anvil", token="USDC", pay_to=world.address(), match=Match.ADDRESS)
        one = await world.invoice("100", options=[way], reference=words)
        hold = await place(world, one, words)
        endpoint = await add_endpoint(api.db, f"whe_{number:026d}", url=f"https://shop.example/?{words}")
        await world.invoice("100", options=[way])
        await bury_oldest(api.db, endpoint, error=words)
        for path in (
            "/ops/invoices",
            f"/ops/invoices/{one.id}",
            "/ops/holds",
            f"/ops/holds/{hold.id}",
            "/ops/dead-letters",
        ):
            shown_on.setdefault(path, []).append(words)
    for path, all_words in shown_on.items():
        html = await browser.open(path)
        assert not any(char in browser.raw for char in "\u202e\u2066\x1b"), path
        assert html.of("img") == []
        assert [str(script.get("src")).partition("?")[0] for script in html.of("script")] == ["/static/ops.js"], path
        assert all(not href.startswith("javascript:") for href in html.hrefs)
        for words in all_words:
            assert ops_text.plain(words)[:100] in html.text, (path, words)


async def test_strangers_words__metadata_and_names_of_providers(api: Api, browser: Browser) -> None:
    metadata = {words[:60]: {"deep": [words]} for words in HOSTILE if words.isprintable()}
    made = await api.post("/v1/invoices", invoice(metadata=metadata))
    api.providers.append(
        {"chain": "base", "provider": HOSTILE[0], "up": False, "state": HOSTILE[1], "reason": "x" * 20_000, "head": 1,
         "latency_ms": 1}
    )  # fmt: skip
    overview = await browser.open("/ops")
    assert len(overview.text) < 12_000
    detail = await browser.open(f"/ops/invoices/{made['id']}")
    for html in (overview, detail):
        assert len(html.of("script")) == 1
        assert html.of("img") == []
        assert HOSTILE[0] in html.text


async def test_done__only_what_we_said_is_shown(shop: Shop, browser: Browser) -> None:
    """No link can make the page say that something was done."""
    path = f"/ops/holds/{shop.hold.id}"
    await browser.open(path)
    await browser.send("/release", reason="x")
    said = browser.address.partition("?")[2]
    assert "The hold is released" in browser.html.text
    for forged in (f"{path}?done=released", f"{path}?done=released.{'0' * 43}", f"/ops/invoices/{shop.held.id}?{said}"):
        html = await browser.open(forged)
        assert [part for part in html.of("p") if part.get("role") == "status"] == [], forged


# A merchant's


async def test_a_merchant_s_key__counts_and_lists_its_own_alone(shop: Shop, api: Api) -> None:
    made = await api.post("/v1/invoices", invoice(merchant="acme"))
    await api.post("/v1/holds", {"invoice_id": made["id"], "reason": "ours"})
    endpoint = await add_endpoint(api.db, "whe_00000000000000000000000001", merchant="acme")
    await api.post("/v1/invoices", invoice(merchant="acme"))
    await bury_oldest(api.db, endpoint)
    theirs = Browser(api.client)
    await theirs.log_in(await api.key_for(Scope.READ, merchant="acme"))
    text = theirs.html.text
    assert "pending 2 processing 0 settled 0 expired 0 canceled 0 reversed 0" in text
    assert "manual 1" in text
    assert "in suspense" not in text
    assert "to send" not in text
    html = await theirs.open("/ops/invoices")
    assert shop.settled.reference not in html.links
    assert made["reference"] in html.links
    assert "Merchant" not in [words for form in html.forms for words in form.fields]
    assert [href for href in (await theirs.open("/ops/holds")).hrefs if href.startswith("/ops/holds/")] != []
    assert "the payer asked for a refund" not in theirs.html.text
    assert "A key that is bound to a merchant does not see it" in (await theirs.open("/ops/suspense")).text
    html = await theirs.open("/ops/dead-letters")
    assert "invoice.created" in html.text
    assert "payment" not in html.text
    await theirs.open("/ops/invoices?merchant=default", status=403)
    assert "What operators did" not in (await theirs.open(f"/ops/invoices/{made['id']}")).text


async def test_count__of_a_merchant(shop: Shop, api: Api) -> None:
    await api.post("/v1/invoices", invoice(merchant="acme"))
    async with api.db.read() as conn:
        assert sum((await invoices.count_by_status(conn, merchant="acme")).values()) == 1
        assert sum((await invoices.count_by_status(conn)).values()) == 5


# Looking is all


async def test_get__never_asks_for_the_writing_door(
    shop: Shop, api: Api, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a GET was about to write")

    monkeypatch.setattr(type(api.db), "write", refused)
    for path in (*all_pages(shop), "/ops/login", "/ops/nowhere", "/ops/invoices/inv_x"):
        await browser.request("GET", path, status=404 if path.endswith(("nowhere", "inv_x")) else 200)


async def test_many_payments_of_one_invoice__the_last_are_shown(
    shop: Shop, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_text, "MANY", 0)
    assert "of 1; the API shows all" in (await browser.open(f"/ops/invoices/{shop.settled.id}")).text


async def test_garbage__is_never_a_fault_of_ours(shop: Shop, api: Api, browser: Browser) -> None:
    """Bytes in paths, queries, cookies, headers and forms that no browser would send."""
    rng = random.Random(1)
    cookie = f"settler={browser.cookies['settler']}".encode()
    paths = [path.encode() for path in all_pages(shop)]
    mark = browser.html.form("/logout").fields["form_mark"].encode()
    statuses: Counter[int] = Counter()
    for _ in range(150):
        path, junk = rng.choice(paths), rng.choice(GARBAGE)
        target = rng.choice(
            [path + b"/" + junk, path + b"?" + junk, path + b"?reference=" + junk, path + b"?done=" + junk, path]
        )
        cookies = rng.choice([cookie, cookie, cookie, b"settler=" + junk, b"settler-login=" + junk, junk])
        headers = [b"Host: 127.0.0.1", b"Cookie: " + cookies, b"Connection: close"]
        body = b""
        method = rng.choice([b"GET", b"GET", b"POST", b"PUT"])
        if method == b"POST":
            target = rng.choice([path + b"/mark", b"/ops/login", b"/ops/logout"])
            body = b"form_mark=" + rng.choice([mark, mark, junk]) + b"&reason=" + junk + b"&key=" + junk
            headers += [
                b"Sec-Fetch-Site: same-origin",
                b"Content-Type: application/x-www-form-urlencoded",
                b"Content-Length: %d" % len(body),
            ]
        statuses[await raw_status(api, b"\r\n".join([method + b" " + target + b" HTTP/1.1", *headers, b"", body]))] += 1
    assert all(status < 500 for status in statuses), statuses
    assert statuses[200] > 10


@pytest.mark.parametrize("query", ["dead-letters?endpoint_id=%00", "suspense?chain=a%00b"])
async def test_filter__with_a_character_no_database_takes__is_told_so(browser: Browser, query: str) -> None:
    """U+0000 in an endpoint's id went to the database as it was; PostgreSQL refuses it, which was a 500."""
    html = await browser.open(f"/ops/{query}", status=422)
    assert "control character U+0000" in html.text


async def raw_status(api: Api, sent: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.client.port)
    try:
        writer.write(sent)
        line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.close()


async def test_nothing_there__is_a_page(browser: Browser) -> None:
    for path in ("/ops/nowhere", "/ops/invoices/inv_x", "/ops/transfers/x", "/ops/holds/hld_x", "/ops/x/y/z"):
        html = await browser.open(path, status=404)
        assert "There is nothing here" in html.text
        check_accessible(html)
    await browser.open("/ops/")
    assert browser.path == "/ops"


async def test_database_away__is_a_page_that_says_to_try_again(
    browser: Browser, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(type(api.db), "read", away)
    response = await browser.request("GET", "/ops", status=503)
    assert "Please try again in a moment" in browser.html.text
    assert response.headers["Retry-After"] == "2"


def test_every_page__is_looked_at_here(filled: tuple[Path, Shop]) -> None:
    """A new page is to be added to `all_pages`."""
    shapes = {path.rpartition("/")[0] if path.count("/") == 3 else path for path in all_pages(filled[1])}
    assert {route.path.replace("/{id}", "") for route in ops.ROUTES} == shapes
