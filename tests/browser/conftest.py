"""The pages in a real browser: Debian's Chromium, driven over its own protocol. `make test-system` installs it.

    page = await visit(f"{address}/pay/{token}", dark=True)

A visit fails its test at the end when the page did what no page of ours does: a script error, something the content
security policy forbids, a request to another origin, a dialog.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    async_playwright,
    expect,
)

from tests.anvil.shop import Shop, open_shop

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"
"""Pictures for people to look at; not kept in git."""
DESKTOP = (1000, 900)
PHONE = (360, 740)
WITHIN_MS = 15_000
"""How long a page may take to show what it should; usually well below a second."""

expect.set_options(timeout=WITHIN_MS)

_REPORT_VIOLATIONS = """
window.violations = [];
document.addEventListener(
    "securitypolicyviolation", e => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`)
);
"""


@dataclass
class Trouble:
    """What went wrong in the visits of a test."""

    expected: tuple[str, ...] = ()
    """Parts of messages a test provokes itself."""
    seen: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        if not any(part in what for part in self.expected):
            self.seen.append(what)


class Visit(Protocol):
    def __call__(
        self,
        url: str,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        scripts: bool = True,
        now: str | None = None,
        **context: Any,
    ) -> Awaitable[Page]: ...


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The daemon, a chain and a token: what is to be looked at."""
    async with open_shop(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def chromium() -> AsyncIterator[Browser]:
    assert CHROMIUM.exists(), f"there is no {CHROMIUM}; `make test-system` installs it"
    # Chromium's own sandbox refuses to work for root; the pages are ours
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=args)
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
def trouble() -> Trouble:
    return Trouble()


@pytest_asyncio.fixture
async def visit(chromium: Browser, trouble: Trouble) -> AsyncIterator[Visit]:
    """Opens an address as a visitor of its own (no cookies of others). `now`: what the visitor's clock shows,
    for good; keywords beyond are Playwright's context.
    """
    contexts: list[BrowserContext] = []

    async def opened(
        url: str,
        *,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        scripts: bool = True,
        now: str | None = None,
        **context: Any,
    ) -> Page:
        made = await chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            **context,
        )
        contexts.append(made)
        made.set_default_timeout(WITHIN_MS)
        if scripts:
            await made.add_init_script(_REPORT_VIOLATIONS)
        page = await made.new_page()
        _listen(page, trouble, urlsplit(url).netloc)
        if now is not None:
            await page.clock.set_fixed_time(now)
        await page.goto(url)
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            for violation in await page.evaluate("window.violations || []"):
                trouble.add(f"forbidden by the policy: {violation}")
        await context.close()
    assert trouble.seen == []


def _listen(page: Page, trouble: Trouble, origin: str) -> None:
    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            trouble.add(f"console {message.type}: {message.text}")

    def on_request(request: Request) -> None:
        if urlsplit(request.url).netloc not in {origin, ""}:
            trouble.add(f"request to {request.url}")

    async def on_dialog(dialog: Dialog) -> None:
        trouble.add(f"dialog: {dialog.message}")
        await dialog.dismiss()

    page.on("console", on_console)
    page.on("pageerror", lambda error: trouble.add(f"script error: {error}"))
    page.on("request", on_request)
    page.on("dialog", on_dialog)


Shoot = Callable[[Page, str], Awaitable[None]]


@pytest.fixture
def shoot() -> Shoot:
    """Takes a picture of the whole page, for `SCREENSHOTS`."""

    async def taken(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return taken


async def scrolls_sideways(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


async def tab_order(page: Page, *, most: int = 60) -> list[str]:
    """Ids (else texts) of what the Tab key reaches, in order, once around. Fails where focus is not to be seen."""
    reached: list[str] = []
    await page.evaluate("document.activeElement.blur()")
    for _ in range(most):
        await page.keyboard.press("Tab")
        name, is_visible = await page.evaluate(
            """() => {
                const at = document.activeElement;
                if (!at || at === document.body) return ["", true];
                const style = getComputedStyle(at);
                const box = at.getBoundingClientRect();
                const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0;
                return [at.id || at.textContent.trim(), shown];
            }"""
        )
        if not name or name in reached:
            break
        assert is_visible, f"focus on {name!r} is not to be seen"
        reached.append(name)
    return reached


async def low_contrasts(page: Page) -> list[str]:
    """Texts below WCAG's 4.5:1 (3:1 for large ones) against the colour behind them. Knows plain colours only."""
    found: list[str] = await page.evaluate(
        """() => {
            const parts = (c) => c.match(/[\\d.]+/g).map(Number);
            const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
            const behind = (e) => {
                for (; e; e = e.parentElement) {
                    const c = parts(getComputedStyle(e).backgroundColor);
                    if (c.length < 4 || c[3] === 1) return c;
                }
                return [255, 255, 255];
            };
            const low = [];
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const text = walker.currentNode.textContent.trim();
                const e = walker.currentNode.parentElement;
                if (!text || !e.checkVisibility() || e.closest(".visually-hidden, .skip-link")) continue;
                const style = getComputedStyle(e);
                const [a, b] = [light(parts(style.color)), light(behind(e))];
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                const size = parseFloat(style.fontSize);
                const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
                if (ratio < (isLarge ? 3 : 4.5)) low.push(`${ratio.toFixed(2)}: ${text.slice(0, 60)}`);
            }
            return low;
        }"""
    )
    return found
