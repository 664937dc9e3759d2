"""What an operator does on `/ops`: the effect in the database and in the audit log, refusals, and forms sent twice."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from settler.api.app import ROUTES as API_ROUTES
from settler.api.pages import ops, ops_actions
from settler.domain.invoices import Allocation
from settler.storage import holds, schema, transfers, webhooks
from settler.storage.api_keys import Scope
from tests.api.conftest import Api, Start, invoice
from tests.api.ops_browser import Browser
from tests.api.ops_world import Shop, add_endpoint, build_shop, bury_oldest, full_shop, seen, stands, status_of
from tests.stages.test_operating import actions
from tests.support.db import BOTH
from tests.support.dump import audit
from tests.support.world import World

TYPED = "the customer wrote, <b>twice</b>"
SOME_ID = "0" * 26


@pytest.fixture(scope="module")
def filled(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop]:
    """A database with a shop in it, to be copied."""
    path = tmp_path_factory.mktemp("ops") / "shop.db"
    shutil.copy(sqlite_template, path)
    return path, build_shop(f"sqlite:///{path}")


@pytest.fixture
def db_url(request: pytest.FixtureRequest, filled: tuple[Path, Shop], tmp_path: Path) -> str:
    """SQLite's, with the shop in it; of a test that asks for both, PostgreSQL's as well."""
    if getattr(request, "param", "sqlite") == "postgres":
        url: str = request.getfixturevalue("postgres_db_url")
        return url
    shutil.copy(filled[0], tmp_path / "shop.db")
    return f"sqlite:///{tmp_path / 'shop.db'}"


@pytest.fixture
async def shop(api: Api, filled: tuple[Path, Shop]) -> Shop:
    return filled[1] if api.db.dialect == "sqlite" else await full_shop(api.db)


@pytest.fixture
def world(api: Api, shop: Shop) -> World:
    return seen(api.db)


on_both = pytest.mark.parametrize("db_url", BOTH, indirect=True)


@pytest.fixture
async def browser(api: Api) -> Browser:
    browser = Browser(api.client)
    await browser.log_in(api.key)
    return browser


def who(browser: Browser) -> str:
    """As the page shows the caller."""
    (shown,) = [part["title"] for part in browser.html.of("span") if str(part.get("title")).startswith("api-key")]
    return str(shown)


async def settled_count(api: Api) -> float:
    """Of the metric."""
    async with api.client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("settler_settlements_total{"))


# Each of them


@on_both
async def test_assign__settles_and_is_in_the_audit_log(
    browser: Browser, api: Api, shop: Shop, db_url: str, world: World
) -> None:
    await browser.open(f"/ops/transfers/{shop.money.id}")
    html = await browser.send("/assign", invoice_id=f" {shop.open_invoice.id} ", reason=TYPED)
    assert browser.path == f"/ops/transfers/{shop.money.id}"
    assert "and the invoice is settled" in html.text
    assert html.actions() == ["logout"]
    assert await world.status(shop.open_invoice) == "settled"
    assert (await actions(world))[-1] == ("transfer.assign", shop.money.id, who(browser), TYPED)
    assert await settled_count(api) == 1
    assert TYPED in html.text
    await audit(db_url)


async def test_assign__too_little__waits(browser: Browser, api: Api, shop: Shop) -> None:
    other = await api.post("/v1/invoices", invoice(amount="250.00"))
    await browser.open(f"/ops/transfers/{shop.money.id}")
    html = await browser.send("/assign", invoice_id=other["id"], reason=TYPED)
    assert "counts for the invoice now" in html.text
    assert (await api.get(f"/v1/invoices/{other['id']}"))["status"] == "pending"
    assert await settled_count(api) == 0


async def test_dismiss__leaves_the_queue_and_may_be_assigned_still(browser: Browser, shop: Shop, world: World) -> None:
    await browser.open(f"/ops/transfers/{shop.money.id}")
    html = await browser.send("/dismiss", reason=TYPED)
    assert "The transfer is dismissed" in html.text
    assert html.actions() == ["logout", "assign"]
    assert (await world.transfers())[0].allocation is Allocation.DISMISSED
    assert (await actions(world))[-1] == ("transfer.dismiss", shop.money.id, who(browser), TYPED)
    assert "100.00" not in (await browser.open("/ops/suspense")).text
    assert "100.00" in (await browser.open("/ops/suspense?show=dismissed")).text


async def test_hold__stops_the_invoice(browser: Browser, api: Api, shop: Shop, world: World) -> None:
    await browser.open(f"/ops/invoices/{shop.open_invoice.id}")
    html = await browser.send("/hold", reason=TYPED)
    assert "The invoice is on hold" in html.text
    async with api.db.read() as conn:
        (placed,) = await holds.of_invoice(conn, shop.open_invoice.id)
    assert (placed.stands, placed.stop.detail, placed.held_by) == (True, TYPED, who(browser))
    assert (await actions(world))[-1] == ("hold.place", placed.id, who(browser), TYPED)


async def test_release__lets_it_settle(browser: Browser, api: Api, shop: Shop, db_url: str, world: World) -> None:
    await browser.open(f"/ops/holds/{shop.hold.id}")
    html = await browser.send("/release", reason=TYPED)
    assert "The hold is released, and its invoice is settled" in html.text
    assert not await stands(api.db, shop.hold)
    assert await world.status(shop.held) == "settled"
    assert (await actions(world))[-1] == ("hold.release", shop.hold.id, who(browser), TYPED)
    assert await settled_count(api) == 1
    await audit(db_url)


async def test_mark__settles_with_what_there_is(browser: Browser, shop: Shop, world: World) -> None:
    await browser.open(f"/ops/invoices/{shop.open_invoice.id}")
    html = await browser.send("/mark", reason=TYPED)
    assert "The invoice is marked as settled" in html.text
    assert await world.status(shop.open_invoice) == "settled"
    assert (await actions(world))[-1] == ("invoice.mark", shop.open_invoice.id, who(browser), TYPED)


async def test_cancel__wants_no_reason(browser: Browser, shop: Shop, world: World) -> None:
    await browser.open(f"/ops/invoices/{shop.open_invoice.id}")
    html = await browser.send("/cancel")
    assert "The invoice is canceled" in html.text
    assert html.actions() == ["logout"]
    assert await world.status(shop.open_invoice) == "canceled"
    assert (await actions(world))[-1] == ("invoice.cancel", shop.open_invoice.id, who(browser), "")


async def test_retry__makes_a_dead_letter_due(browser: Browser, api: Api, shop: Shop) -> None:
    await browser.open("/ops/dead-letters")
    html = await browser.send("/retry")
    assert browser.path == "/ops/dead-letters"
    assert "The delivery is due now" in html.text
    assert "None: every endpoint has all its events" in html.text
    assert await status_of(api.db, shop.dead) == "pending"


async def test_replay__sends_all_of_one_endpoint_again(browser: Browser, api: Api, shop: Shop) -> None:
    second = await bury_oldest(api.db, shop.endpoint)
    other = await add_endpoint(api.db, "whe_01kdvdnnq000000000000000h3")
    await api.post("/v1/invoices", invoice())
    theirs = await bury_oldest(api.db, other)
    await browser.open(f"/ops/dead-letters?endpoint_id={shop.endpoint}")
    html = await browser.send("/replay")
    assert "dead letters are due now" in html.text
    assert [await status_of(api.db, id_) for id_ in (shop.dead, second, theirs)] == ["pending", "pending", "dead"]


# Refused


async def test_refused__says_why_beside_the_form_and_keeps_what_was_typed(
    browser: Browser, shop: Shop, world: World
) -> None:
    before = await actions(world)
    for typed, status, said in (
        (shop.settled.id, 409, "is settled; choose one that is still open"),
        (f"inv_{SOME_ID}", 404, f"there is no invoice inv_{SOME_ID}"),
        ("order-42", 422, "'order-42' is no invoice id; they are inv_ and 26 characters"),
        ("", 422, "invoice_id: is empty"),
    ):
        await browser.open(f"/ops/transfers/{shop.money.id}")
        html = await browser.send("/assign", invoice_id=typed, reason=TYPED, status=status)
        assert said in html.text
        form = html.form("/assign")
        assert (form.fields["invoice_id"], form.fields["reason"]) == (typed, TYPED)
        assert html.form("/dismiss").fields["reason"] == ""
    assert await actions(world) == before
    html = await browser.send("/assign", invoice_id=shop.open_invoice.id)
    assert "the invoice is settled" in html.text


async def test_refused__without_a_reason__says_all_that_is_wrong(browser: Browser, shop: Shop) -> None:
    await browser.open(f"/ops/transfers/{shop.money.id}")
    html = await browser.send("/assign", invoice_id="x", reason="  ", status=422)
    assert "is no invoice id" in html.text
    assert "is empty; say why, it is kept in the audit log" in html.text


async def test_refused__the_thing_is_not_there__is_a_page_without_the_form(browser: Browser, shop: Shop) -> None:
    html = await browser.open(f"/ops/transfers/{shop.money.id}")
    html.form("/dismiss").action = f"/ops/transfers/trf_{SOME_ID}/dismiss"
    html = await browser.send("/dismiss", reason=TYPED, status=404)
    assert "There is nothing here" in html.text


async def test_refused__the_endpoint_is_disabled__shows_the_list_with_the_reason(
    browser: Browser, api: Api, shop: Shop
) -> None:
    html = await browser.open("/ops/dead-letters")
    async with api.db.write() as conn:
        await webhooks.disable_endpoint(conn, shop.endpoint, api.clock.now(), reason="gone")
    html = await browser.send("/retry", status=409)
    assert "is disabled; enable it to send there" in html.text
    assert html.actions() == ["logout"]
    assert await status_of(api.db, shop.dead) == "dead"


# Sent twice


async def test_sent_twice__has_its_effect_once_and_says_the_same(
    browser: Browser, api: Api, shop: Shop, world: World
) -> None:
    form = await browser.open(f"/ops/transfers/{shop.money.id}")
    first = await browser.send("/assign", invoice_id=shop.open_invoice.id, reason=TYPED)
    did = await actions(world)
    browser.html = form
    again = await browser.send("/assign", invoice_id=shop.open_invoice.id, reason=TYPED)
    assert again.text == first.text
    assert await actions(world) == did
    assert await settled_count(api) == 1


@on_both
async def test_sent_twice__at_once__has_its_effect_once(browser: Browser, api: Api, shop: Shop, world: World) -> None:
    form = await browser.open(f"/ops/holds/{shop.hold.id}")
    others = [Browser(api.client, cookies=dict(browser.cookies), html=form) for _ in range(8)]
    shown = await asyncio.gather(*(other.send("/release", reason=TYPED) for other in others))
    assert {"The hold is released, and its invoice is settled" in html.text for html in shown} == {True}
    assert [action for action, _, _, _ in await actions(world)].count("hold.release") == 1
    assert await settled_count(api) == 1


async def test_sent_twice__with_other_words__is_refused(browser: Browser, shop: Shop) -> None:
    form = await browser.open(f"/ops/invoices/{shop.open_invoice.id}")
    await browser.send("/hold", reason=TYPED)
    browser.html = form
    html = await browser.send("/hold", reason="something else", status=409)
    assert "was sent already, with other words" in html.text


async def test_sent_twice__by_another_key__is_another_form(browser: Browser, api: Api, shop: Shop) -> None:
    other = Browser(api.client)
    await other.log_in(await api.key_for(*Scope))
    path = f"/ops/transfers/{shop.money.id}"
    once = (await browser.open(path)).form("/dismiss").fields["once"]
    await browser.send("/dismiss", reason=TYPED)
    html = await other.open(path)
    html = await other.send("/assign", once=once, invoice_id=shop.open_invoice.id, reason=TYPED)
    assert "and the invoice is settled" in html.text


@pytest.mark.parametrize("once", ["", "é" * 32])
async def test_sent__without_a_name_of_its_own__is_carried_out(browser: Browser, shop: Shop, once: str) -> None:
    await browser.open(f"/ops/transfers/{shop.money.id}")
    html = await browser.send("/dismiss", reason=TYPED, once=once)
    assert "The transfer is dismissed" in html.text


async def test_refused__takes_no_name(browser: Browser, world: World, shop: Shop) -> None:
    """A form that was refused has had no effect: sent again as it was, it is looked at anew."""
    await browser.open(f"/ops/transfers/{shop.money.id}")
    await browser.send("/assign", invoice_id=shop.settled.id, reason=TYPED, status=409)
    assert await world.count(schema.idempotency_keys) == 0
    await browser.send("/assign", invoice_id=shop.open_invoice.id)
    assert await world.count(schema.idempotency_keys) == 1


# Who may


async def test_scopes__are_those_of_the_api() -> None:
    """What a page does takes what the call of the API for it takes."""
    api = {(route.method, route.path): route.scope for route in API_ROUTES}
    same = {
        "/ops/invoices/{id}/cancel": "/v1/invoices/{id}/cancel",
        "/ops/invoices/{id}/mark": "/v1/invoices/{id}/mark",
        "/ops/invoices/{id}/hold": "/v1/holds",
        "/ops/transfers/{id}/assign": "/v1/transfers/{id}/assign",
        "/ops/transfers/{id}/dismiss": "/v1/transfers/{id}/dismiss",
        "/ops/holds/{id}/release": "/v1/holds/{id}/release",
        "/ops/dead-letters/{id}/retry": "/v1/webhook-deliveries/{id}/retry",
        "/ops/endpoints/{id}/replay": "/v1/webhook-deliveries/replay",
    }
    assert {route.path: route.scope for route in ops_actions.ROUTES} == {
        path: api["POST", of_api] for path, of_api in same.items()
    }
    assert {route.scope for route in ops.ROUTES} == {Scope.READ}


@pytest.mark.parametrize(
    ("scopes", "shown"),
    [
        ([Scope.READ], {}),
        ([Scope.READ, Scope.WRITE], {"invoice": ["cancel"], "letters": ["retry"]}),
        (
            [Scope.READ, Scope.OPERATE],
            {"invoice": ["hold", "mark"], "transfer": ["assign", "dismiss"], "hold": ["release"]},
        ),
    ],
)
async def test_a_key_without_the_scope__sees_no_button_and_its_form_is_403(
    api: Api, shop: Shop, scopes: list[Scope], shown: dict[str, list[str]], world: World
) -> None:
    browser = Browser(api.client)
    await browser.log_in(await api.key_for(*scopes))
    before = await actions(world)
    paths = {
        "invoice": f"/ops/invoices/{shop.open_invoice.id}",
        "transfer": f"/ops/transfers/{shop.money.id}",
        "hold": f"/ops/holds/{shop.hold.id}",
        "letters": "/ops/dead-letters",
    }
    actions_of = {
        "invoice": [("cancel", Scope.WRITE), ("mark", Scope.OPERATE), ("hold", Scope.OPERATE)],
        "transfer": [("assign", Scope.OPERATE), ("dismiss", Scope.OPERATE)],
        "hold": [("release", Scope.OPERATE)],
        "letters": [(f"{shop.dead}/retry", Scope.WRITE)],
    }
    for name, path in paths.items():
        html = await browser.open(path)
        assert html.actions() == ["logout", *shown.get(name, [])], name
        mark = html.form("/logout").fields["form_mark"]
        for action, scope in actions_of[name]:
            if scope not in scopes:
                await browser.request("POST", f"{path}/{action}", data={"form_mark": mark, "reason": TYPED}, status=403)
                assert f"needs a key with scope {scope}" in browser.html.text
    assert await actions(world) == before


async def test_a_merchant_s_key__sees_and_decides_about_its_own_alone(api: Api, shop: Shop, world: World) -> None:
    theirs = Browser(api.client)
    await theirs.log_in(await api.key_for(*Scope, merchant="acme"))
    mark = theirs.html.form("/logout").fields["form_mark"]
    before = await actions(world)
    for path, forms in (
        (f"/ops/invoices/{shop.open_invoice.id}", ("cancel", "mark", "hold")),
        (f"/ops/transfers/{shop.money.id}", ("assign", "dismiss")),
        (f"/ops/holds/{shop.hold.id}", ("release",)),
    ):
        await theirs.open(path, status=404)
        for form in forms:
            fields = {"form_mark": mark, "reason": TYPED, "invoice_id": shop.open_invoice.id}
            await theirs.request("POST", f"{path}/{form}", data=fields, status=404)
    await theirs.request("POST", f"/ops/dead-letters/{shop.dead}/retry", data={"form_mark": mark}, status=404)
    await theirs.request("POST", f"/ops/endpoints/{shop.endpoint}/replay", data={"form_mark": mark}, status=404)
    assert await actions(world) == before
    assert await status_of(api.db, shop.dead) == "dead"


async def test_a_merchant_s_key__is_not_told_which_invoices_others_have(api: Api, shop: Shop, world: World) -> None:
    """Asked to assign a payment of his own, a merchant was told 404 for an invoice that nobody has and 409 for one that
    another merchant has.
    """
    async with api.db.read() as conn:
        (paid,) = (await transfers.of_invoices(conn, [shop.settled.id]))[shop.settled.id]
    others = await api.post("/v1/invoices", invoice(merchant="acme"))
    ours = await api.key_for(*Scope, merchant=shop.settled.merchant)
    refusals = [
        await api.refused(
            "POST", f"/v1/transfers/{paid.id}/assign", 404, key=ours, json={"invoice_id": id_, "reason": TYPED}
        )
        for id_ in (others["id"], f"inv_{'0' * 26}")
    ]
    assert [r["detail"].partition("inv_")[0] for r in refusals] == ["there is no invoice "] * 2
    await api.refused(
        "POST",
        f"/v1/transfers/{paid.id}/assign",
        409,
        key=ours,
        json={"invoice_id": shop.open_invoice.id, "reason": TYPED},
    )


async def test_no_keys__anonymous_decides_by_forms_of_this_process(start: Start, filled: tuple[Path, Shop]) -> None:
    api = await start(auth="none")
    path = f"/ops/invoices/{filled[1].open_invoice.id}"
    browser = Browser(api.client)
    await browser.open(path)
    await browser.send("/mark", reason=TYPED, form_mark="x", status=403)
    await browser.open(path)
    await browser.send("/mark", reason=TYPED)
    marked = ("invoice.mark", filled[1].open_invoice.id, "anonymous", TYPED)
    assert (await actions(seen(api.db)))[-1] == marked


async def test_api_and_pages__share_their_decisions(browser: Browser, api: Api, shop: Shop) -> None:
    """What one has decided, the other refuses with the same words."""
    path = f"/v1/transfers/{shop.money.id}/dismiss"
    await browser.open(f"/ops/transfers/{shop.money.id}")
    await api.post(path, {"reason": TYPED}, status=200)
    html = await browser.send("/dismiss", reason=TYPED, status=409)
    problem: Any = await api.refused("POST", path, 409, json={"reason": TYPED})
    assert problem["detail"] in html.text
