"""README's "Ten minutes", typed in as it stands there: from the demo to a verified webhook, in a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from settler.anvil import find_anvil
from tests.docs.pages import ROOT, Page
from tests.support.curl import FAILED, path_with_curl

pytestmark = pytest.mark.anvil
WITHIN_S = 90.0


@asynccontextmanager
async def started(*command: str, cwd: Path, env: dict[str, str]) -> AsyncIterator[Process]:
    """A process group of its own, ended with all it started."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT if process.returncode is None else signal.SIGKILL)
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def read_until(process: Process, wanted: str) -> str:
    """All that was printed up to the line that holds `wanted`."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(WITHIN_S):
        while line := (await process.stdout.readline()).decode():
            said += line
            if wanted in line:
                return said
    raise AssertionError(f"it ended without {wanted!r}:\n{said}")


async def test_tour__typed_in__ends_with_a_verified_webhook(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PATH": path_with_curl(tmp_path),
        "SETTLER_ANVIL": str(find_anvil(None)),
        "PYTHONUNBUFFERED": "1",
    }
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    tour = Page(ROOT / "README.md").text.split("## Ten minutes")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", tour, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    # a port of this test's own: others may listen on 9000
    port = str(20_000 + os.getpid() % 20_000)
    typed = "\n".join(blocks).replace("9000", port)
    # one who reads waits for the receiver before he pays; and the shell stays until the receiver was told
    typed = typed.replace("PAY_TO=", "sleep 1\nPAY_TO=", 1) + "\nwait"
    async with started(sys.executable, "-m", "settler", "demo", "--invoices", "1", cwd=ROOT, env=env) as demo:
        export = (await read_until(demo, "export URL=")).splitlines()[-1].strip()
        async with started("bash", "--norc", "-uc", f"{export}\n{typed}", cwd=tmp_path, env=env) as shell:
            said = await read_until(shell, "ship my-order")
    assert "refused" not in said


async def test_curl__the_stand_in__takes_what_the_documents_write(tmp_path: Path) -> None:
    """On a machine without curl the tests of the documents run with this: it is run here on every machine."""
    asked: list[tuple[str, str, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path_qs, request.headers.get("A", ""), await request.text()))
        return web.Response(text="said", status=409 if request.method == "POST" else 200)

    app = web.Application()
    app.router.add_route("*", "/x", answer)
    path = path_with_curl(tmp_path, "/nowhere")
    assert path.startswith(str(tmp_path))
    async with TestServer(app) as server:
        url = f"http://127.0.0.1:{server.port}/x?y=z"
        for command, code, said in (
            (["-sS", "-H", "A: b", "-w", "\\n%{http_code} %{method} %{url_effective}", url], 0, f"said\n200 GET {url}"),
            (["-s", "-d", "{}", "--fail-with-body", url], FAILED, "said"),
            (["-N", "-X", "DELETE", "-o", str(tmp_path / "out"), url], 0, ""),
        ):
            shell = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", 'exec curl "$@"', "sh", *command, env={"PATH": path}, stdout=PIPE
            )
            out, _ = await shell.communicate()
            assert (shell.returncode, out.decode()) == (code, said)
    assert (tmp_path / "out").read_text() == "said"
    assert asked == [("GET", "/x?y=z", "b", ""), ("POST", "/x?y=z", "", "{}"), ("DELETE", "/x?y=z", "", "")]
