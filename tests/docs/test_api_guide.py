"""Every curl command of docs/api.md, run as it stands there, in a shell, against a daemon on a local chain.

Notes before the fences say what has to be so before one runs, and what is kept of its answer; readers do not see them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chains.model import Address
from settler.anvil import Anvil, find_anvil
from settler.api.app import ROUTES
from tests.docs.pages import Fence, page
from tests.support import evm
from tests.support.curl import path_with_curl
from tests.support.daemon import (
    ChainTable,
    Process,
    TokenTable,
    cli_json,
    due,
    pay_to,
    until,
    write_config,
)

NOTE = re.compile(
    r"run(?:, (?:with a? ?(?P<wanted>[a-z ]*[A-Z]+)[a-z ]*|once (?P<once>[^,]+)))?"
    r"(?:, then (?P<name>[A-Z]+) is (?P<path>[\w.]+)| until it says (?P<says>.+))?"
)
STREAMED_S = "1"
CURL = (
    'curl() { command curl --fail-with-body "$@" -w "\\n%{http_code} %{method} %{url_effective}\\n" || '
    "{ status=$?; test $status = 28; }; }; "
)
"""Says after each answer how it went. 28: a stream that was long enough."""


@dataclass
class Guide:
    process: Process
    node: Anvil
    token: Address
    receiver: str
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of each call that was answered 2xx."""

    async def run(self, fence: Fence) -> None:
        note = NOTE.fullmatch(fence.note)
        assert note is not None, fence.note
        await self.prepare(note["wanted"] or note["once"] or "")
        command = fence.text.replace('"chain": "base"', '"chain": "anvil"').replace("chain=base", "chain=anvil")
        command = command.replace("https://shop.example/hooks", self.receiver)
        if note["says"]:
            command = command.replace("curl ", f"curl --max-time {STREAMED_S} ")
        shell = await asyncio.create_subprocess_exec(
            *("bash", "--norc", "-euo", "pipefail", "-c", CURL + command),
            cwd=self.folder,
            env={**os.environ, "PATH": path_with_curl(self.folder), **self.variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = (stream.decode() for stream in await shell.communicate())
        assert shell.returncode == 0, f"{command}\n{out}\n{err}"
        calls = re.findall(r"^(\d{3}) ([A-Z]+) https?://[^/]+(/[^?\s]*)", out, re.MULTILINE)
        assert len(calls) == command.count("curl "), out
        assert all(status.startswith("2") for status, _, _ in calls), out
        self.asked += [(method, path) for _, method, path in calls]
        if note["says"]:
            assert note["says"] in out
        if note["name"]:
            answer: Any = json.loads(out[: out.rindex("\n2")])
            for key in note["path"].split("."):
                answer = answer[int(key)] if key.isdecimal() else answer[key]
            self.variables[note["name"]] = answer

    async def prepare(self, wanted: str) -> None:
        """Makes so what a note asks for."""
        api = self.process.api
        match wanted:
            case "":
                return
            case "INVOICE is settled":
                made = await api.invoice(self.variables["INVOICE"])
                await self.pay(pay_to(made), due(made))
                await api.reaches(made, "settled")
            case "CANCELABLE" | "PENDING":
                self.variables[wanted] = (await api.create("5.00"))["id"]
            case "two TRANSFERS":
                settled = await api.invoice(self.variables["INVOICE"])
                for amount in (30_000_000, 1_000_000):
                    await self.pay(pay_to(settled), amount)
                found = await until(
                    lambda: api.transfers(allocation="unmatched", status="final"),
                    lambda found: len(found) == 2,
                    what="two transfers in suspense",
                )
                self.variables |= {"TRANSFER" if t["amount"] == "30.00" else "STRAY": t["id"] for t in found}
                assert {"TRANSFER", "STRAY"} <= set(self.variables), found
            case "an invoice was DELIVERED":
                await api.create("1.00")
                (delivered, *_) = await until(
                    lambda: api.every("/v1/webhook-deliveries", status="delivered"),
                    lambda found: len(found) > 0,
                    what="a webhook to be delivered",
                )
                self.variables["DELIVERED"] = delivered["id"]
            case _:
                raise AssertionError(f"the guide wants {wanted!r}, which this test cannot make")

    async def pay(self, to: Address, amount: int) -> None:
        await evm.batch_transfers(self.node, self.node.accounts[1], self.token, [(to, amount)])


@pytest.fixture
async def receiver() -> AsyncIterator[str]:
    """The URL of a receiver that takes everything."""
    app = web.Application()

    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    await runner.cleanup()


@pytest.fixture
async def guide(tmp_path: Path, receiver: str) -> AsyncIterator[Guide]:
    async with Anvil(find_anvil(), block_time_s=0.25) as node:
        token = await evm.deploy_token(node)
        await evm.mint(node, token, evm.address_of(node.accounts[1]), 10**15)
        chain = ChainTable(rpc=node.url, tokens=[TokenTable(address=token)], finality=2)
        config = write_config(tmp_path, chain, extra="[webhooks]\nallow_private_addresses = true")
        config.write_text(config.read_text().replace('auth = "none"', 'auth = "keys"'))
        scopes = [word for scope in ("read", "write", "operate") for word in ("--scope", scope)]
        key = await cli_json("api-key", "create", *scopes, config=config)
        async with Process(config) as process:
            process.api.session.headers["Authorization"] = f"Bearer {key['key']}"
            await process.api.is_ready()
            made = Guide(process=process, node=node, token=token, receiver=receiver, folder=tmp_path)
            made.variables = {"URL": process.api.address, "KEY": key["key"]}
            yield made


@pytest.mark.timeout(180)
async def test_guide__every_command__is_answered_2xx_and_every_call_is_in_it(guide: Guide) -> None:
    fences = [f for f in page("api.md").fences("sh") if f.note]
    assert len(fences) > 20
    for fence in fences:
        await guide.run(fence)
    asked = {(method, re.sub(r"/[a-z]{3}_[0-9a-z]{26}", "/{id}", path)) for method, path in guide.asked}
    assert {(route.method, route.path) for route in ROUTES} - asked == set()


def test_guide__every_curl_fence__is_run() -> None:
    for fence in page("api.md").fences("sh"):
        assert bool(fence.note) == ("curl " in fence.text)
