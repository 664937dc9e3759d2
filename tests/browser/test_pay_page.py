"""The payment page as a payer has it: read the amount and the address off the screen, pay, and see it through."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Page, expect

from chains.address import parse_address
from settler.domain.money import parse_amount
from settler.logs import escape_controls
from tests.anvil.shop import FINALITY, Shop, open_shop
from tests.browser.conftest import PHONE, Shoot, Trouble, Visit, low_contrasts, scrolls_sideways, tab_order
from tests.support.daemon import Json, option, token_of

UNIT_DECIMALS = 6


def pay_url(shop: Shop, invoice: Json) -> str:
    return f"{shop.api.address}{invoice['pay_path']}"


async def read_off(page: Page) -> tuple[str, str]:
    """The amount and the address that are shown."""
    amount = await page.locator("#amount").inner_text()
    address = await page.locator("#address").inner_text()
    return amount.strip(), address.strip()


async def pay_what_is_shown(shop: Shop, page: Page, *, part: int = 1) -> None:
    """A `part`-th of it, mined."""
    amount, address = await read_off(page)
    units = parse_amount(amount, UNIT_DECIMALS, field="amount") // part
    await shop.send(parse_address(address), units)
    await shop.mine()


async def test_pay__what_the_page_asks_for__is_seen_and_settled_without_reload(
    shop: Shop, visit: Visit, shoot: Shoot
) -> None:
    invoice = await shop.api.create("42.50")
    page = await visit(pay_url(shop, invoice))
    await page.evaluate("window.isStillTheSamePage = true")
    await expect(page.locator("#headline")).to_have_text(re.compile(r"Pay\s+42\.50\s+USDC"))
    await expect(page.locator("#left")).to_contain_text("left")
    await shoot(page, "pay-waiting-light")

    await pay_what_is_shown(shop, page)
    await expect(page.locator("#headline")).to_have_text("Payment seen")
    await expect(page.locator("#address")).to_have_count(0)
    confirmations = page.locator("[data-confirmations]")
    await expect(confirmations).to_have_text("1")
    await shop.mine()
    await expect(confirmations).to_have_text("2")
    await expect(page.locator(".payments .badge")).to_have_text("2 confirmations")
    await shoot(page, "pay-seen-light")

    await shop.mine(FINALITY)
    await expect(page.locator("#headline")).to_have_text("Paid")
    await expect(page.locator("#live")).to_have_text("Paid")
    assert await page.title() == f"Paid · {invoice['reference']}"
    assert await page.evaluate("window.isStillTheSamePage")
    assert (await shop.api.invoice(invoice))["status"] == "settled"
    await shoot(page, "pay-paid-light")


async def test_pay__in_two_parts__the_page_asks_for_the_rest(shop: Shop, visit: Visit, shoot: Shoot) -> None:
    invoice = await shop.api.create("100.00")
    page = await visit(pay_url(shop, invoice), size=PHONE)
    await pay_what_is_shown(shop, page, part=4)
    await expect(page.locator("#headline")).to_have_text(re.compile(r"Still to pay:\s+75\.00\s+USDC"))
    assert (await read_off(page))[0] == "75.00"
    await shoot(page, "pay-partly-phone")
    await pay_what_is_shown(shop, page)
    await expect(page.locator("#headline")).to_have_text("Payment seen")
    assert await page.locator(".payments li").count() == 2
    assert not await scrolls_sideways(page)
    await shoot(page, "pay-seen-phone")
    await shop.finish()
    await expect(page.locator("#headline")).to_have_text("Paid")
    await shoot(page, "pay-paid-phone")


async def test_pay__in_another_token__by_the_link_of_that_token(tmp_path: Path, visit: Visit, shoot: Shoot) -> None:
    async with open_shop(tmp_path, tokens={"USDC": 6, "DAI": 18}) as two_tokens:
        invoice = await two_tokens.api.create("0.30", *[option(token=symbol) for symbol in ("USDC", "DAI")])
        page = await visit(pay_url(two_tokens, invoice), size=PHONE)
        assert await tab_order(page) == ["Skip to content", "way-0", "way-1", "copy-amount", "copy-address", "wallet"]
        await page.get_by_role("link", name="DAI on anvil / Foundry").press("Enter")
        await expect(page.locator("#headline")).to_have_text(re.compile(r"Pay\s+0\.30\s+DAI"))
        await expect(page.locator(".ways [aria-current]")).to_contain_text("DAI")
        await expect(page.locator("#left")).to_contain_text("left")
        assert not await scrolls_sideways(page)
        await shoot(page, "pay-two-tokens-phone")
        amount, address = await read_off(page)
        assert (amount, address) == ("0.30", invoice["options"][1]["pay_to"])
        dai = token_of(invoice, 1)
        await two_tokens.send(parse_address(address), parse_amount(amount, 18, field="amount"), token=dai)
        await two_tokens.finish()
        await expect(page.locator("#headline")).to_have_text("Paid")


async def test_page__light_and_dark__differ_and_can_be_read(shop: Shop, visit: Visit, shoot: Shoot) -> None:
    waiting = await shop.api.create("9.99")
    grounds = set()
    for dark in (False, True):
        page = await visit(pay_url(shop, waiting), size=PHONE, dark=dark)
        await expect(page.locator("#left")).to_contain_text("left")
        assert await low_contrasts(page) == []
        grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        await shoot(page, f"pay-waiting-phone-{'dark' if dark else 'light'}")
    assert len(grounds) == 2, f"one look for both: {grounds}"


async def test_page__nothing_moves_for_who_asked_for_that(shop: Shop, visit: Visit) -> None:
    invoice = await shop.api.create("9.99")
    moving = "getComputedStyle(document.querySelector('.pulse')).animationName"
    assert await (await visit(pay_url(shop, invoice))).evaluate(moving) == "pulse"
    assert await (await visit(pay_url(shop, invoice), reduced_motion="reduce")).evaluate(moving) == "none"


async def test_page__stages__can_be_read_in_both_schemes(shop: Shop, visit: Visit, shoot: Shoot) -> None:
    """Every box that a payer may see: canceled, held, seen, paid."""
    canceled, held, seen, paid = [await shop.api.create("5.00") for _ in range(4)]
    await shop.api.post(f"/v1/invoices/{canceled['id']}/cancel", {"reason": "changed their mind"})
    await shop.api.post("/v1/holds", {"invoice_id": held["id"], "reason": "sanctions? ask legal"}, status=201)
    await shop.pay(paid)
    await shop.finish()
    await shop.pay(seen)
    await shop.mine()
    await shop.api.reaches(seen, "processing")
    stages = (("Canceled", canceled), ("Being checked", held), ("Payment seen", seen), ("Paid", paid))
    for dark in (False, True):
        for title, invoice in stages:
            page = await visit(pay_url(shop, invoice), dark=dark)
            await expect(page.locator("#headline")).to_have_text(title)
            assert await page.locator("#address, .code img, #wallet").count() == 0, f"{title}: nothing is to be paid"
            assert await low_contrasts(page) == [], title
            assert "sanctions" not in await page.content()
            await shoot(page, f"pay-{title.lower().replace(' ', '-')}-{'dark' if dark else 'light'}")


async def test_page__by_keyboard_alone__everything_is_reached_and_copied(shop: Shop, visit: Visit) -> None:
    invoice = await shop.api.create("12.34")
    page = await visit(pay_url(shop, invoice), permissions=["clipboard-read", "clipboard-write"])
    assert await tab_order(page) == ["Skip to content", "copy-amount", "copy-address", "wallet"]
    for button, shown in (("copy-amount", "12.34"), ("copy-address", (await read_off(page))[1])):
        await page.locator(f"#{button}").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(f"#{button}")).to_contain_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == shown
    await expect(page.locator("#live")).to_have_text("To this address: copied")
    await expect(page.locator("#copy-address")).to_contain_text("Copy the address")


async def test_page__without_scripts__shows_all_and_loads_itself_again(shop: Shop, visit: Visit, shoot: Shoot) -> None:
    invoice = await shop.api.create("7.00")
    page = await visit(pay_url(shop, invoice), scripts=False)
    assert await read_off(page) == ("7.00", invoice["options"][0]["pay_to"])
    assert await page.locator("#copy-amount").is_hidden(), "it would do nothing"
    assert await page.locator("noscript meta[http-equiv=refresh]").get_attribute("content") == "15"
    await shoot(page, "pay-waiting-no-scripts")
    await pay_what_is_shown(shop, page)
    await shop.finish()
    await page.reload()
    await expect(page.locator("#headline")).to_have_text("Paid")


STRANGE = {
    "script": "<script>document.title = 'owned'</script>",
    "quotes": "\"><img src=x onerror=alert(1)>' onmouseover='alert(2)",
    "template": "{{ 7 * 7 }}{% raw %}${alert(3)}",
    "right to left": "order \u202e54321\u202c \u05d0\u05d1\u05d2",
    "one long word": "W" * 200,
}


async def test_page__strangers_words__are_shown_as_they_are_and_run_nothing(
    shop: Shop, visit: Visit, shoot: Shoot
) -> None:
    for what, text in STRANGE.items():
        body = {
            "amount": "1.00",
            "reference": text,
            "metadata": {text: text, "secret": "of-the-merchant"},
            "options": [option()],
        }
        invoice = await shop.api.post("/v1/invoices", body, status=201)
        page = await visit(pay_url(shop, invoice), size=PHONE)
        await expect(page.locator(".reference bdi")).to_have_text(escape_controls(text))
        await expect(page.locator("#left")).to_contain_text("left")
        assert await page.title() == f"Pay · {escape_controls(text)}", what
        assert await page.locator("main img").count() == 1, f"{what}: the code and nothing else"
        assert not await scrolls_sideways(page), what
        assert "of-the-merchant" not in await page.content(), what
        await shoot(page, f"pay-strange-{what.replace(' ', '-')}-phone")


async def test_page__its_time_runs_out__says_so_and_hides_the_address(shop: Shop, visit: Visit, shoot: Shoot) -> None:
    """Not only once the chain says so, which may be behind: whoever looks at the page must not pay too late."""
    invoice = await shop.api.create("1.00", expires_in_s=4)
    page = await visit(pay_url(shop, invoice), now="2001-01-01T00:00:00Z")  # what counts is the server's clock
    await expect(page.locator("#left")).to_contain_text("00:0")
    await expect(page.locator("#left")).to_have_attribute("data-tone", "warn")
    await expect(page.locator("#headline")).to_have_text("The time to pay is over")
    assert await page.locator("#address, .code img, #wallet").count() == 0
    await shoot(page, "pay-over-light")


async def test_stream__that_breaks_off__is_taken_up_again(shop: Shop, visit: Visit, trouble: Trouble) -> None:
    trouble.expected = ("Failed to load resource", "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED")
    invoice = await shop.api.create("3.00")
    page = await visit(pay_url(shop, invoice))
    await expect(page.locator("#left")).to_contain_text("left")
    amount, address = await read_off(page)
    await page.context.set_offline(True)
    await shop.send(parse_address(address), parse_amount(amount, UNIT_DECIMALS, field="amount"))
    await shop.finish()
    await shop.api.reaches(invoice, "settled")
    await page.context.set_offline(False)
    await expect(page.locator("#headline")).to_have_text("Paid")
