"""The operator's pages of a running daemon, over a chain: money that lost its invoice finds another one."""

from __future__ import annotations

from playwright.async_api import expect

from tests.anvil.shop import Shop
from tests.browser.conftest import Visit
from tests.support.daemon import due, pay_to


async def test_money_of_a_canceled_invoice__is_assigned_to_another(shop: Shop, visit: Visit) -> None:
    """Without keys, as `settler demo` runs: no login."""
    canceled, wanted = await shop.api.create("25.00"), await shop.api.create("25.00")
    await shop.api.post(f"/v1/invoices/{canceled['id']}/cancel", {}, status=200)
    await shop.send(pay_to(canceled), due(canceled))
    await shop.finish()

    page = await visit(f"{shop.api.address}/ops")
    await expect(page.get_by_role("row", name="anvil")).to_contain_text("running")
    await page.get_by_role("link", name="in suspense").click()
    await page.get_by_role("link", name="Decide").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Transfer of 25.00")
    await page.get_by_label("Invoice id").fill(wanted["id"])
    await page.locator("#assign-reason").fill("paid the old invoice")
    await page.get_by_role("button", name="Assign").click()
    await expect(page.get_by_role("status")).to_contain_text("the invoice is settled")
    settled = await shop.api.invoice(wanted)
    assert (settled["status"], settled["amount_settled"]) == ("settled", "25.00")
    await page.get_by_role("link", name=wanted["id"]).click()
    await page.get_by_role("link", name="Payment page").click()
    await expect(page.locator("#headline")).to_have_text("Paid")
