"""`python -m tests.system.draw_dashboards`: pictures of the dashboards with data in them, to be looked at.

The load of `tests.system.busy`, a real Prometheus, and Grafana's own components (deploy/grafana/render) in Debian's
Chromium; no Grafana server. Ends with 1 where a panel shows an error or nothing.

    --into DIRECTORY    of the pictures (.screenshots)
    --data DIRECTORY    keeps what Prometheus gathered there, and draws it again if it is there already: for work on
                        panels, without the two minutes of load
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web
from playwright.async_api import FloatRect, Page, async_playwright

from tests.deploy.dashboards import DIRECTORY, boards
from tests.docs.pages import ROOT
from tests.system.busy import PROVIDERS, RULES, WORKERS, busy_time
from tests.system.prometheus import JOB, Prometheus

CHROMIUM = Path("/usr/bin/chromium")
BUNDLE = ROOT / "deploy" / "grafana" / "render" / "dist"
INTO = ROOT / ".screenshots"
WIDTH = 1440
TALLEST = 2_300
"""A picture of more pixels is cut in two at a heading."""
WITHIN_MS = 60_000
STEP_S = 2
RATE_WINDOW = "15s"
_ALL_DRAWN = """() => {
    const panels = [...document.querySelectorAll("[data-panel]")];
    return document.body.dataset.error
        || panels.length && panels.every(p => p.dataset.ready === "true" || p.dataset.error);
}"""
_FAULTS = """() => [
    ...(document.body.dataset.error ? [document.body.dataset.error] : []),
    ...[...document.querySelectorAll("[data-panel]")]
        .filter(p => p.dataset.error || p.dataset.empty === "true")
        .map(p => `${p.dataset.panel}: ${p.dataset.error || "no data"}`),
]"""


@dataclass(frozen=True, kw_only=True)
class Time:
    """Of the load, Unix seconds."""

    start: float
    end: float


async def draw(into: Path, data: Path | None) -> list[str]:
    """Writes `dashboard-NAME.png`, and `dashboard-NAME-2.png` of a tall one; what is wrong with the panels."""
    assert (BUNDLE / "index.html").exists(), f"there is no {BUNDLE}; `make dashboards-png` builds it"
    with tempfile.TemporaryDirectory(prefix="settler-dashboards-") as temporary:
        folder = data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        played = folder / "played.json"
        async with AsyncExitStack() as stack:
            if played.exists():
                prometheus = await stack.enter_async_context(Prometheus(folder, {}))
                time = Time(**json.loads(played.read_text()))
            else:
                busy = await stack.enter_async_context(busy_time(folder, rules=RULES))
                await busy.play()
                prometheus, time = busy.prometheus, Time(start=busy.started_at, end=busy.ended_at)
                played.write_text(json.dumps({"start": time.start, "end": time.end}))
            return await _pictures(into, prometheus, time)


async def _pictures(into: Path, prometheus: Prometheus, time: Time) -> list[str]:
    into.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(_Served())
        driver = await stack.enter_async_context(async_playwright())
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=args)
        stack.push_async_callback(browser.close)
        page = await browser.new_page(viewport={"width": WIDTH, "height": 1000})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
        for board in boards():
            query = {
                "board": f"/dashboards/{board.name}.json",
                "prometheus": prometheus.url,
                "start": str(int(time.start)),
                "end": str(int(time.end)),
                "step": str(STEP_S),
                "width": str(WIDTH),
                "variables": json.dumps(_variables(time)),
            }
            await page.goto(f"{address}/index.html?{urlencode(query)}")
            await page.wait_for_function(_ALL_DRAWN, timeout=WITHIN_MS)
            await page.wait_for_timeout(500)  # the canvases are drawn in the next frame
            faults += [f"{board}: {fault}" for fault in await page.evaluate(_FAULTS)]
            for number, (top, bottom) in enumerate(await _cuts(page), start=1):
                path = into / f"dashboard-{board.name}{'' if number == 1 else f'-{number}'}.png"
                clip: FloatRect = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
                await page.screenshot(path=path, full_page=True, clip=clip)
                sys.stdout.write(f"{path} {path.stat().st_size // 1024} kB\n")
        return faults


async def _cuts(page: Page) -> list[tuple[float, float]]:
    """From where to where each picture of the page goes, in pixels from the top."""
    height: float = await page.evaluate("document.querySelector('[data-board]').offsetHeight")
    headings: list[float] = await page.evaluate("[...document.querySelectorAll('[data-row]')].map(r => r.offsetTop)")
    if height <= TALLEST:
        return [(0, height)]
    middle = min(headings, key=lambda top: abs(top - height / 2))
    return [(0, middle), (middle, height)]


class _Served:
    """The bundle and the dashboards on 127.0.0.1; its address."""

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_static("/dashboards", DIRECTORY)
        app.router.add_static("/", BUNDLE)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def _variables(time: Time) -> dict[str, str | list[str]]:
    """All of everything."""
    return {
        "datasource": "prometheus",
        "job": JOB,
        "instance": list(WORKERS),
        "chain": ["anvil", "beta"],
        "provider": list(PROVIDERS.values()),
        "__rate_interval": RATE_WINDOW,
        "__range": f"{int(time.end - time.start)}s",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Draws the dashboards with data of a busy time.")
    parser.add_argument("--into", type=Path, default=INTO, help="directory of the pictures (default: .screenshots)")
    parser.add_argument("--data", type=Path, help="directory to keep Prometheus' data in, and to draw it again from")
    given = parser.parse_args()
    faults = asyncio.run(draw(given.into, given.data))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
