"""`/pay/{token}`: what the server sends to payers. In a browser: `tests/browser/test_pay_page.py`."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from sqlalchemy import update

from chains.address import to_checksum
from chains.model import Address
from settler.api.limits import Limits
from settler.api.pages import pay, render
from settler.clock import FakeClock
from settler.domain.drafting import ChainOffer, OptionRequest
from settler.domain.invoices import Match
from settler.storage import schema
from settler.storage.engine import Database
from tests.api.conftest import NOW, USDC, Api, Start, address, invoice
from tests.api.test_qr import matrix, modules
from tests.api.test_stream import HeldClock, served
from tests.support.db import sqlite_alone
from tests.support.world import World

SCAN = "https://scan.example/base"


class Page(HTMLParser):
    """What a page holds: its text, and each element's attributes by id and by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.by_id: dict[str, dict[str, str]] = {}
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self._texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if "id" in found:
            assert found["id"] not in self.by_id, "an id is given once"
            self.by_id[found["id"]] = found

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def offers_an_address(self) -> bool:
        return bool({"address", "amount", "wallet"} & set(self.by_id)) or "qr.svg" in self.source or "0x" in self.source


db_url = sqlite_alone  # its queries are tested on both in tests/storage


async def shown(api: Api, path: str, *, status: int = 200) -> Page:
    async with api.client.get(path) as response:
        text = await response.text()
        assert (response.status, response.content_type) == (status, "text/html"), text
        for name, value in render.SECURITY_HEADERS.items():
            assert response.headers[name] == value
        return Page(text)


