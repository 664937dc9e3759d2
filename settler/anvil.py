"""One anvil, a local Ethereum node, for `settler demo` and the tests.

It keeps its state in memory, writes nothing below the user's home and is gone when its block ends. Not for production:
its accounts' keys are public.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import msgspec

from settler.children import end_with_parent

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

MNEMONIC = "test test test test test test test test test test test junk"
"""anvil's default, the same in every Ethereum development tool. https://getfoundry.sh/anvil/reference"""
ACCOUNTS = 10
"""Funded accounts, 10,000 ETH each; anvil's default."""
CHAIN_ID = 31337
"""anvil's default chain id."""
START_TIMEOUT_S = 20.0
"""It takes 0.1 s on an idle machine; the rest is for busy ones."""
STOP_TIMEOUT_S = 5.0
"""Between SIGTERM and SIGKILL."""
CALL_TIMEOUT_S = 120.0
"""Mining many or large blocks is one call, and slow."""
BATCH_MAX = 1_000
"""Calls in one HTTP request; anvil took 20,000, but answers grow with it."""
OUTPUT_MAX_BYTES = 4_096
"""What is kept of its output, for the error when it does not start."""

_PROJECT_ROOT = Path(__file__).resolve().parent.parent
_LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")


class AnvilError(RuntimeError):
    """anvil is missing, did not start, or answered a call with an error. Whoever started it reports and ends."""


class AnvilCallError(AnvilError):
    """An error answered by JSON-RPC."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"anvil answered {method} with error {code}: {message}")
        self.method = method
        self.code = code
        self.message = message


class _RpcError(msgspec.Struct):
    code: int
    message: str


class _Reply(msgspec.Struct):
    id: int | None = None
    result: Any = None  # JSON of any shape: each method has its own
    error: _RpcError | None = None


_one_reply = msgspec.json.Decoder(_Reply).decode
_many_replies = msgspec.json.Decoder(list[_Reply]).decode


def find_anvil(override: str | None = None) -> Path:
    """The anvil program: `override`, else `anvil` on PATH, else the one `make anvil` installed.

    `override` is the value of SETTLER_ANVIL, which the caller reads; an empty one counts as unset.
    Raises `AnvilError` naming the remedy.
    """
    if override:
        given = Path(override)
        if not os.access(given, os.X_OK) or given.is_dir():
            raise AnvilError(f"SETTLER_ANVIL names {override}, which is no program that can be run")
        return given.resolve()
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    for root in (Path.cwd(), _PROJECT_ROOT):
        candidate = root / "node_modules" / "@foundry-rs" / f"anvil-{_platform()}" / "bin" / "anvil"
        if os.access(candidate, os.X_OK):
            return candidate
    raise AnvilError("anvil, the local Ethereum node, is not installed: run `make anvil`, or name it in SETTLER_ANVIL")


@functools.cache
def dev_accounts() -> tuple[LocalAccount, ...]:
    """The funded accounts in anvil's order. Their private keys are known to everybody."""
    from eth_account import Account  # half a second to import
    from eth_account.hdaccount import key_from_seed, seed_from_mnemonic

    seed = seed_from_mnemonic(MNEMONIC, passphrase="")
    return tuple(Account.from_key(key_from_seed(seed, f"m/44'/60'/0'/0/{index}")) for index in range(ACCOUNTS))


