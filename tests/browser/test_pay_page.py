"""The payment page as a payer has it: read the amount and the address off the screen, pay, and see it through."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

from chains.address import parse_address
from settler.domain.money import parse_amount
from tests.anvil.shop import FINALITY, Shop
from tests.browser.conftest import PHONE, Shoot, Visit, low_contrasts, scrolls_sideways, tab_order
from tests.support.daemon import Json

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
