"""The operator's pages in a real browser: what an operator does on a day, by keyboard, with and without scripts."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from settler.domain.drafting import OptionRequest
from settler.domain.invoices import Match
from settler.storage.api_keys import Scope
from tests.api import conftest as api_tests
from tests.api.conftest import Api
from tests.api.ops_world import Shop, add_endpoint, bury_oldest, full_shop, seen, stands, status_of
from tests.browser.conftest import (
    DESKTOP,
    PHONE,
    Shoot,
    Trouble,
    Visit,
    low_contrasts,
    scrolls_sideways,
    tab_order,
)
from tests.support.world import World

start, api = api_tests.start, api_tests.api

LONG = "W" * 190
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202egnp.exe'


@pytest.fixture
def db_url(sqlite_db_url: str) -> str:
    """One database is enough for what a browser sees."""
    return sqlite_db_url


@pytest.fixture
async def shop(api: Api) -> Shop:
    shop = await full_shop(api.db)
    api.providers += [
        {"chain": "anvil", "provider": "node-a.example", "up": True, "state": "up", "reason": None, "head": 20,
         "latency_ms": 41},
        {"chain": "anvil", "provider": "node-b.example", "up": False, "state": "cooling", "reason": "answered 502",
         "head": 17, "latency_ms": None},
    ]  # fmt: skip
    return shop


def at(api: Api, path: str) -> str:
    return str(api.client.make_url(path))


async def logged_in(api: Api, visit: Visit, path: str = "/ops", *, key: str | None = None, **how: object) -> Page:
    page = await visit(at(api, path), **how)  # type: ignore[arg-type]  # the context's own keywords
    await page.get_by_label("API key").fill(key or api.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url(at(api, path))
    return page


async def test_a_day_at_ops__by_keyboard_alone(api: Api, shop: Shop, visit: Visit) -> None:
    """Log in, assign a transfer in suspense, release a hold, send a dead letter again, log out."""
    page = await visit(at(api, "/ops/suspense"))
    await page.keyboard.type(api.key)  # the field has the focus
    await enter(page)

    await press_to(page, "Decide")
    await enter(page)
    await press_to(page, "assign-invoice_id")
    await page.keyboard.type(shop.open_invoice.id)
    await page.keyboard.press("Tab")
    await page.keyboard.type("the customer wrote")
    await enter(page)
    await expect(page.get_by_role("status")).to_contain_text("the invoice is settled")
    assert await seen(api.db).status(shop.open_invoice) == "settled"

    await press_to(page, "Holds")
    await enter(page)
    await press_to(page, "Decide")
    await enter(page)
    await press_to(page, "release-reason")
    await page.keyboard.type("the payer took it back")
    await enter(page)
    await expect(page.get_by_role("status")).to_contain_text("The hold is released")
    assert not await stands(api.db, shop.hold)
    assert await seen(api.db).status(shop.held) == "settled"

    await press_to(page, "Dead letters")
    await enter(page)
    await press_to(page, "Send again")
    await enter(page)
    await expect(page.get_by_role("status")).to_contain_text("The delivery is due now")
    assert await status_of(api.db, shop.dead) == "pending"

    await press_to(page, "Log out")
    await enter(page)
    await page.goto(at(api, "/ops"))
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_without_scripts__a_refused_form_says_why_and_keeps_what_was_typed(
    api: Api, shop: Shop, visit: Visit, trouble: Trouble
) -> None:
    trouble.expected = ("status of 409",)
    page = await logged_in(api, visit, f"/ops/transfers/{shop.money.id}", scripts=False)
    await page.get_by_label("Invoice id").fill(shop.settled.id)
    await page.locator("#assign-reason").fill("it was meant for that one")
    await page.get_by_role("button", name="Assign").click()
    said = page.get_by_role("alert")
    await expect(said).to_contain_text("is settled; choose one that is still open")
    await expect(page.get_by_label("Invoice id")).to_have_value(shop.settled.id)
    await expect(page.locator("#assign-reason")).to_have_value("it was meant for that one")
    await page.get_by_label("Invoice id").fill(shop.open_invoice.id)
    await page.get_by_role("button", name="Assign").click()
    await expect(page.get_by_role("status")).to_contain_text("the invoice is settled")


async def test_overview__keeps_itself_up_to_date(api: Api, shop: Shop, visit: Visit) -> None:
    page = await visit(at(api, "/ops"))
    await page.clock.install()
    await page.get_by_label("API key").fill(api.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url(at(api, "/ops"))
    await expect(page.get_by_role("link", name="in suspense")).to_contain_text("1")
    async with api.db.write() as conn:
        await seen(api.db).operating.dismiss(conn, shop.money.id, seen(api.db).by())
    await page.clock.run_for(11_000)
    await expect(page.get_by_role("link", name="in suspense")).to_contain_text("0")


async def test_a_link_from_elsewhere__finds_the_session(api: Api, shop: Shop, visit: Visit, trouble: Trouble) -> None:
    """A strict cookie is kept back when another site leads here; one step of our own later it is sent."""
    page = await logged_in(api, visit)
    other = at(api, f"/ops/invoices/{shop.settled.id}").replace("127.0.0.1", "localhost")
    trouble.expected = ("request to http://localhost", "request to http://127.0.0.1", "console error")
    await page.goto(other.partition("/ops")[0] + "/ops/login")
    await page.evaluate(f"location.href = '{at(api, f'/ops/invoices/{shop.settled.id}')}'")
    await expect(page.get_by_role("heading", level=1)).to_contain_text(shop.settled.reference)


async def test_forged_forms_of_another_site__change_nothing(
    api: Api, shop: Shop, visit: Visit, trouble: Trouble
) -> None:
    page = await logged_in(api, visit, f"/ops/transfers/{shop.money.id}")
    trouble.expected = ("request to http://127.0.0.1", "request to http://localhost", "console error", "form-action")
    elsewhere = await page.context.new_page()
    await elsewhere.goto(at(api, "/livez").replace("127.0.0.1", "localhost"))
    await elsewhere.evaluate(
        """(action) => {
            const form = document.createElement("form");
            form.method = "post";
            form.action = action;
            form.innerHTML = "<input name=reason value=forged>";
            document.body.append(form);
            form.submit();
        }""",
        at(api, f"/ops/transfers/{shop.money.id}/dismiss"),
    )
    await expect(elsewhere.get_by_role("main")).to_contain_text("sent from another site")
    assert (await seen(api.db).transfers())[0].allocation == "unmatched"


async def test_strangers_words__run_nothing_and_turn_nothing(api: Api, visit: Visit) -> None:
    """A dialog, a script error or a violation of the policy fails the visit."""
    world = await World.on(api.db)
    way = OptionRequest(chain="anvil", token="USDC", pay_to=world.address(), match=Match.ADDRESS)
    hostile = await world.invoice("100", options=[way], reference=HOSTILE[:190])
    async with api.db.write() as conn:
        hold = await world.operating.place_hold(conn, hostile.id, world.by(HOSTILE))
    endpoint = await add_endpoint(api.db, "whe_01kdvdnnq000000000000000h2", url=f"https://shop.example/{HOSTILE}")
    await world.invoice("100", reference=LONG)
    await bury_oldest(api.db, endpoint, error=HOSTILE)
    page = await logged_in(api, visit, size=PHONE)
    for path in (
        "/ops/invoices",
        f"/ops/invoices/{hostile.id}",
        "/ops/holds",
        f"/ops/holds/{hold.id}",
        "/ops/dead-letters",
    ):
        await page.goto(at(api, path))
        assert not await scrolls_sideways(page), path
        assert "\u202e" not in await page.content()
        assert await page.locator("img").count() == 0


@pytest.mark.parametrize(
    ("name", "size", "is_dark"), [("light", DESKTOP, False), ("dark", DESKTOP, True), ("phone", PHONE, False)]
)
async def test_every_page__is_readable_and_fits(
    api: Api, shop: Shop, visit: Visit, shoot: Shoot, name: str, size: tuple[int, int], is_dark: bool
) -> None:
    """Contrast of all text, no sideways scrolling, a visible focus all the way; and a picture of each."""
    page = await visit(at(api, "/ops/login"), size=size, dark=is_dark)
    await shoot(page, f"ops-login-{name}")
    assert await low_contrasts(page) == []
    await page.get_by_label("API key").fill(api.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url(at(api, "/ops"))
    for what, path in (
        ("overview", "/ops"),
        ("invoices", "/ops/invoices"),
        ("invoice", f"/ops/invoices/{shop.held.id}"),
        ("suspense", "/ops/suspense"),
        ("transfer", f"/ops/transfers/{shop.money.id}"),
        ("holds", "/ops/holds"),
        ("hold", f"/ops/holds/{shop.hold.id}"),
        ("dead-letters", "/ops/dead-letters"),
    ):
        await page.goto(at(api, path))
        await shoot(page, f"ops-{what}-{name}")
        assert await low_contrasts(page) == [], what
        assert not await scrolls_sideways(page), what
        assert (await tab_order(page))[:3] == ["Skip to content", "settler", "Overview"], what


async def test_a_key_that_may_only_look__sees_no_buttons(api: Api, shop: Shop, visit: Visit) -> None:
    page = await logged_in(api, visit, f"/ops/holds/{shop.hold.id}", key=await api.key_for(Scope.READ))
    await expect(page.get_by_role("heading", level=1)).to_contain_text("manual")
    assert await page.get_by_role("button").all_inner_texts() == ["Log out"]


async def press_to(page: Page, name: str) -> None:
    """Presses Tab until the focus is on what has that id, or begins with that text."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        at_ = await page.evaluate("[document.activeElement.id, document.activeElement.textContent.trim()]")
        if at_[0] == name or at_[1].startswith(name):
            return
    raise AssertionError(f"the Tab key does not reach {name!r}")


async def enter(page: Page) -> None:
    """Presses Enter on what leads to another page, and waits for that."""
    async with page.expect_navigation():
        await page.keyboard.press("Enter")