class Anvil:
    """`async with Anvil(find_anvil()) as anvil:` — one node of its own, listening on 127.0.0.1 only."""

    def __init__(
        self,
        binary: Path,
        *,
        port: int = 0,
        chain_id: int = CHAIN_ID,
        block_time_s: float | None = None,
        no_mining: bool = False,
        slots_in_an_epoch: int | None = None,
        timestamp: int | None = None,
        prune_history: int = 256,
        hardfork: str = "cancun",
    ) -> None:
        """`port` 0 takes a free one. Blocks come with each transaction, every `block_time_s` seconds, or
        (`no_mining`) by `evm_mine` only. `safe` is `slots_in_an_epoch` blocks behind the head, `finalized` twice as
        many (anvil: 32). `timestamp`: of genesis, Unix seconds. `prune_history`: states kept in memory, which bounds
        the depth of a reorg.
        """
        assert not (no_mining and block_time_s is not None), "no_mining and block_time_s exclude each other"
        # Without a bare number of states, anvil writes every block's state to disk and leaves it there. From prague on,
        # mining slows down with height.
        command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id)]
        command += ["--hardfork", hardfork, "--prune-history", str(prune_history), "--no-request-size-limit"]
        if block_time_s is not None:
            command += ["--block-time", str(block_time_s)]
        if no_mining:
            command += ["--no-mining"]
        if slots_in_an_epoch is not None:
            command += ["--slots-in-an-epoch", str(slots_in_an_epoch)]
        if timestamp is not None:
            command += ["--timestamp", str(timestamp)]
        self.chain_id = chain_id
        self._command = command
        self._port: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._cleanup = contextlib.AsyncExitStack()
        self._output = b""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`; the same address answers WebSocket."""
        assert self._port is not None, "anvil is not running"
        return f"http://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def pid(self) -> int:
        assert self._process is not None, "anvil is not running"
        return self._process.pid

    @property
    def accounts(self) -> tuple[LocalAccount, ...]:
        """The funded accounts, with their keys."""
        return dev_accounts()

    async def rpc(self, method: str, *params: object) -> Any:
        """The `result` of one call, as JSON gave it. Raises `AnvilCallError`."""
        reply = _one_reply(await self._post(_request(0, method, params)))
        return _result(method, reply)

    async def batch(self, calls: Iterable[tuple[str, Sequence[object]]]) -> list[Any]:
        """The results of many `(method, params)` in order. Raises `AnvilCallError` at the first error; the calls after
        it may have been carried out all the same."""
        todo = list(calls)
        results: list[Any] = []
        for start in range(0, len(todo), BATCH_MAX):
            part = todo[start : start + BATCH_MAX]
            requests = [_request(index, method, params) for index, (method, params) in enumerate(part)]
            replies = {reply.id: reply for reply in _many_replies(await self._post(requests))}
            results += [_result(method, replies[index]) for index, (method, _) in enumerate(part)]
        return results

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._start()
        except BaseException as failure:
            await self._cleanup.aclose()
            if isinstance(failure, TimeoutError | OSError):
                raise AnvilError(
                    f"anvil did not start: {str(failure) or 'no answer in time'}{self._said()}"
                ) from failure
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cleanup.aclose()

    async def _start(self) -> None:
        # A home of its own: whatever anvil writes goes with it.
        home = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="anvil-", ignore_cleanup_errors=True))
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=home,
            env={"HOME": home, "TMPDIR": home, "PATH": os.defpath, "NO_COLOR": "1"},
            # Ctrl-C is for us: the node ends after those who use it.
            start_new_session=True,
            preexec_fn=end_with_parent(),
        )
        self._cleanup.push_async_callback(self._stop)
        self._port = await self._read_port()
        # One connection would do for a caller that waits for each answer; tests read while mining.
        self._session = aiohttp.ClientSession(
            headers={"content-type": "application/json"}, timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        )
        self._cleanup.push_async_callback(self._session.close)
        await self.rpc("anvil_setLoggingEnabled", False)
        chain_id = int(await self.rpc("eth_chainId"), 16)
        assert chain_id == self.chain_id, f"anvil says chain {chain_id}, was told {self.chain_id}"
        drain = asyncio.create_task(self._drain(), name="anvil output")
        self._cleanup.push_async_callback(_cancelled, drain)

    async def _read_port(self) -> int:
        stdout = self._stdout()
        while line := await stdout.readline():
            self._output = (self._output + line)[-OUTPUT_MAX_BYTES:]
            if listening := _LISTENING.search(line):
                return int(listening[1])
        raise AnvilError(f"anvil ended at once{self._said()}")

    async def _drain(self) -> None:
        """A full pipe would stop it."""
        stdout = self._stdout()
        while await stdout.read(OUTPUT_MAX_BYTES):
            pass

    async def _stop(self) -> None:
        process = self._process
        assert process is not None, "stopped before it was started"
        self._process = self._session = self._port = None
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _post(self, body: object) -> bytes:
        assert self._session is not None, "anvil is not running"
        async with self._session.post(self.url, data=msgspec.json.encode(body)) as response:
            return await response.read()

    def _stdout(self) -> asyncio.StreamReader:
        assert self._process is not None and self._process.stdout is not None, "anvil is not running"
        return self._process.stdout

    def _said(self) -> str:
        text = self._output.decode(errors="replace").strip()
        return f"; it said: {text.splitlines()[-1]}" if text else ""


def _request(index: int, method: str, params: Sequence[object]) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": index, "method": method, "params": params}


def _result(method: str, reply: _Reply) -> Any:
    if reply.error is not None:
        raise AnvilCallError(method, reply.error.code, reply.error.message)
    return reply.result


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _platform() -> str:
    """As the npm packages spell it: `linux-amd64`."""
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}-{arch}"