async def made(api: Api, **changes: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await api.post("/v1/invoices", invoice(**changes))
    return answer


# -- what is asked for -------------------------------------------------------------------------------------------------


async def test_page__shows_what_to_send_where_and_until_when(api: Api) -> None:
    to = address()
    asked = await made(
        api, amount="12.50", reference="order 7", options=[{"chain": "base", "token": "USDC", "pay_to": to}]
    )
    page = await shown(api, asked["pay_path"])
    assert f"To this address {to} " in page.text
    assert "Exact amount 12.50 USDC" in page.text
    assert "Send only USDC on Base . Another token" in page.text
    assert "For order 7" in page.text
    assert page.by_id["wallet"]["href"] == asked["options"][0]["uri"]
    assert page.by_id["expires"] == {
        "id": "expires",
        "datetime": asked["expires_at"],
        "data-now": "2026-03-01T12:00:00Z",
    }
    assert "Send before 1 Mar 2026, 13:00 UTC" in page.text
    code = next(img["src"] for img in page.all("img"))
    async with api.client.get(code) as response:
        assert (response.status, response.content_type) == (200, "image/svg+xml")
        assert response.headers["Cache-Control"] == "no-store"
        assert modules(await response.text()) == matrix(asked["options"][0]["uri"])
    assert to_checksum(USDC.address) in page.text, "which contract the token is"
    assert page.all("meta")[-1] == {"http-equiv": "refresh", "content": "15"}


async def test_page__several_options__the_one_asked_for_is_shown(api: Api) -> None:
    ways = [{"chain": "base", "token": "USDC", "pay_to": address()} for _ in range(3)]
    asked = await made(api, options=ways)
    for query, index in (("", 0), ("?option=0", 0), ("?option=2", 2)):
        page = await shown(api, asked["pay_path"] + query)
        assert page.by_id["wallet"]["href"] == asked["options"][index]["uri"]
        links = [a for a in page.all("a") if a["href"].startswith("?option=")]
        assert [a["href"] for a in links] == ["?option=0", "?option=1", "?option=2"]
        assert [n for n, a in enumerate(links) if a.get("aria-current") == "true"] == [index]
        async with api.client.get(f"{asked['pay_path']}/qr.svg{query}") as response:
            assert modules(await response.text()) == matrix(asked["options"][index]["uri"])


async def test_page__an_option_that_is_not_there__is_404_not_another_one(api: Api) -> None:
    """To show another network than the link meant could send the money elsewhere."""
    asked = await made(api)
    for option in ("3", "-1", "", "1.0", "%00", "999999999"):
        page = await shown(api, f"{asked['pay_path']}?option={option}", status=404)
        assert not page.offers_an_address, option
        await api.refused("GET", f"{asked['pay_path']}/qr.svg?option={option}", 404)


async def test_page__other_ways_to_match__say_what_the_payer_must_know(api: Api) -> None:
    payer, reference = address(), "0x" + "ab" * 8
    for option, says, has_wallet_link in (
        ({"match": "amount"}, "Send exactly 12.50", True),
        ({"match": "payer", "payer": payer}, f"Send it from your address {payer} ,", True),
        ({"match": "reference", "reference": reference}, "a plain transfer from a wallet does not", False),
    ):
        way = {"chain": "base", "token": "USDC", "pay_to": address(), **option}
        page = await shown(api, (await made(api, amount="12.50", options=[way]))["pay_path"])
        assert says in page.text
        assert ("wallet" in page.by_id) is has_wallet_link
        assert (len(page.all("img")) == 1) is has_wallet_link, "a code that a wallet pays without the reference: a trap"
        assert (reference in page.text) is not has_wallet_link


# -- where it stands ---------------------------------------------------------------------------------------------------


async def test_page__canceled_held_or_over__shows_no_address(start: Start) -> None:
    clock = HeldClock(NOW)
    api = await start(clock=clock)
    canceled, held, over = [await made(api) for _ in range(3)]
    await api.post(f"/v1/invoices/{canceled['id']}/cancel", {"reason": "changed their mind"}, status=200)
    await api.post("/v1/holds", {"invoice_id": held["id"], "reason": "sanctions list"})
    for asked, headline in ((canceled, "Canceled"), (held, "Being checked")):
        page = await shown(api, asked["pay_path"])
        assert headline in page.text
        assert not page.offers_an_address
        assert "sanctions" not in page.source and "changed their mind" not in page.source
        await api.refused("GET", asked["pay_path"] + "/qr.svg", 404)
    clock.advance(3_600)
    assert (await shown(api, over["pay_path"])).offers_an_address, "a payment at the very end is in time"
    clock.advance(1)
    page = await shown(api, over["pay_path"])
    assert "The time to pay is over" in page.text, "although no chain has said so yet"
    assert not page.offers_an_address
    await api.refused("GET", over["pay_path"] + "/qr.svg", 404)


async def test_page__nothing_is_read_of_the_chain__shows_no_address(start: Start) -> None:
    """The page went on asking for money on a chain that was halted, where it waits for an operator, and on one that
    was taken out of the configuration, where nobody would see it.
    """
    api = await start()
    two = [{"chain": "base", "token": token, "pay_to": address()} for token in ("USDC", "USDT")]
    usdt = replace(USDC, symbol="USDT", address=Address(b"\xd0" * 20))
    both = {"base": ChainOffer(name="base", chain_id=USDC.chain_id, tokens={"USDC": USDC, "USDT": usdt})}
    asked = await made(await start(catalog=both), options=two)
    page = await shown(api, asked["pay_path"] + "?option=1")
    assert page.offers_an_address and two[0]["pay_to"] in page.text and two[1]["pay_to"] not in page.source
    await api.refused("GET", asked["pay_path"] + "/qr.svg?option=1", 404)
    without = await start(catalog={})
    halted = await start(catalog=both)
    async with api.db.write() as conn:
        await conn.execute(update(schema.chains).values(halted_at=NOW, halt_reason="its nodes tell of two chains"))
    for one in (without, halted):
        page = await shown(one, asked["pay_path"])
        assert "Being checked" in page.text and "do not send anything" in page.text
        assert not page.offers_an_address
        await one.refused("GET", asked["pay_path"] + "/qr.svg", 404)


async def test_page__of_much_dust__counts_as_many_requests(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three thousand grains of dust cost a few dollars to send, and then a third of a second of the whole process each
    time anybody looked at the page.
    """
    monkeypatch.setattr(pay, "PAYMENTS_A_REQUEST", 10)
    world = await World.on(db)
    owed, other = await world.invoice("100"), await world.invoice("100")
    world.pay(owed, 1, times=50)
    world.mine()
    await world.watch()
    clock = FakeClock(world.clock.now())
    limits = Limits(rate_per_s=5, burst=100, monotonic=clock.monotonic)
    async with served(world, limits=limits) as site:
        left = []
        for path in (f"/pay/{other.pay_token}", f"/pay/{owed.pay_token}", f"/pay/{owed.pay_token}/qr.svg"):
            async with site.api.client.get(path) as response:
                assert response.status in {200, 404}
                left.append(int(response.headers["RateLimit"].partition("r=")[2].partition(";")[0]))
        assert left == [19, 13, 7]
        for status in (200, 429):
            async with site.api.client.get(f"/pay/{owed.pay_token}") as response:
                assert response.status == status


async def test_page__follows_the_payments(db: Database) -> None:
    world = await World.on(db)
    owed = await world.invoice("100")
    path = f"/pay/{owed.pay_token}"
    async with served(world) as site:

        async def looked() -> Page:
            return await shown(site.api, path)

        # the world's invoices are made a day after genesis, and by its clock
        site.clock.advance((world.clock.now() - site.clock.now()).total_seconds())
        world.pay(owed, "40")
        world.mine()
        await world.watch()
        page = await looked()
        assert "Still to pay: 60.00 USDC" in page.text
        assert "40.00 of 100.00 USD has arrived" in page.text
        assert "uint256=60000000" in page.by_id["wallet"]["href"]
        assert "1 confirmation " in page.text
        sent = world.pay(owed, "61")
        world.mine()
        await world.watch()
        page = await looked()
        assert "Payment seen" in page.text
        assert "Your payments" in page.text
        assert f"0x{sent.hash.hex()}" in page.text
        assert "qr.svg" not in page.source
        assert not {"address", "amount", "wallet"} & set(page.by_id)
        world.mine(empty_after=5)
        await world.catch_up()
        page = await looked()
        assert "100.00 USD is paid, and final" in page.text
        assert "More came than was asked for" in page.text
        assert "final" in page.text
        assert not page.all("noscript"), "nothing will change: it need not be loaded again"


async def test_page__late_money__is_shown_and_nobody_told_why_it_waits(db: Database) -> None:
    world = await World.on(db)
    owed = await world.invoice("100", expires_in_s=60)
    async with served(world) as site:
        site.clock.advance((world.clock.now() - site.clock.now()).total_seconds() + 61)
        world.mine(after_s=2 * 86_400)
        world.pay(owed)
        world.mine()
        await world.catch_up()
        view = await world.view(owed.id)
        page = await shown(site.api, f"/pay/{owed.pay_token}")
        assert view["status"] == "expired" and "late" in view["exceptions"]
        assert not {"address", "amount", "wallet"} & set(page.by_id)
        assert "100.00" in page.text and "Your payment" in page.text


async def test_page__a_unique_amount__is_not_offered_for_the_rest(db: Database) -> None:
    """Half an invoice paid to its own address: the shared address takes only its whole unique amount."""
    world = await World.on(db)
    shared, own = world.address(), world.address()
    owed = await world.invoice(
        "100",
        options=[
            OptionRequest(chain="anvil", token="USDC", pay_to=shared, match=Match.AMOUNT),
            OptionRequest(chain="anvil", token="USDC", pay_to=own, match=Match.ADDRESS),
        ],
    )
    async with served(world) as site:
        site.clock.advance((world.clock.now() - site.clock.now()).total_seconds())
        path = f"/pay/{owed.pay_token}"
        page = await shown(site.api, f"{path}?option=0")
        tail = owed.options[0].amount_base
        assert f"uint256={tail}" in page.by_id["wallet"]["href"], "with its own last digits"
        world.pay(owed, "50", option=1)
        world.mine()
        await world.watch()
        for query in ("", "?option=0", "?option=1"):
            page = await shown(site.api, path + query)
            assert page.by_id["wallet"]["href"].endswith("uint256=50000000")
            assert to_checksum(own) in page.text and to_checksum(shared) not in page.text
        await site.api.refused("GET", f"{path}/qr.svg?option=0", 404)


async def test_page__transactions__link_to_the_chains_explorer(db: Database) -> None:
    world = await World.on(db)
    owed = await world.invoice("1")
    sent = world.pay(owed)
    world.mine()
    await world.watch()
    tx = f"0x{sent.hash.hex()}"
    async with served(world) as site:
        assert [a for a in (await shown(site.api, f"/pay/{owed.pay_token}")).all("a") if "/tx/" in a["href"]] == []
    offer = world.catalog()["anvil"]
    with_explorer = {"anvil": ChainOffer(name="anvil", chain_id=offer.chain_id, tokens=offer.tokens, explorer=SCAN)}
    async with served(world, catalog=with_explorer) as site:
        (link,) = [a for a in (await shown(site.api, f"/pay/{owed.pay_token}")).all("a") if "/tx/" in a["href"]]
        assert link == {"href": f"{SCAN}/tx/{tx}", "target": "_blank", "rel": "noopener noreferrer"}


# -- who may not, and what strangers wrote -----------------------------------------------------------------------------


async def test_page__a_name_of_none__is_404_without_a_hint(api: Api) -> None:
    await made(api)
    answers = set()
    for token in ("0" * 26, "x", "0" * 25, "0" * 27, "0" * 25 + "U", "%00" * 26, "inv_" + "0" * 26, "%F0%9F%92%A9" * 6):
        page = await shown(api, f"/pay/{token}", status=404)
        answers.add(page.source)
    assert len(answers) == 1, "one answer for all: it does not tell what a good name looks like, nor repeat the bad one"
    await api.refused("GET", "/pay/", 404)


async def test_page__shows_nothing_of_the_merchants_own(api: Api) -> None:
    asked = await made(api, merchant="acme", metadata={"margin": "s3cret-margin"})
    page = await shown(api, asked["pay_path"])
    for inside in ("acme", "s3cret-margin", "margin", asked["id"]):
        assert inside not in page.source


STRANGE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "{{ 7 * 7 }}{% include 'base.html' %}",
    "</title><script>alert(1)</script>",
)


async def test_page__strangers_words__are_text_and_nothing_else(api: Api) -> None:
    for reference in STRANGE:
        page = await shown(api, (await made(api, reference=reference))["pay_path"])
        assert [s for s in page.all("script") if "src" not in s] == [], "all script is ours, and none in the page"
        assert [tag for tag, attributes in page.elements if any(name.startswith("on") for name in attributes)] == []
        assert len(page.all("img")) == 1
        assert f"For {reference}" in page.text


async def test_page__characters_that_turn_the_direction__are_spelt_out(api: Api) -> None:
    page = await shown(api, (await made(api, reference="order \u202e54321\u202c \u05d0\u05d1"))["pay_path"])
    assert "For order \\u202e54321\\u202c \u05d0\u05d1" in page.text
    assert "\u202e" not in page.source


async def test_page__a_thousand_grains_of_dust__do_not_hide_the_payment(db: Database) -> None:
    world = await World.on(db)
    owed = await world.invoice("100")
    world.pay(owed, 1, times=30)
    sent = world.pay(owed, "60")
    world.pay(owed, 1, times=30)
    world.mine()
    await world.watch()
    async with served(world) as site:
        site.clock.advance((world.clock.now() - site.clock.now()).total_seconds())
        page = await shown(site.api, f"/pay/{owed.pay_token}")
        assert f"0x{sent.hash.hex()}" in page.text
        assert len(page.all("li")) == 20
        assert "and 41 smaller ones" in page.text


async def test_page__has_no_script_and_no_style_of_its_own_and_nothing_from_elsewhere(api: Api) -> None:
    page = await shown(api, (await made(api))["pay_path"])
    assert not page.all("style")
    assert [tag for tag, attributes in page.elements if "style" in attributes] == []
    loaded = [e.get("src") or e.get("href", "") for tag, e in page.elements if tag in {"script", "link", "img"}]
    assert loaded
    assert all(url.startswith(("/static/", "/pay/", "data:image/svg+xml,")) for url in loaded)


async def test_assets__are_kept_for_ever_by_their_version_and_others_are_404(api: Api) -> None:
    page = await shown(api, (await made(api))["pay_path"])
    sheets = [link["href"] for link in page.all("link") if link["rel"] == "stylesheet"]
    scripts = [script["src"] for script in page.all("script")]
    for path, kind in [(s, "text/css") for s in sheets] + [(s, "text/javascript") for s in scripts]:
        async with api.client.get(path) as response:
            assert (response.status, response.content_type) == (200, kind)
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with api.client.get(path.partition("?")[0] + "?v=0") as response:
            assert response.headers["Cache-Control"] == "no-cache"
    for name in ("nothing.css", "..%2f__init__.py", "%2e%2e/render.py", "base.html"):
        await api.refused("GET", f"/static/{name}", 404)


async def test_page__time_left__does_not_depend_on_a_far_away_expiry(api: Api) -> None:
    asked = await made(api, expires_in_s=366 * 86_400)
    page = await shown(api, asked["pay_path"])
    assert page.by_id["expires"]["datetime"] == (NOW + timedelta(days=366)).isoformat().replace("+00:00", "Z")
