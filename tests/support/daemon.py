"""The daemon under test: in this process (`running`) or as one of its own (`Process`), from the file an operator would
write, spoken to through its HTTP API (`Api`).

Waiting is asking until a deadline (`until`), never sleeping and hoping.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import aiohttp
import structlog
from prometheus_client.parser import text_string_to_metric_families

from chains.address import to_checksum
from chains.model import Address
from settler import logs
from settler.children import end_with_parent
from settler.config import load
from settler.runtime.supervisor import daemon
from tests.support import nursery

T = TypeVar("T")
Json = dict[str, Any]

WITHIN_S = 45.0
"""Far more than anything here takes, also on a busy machine; a test that hangs is better ended by name."""
_numbers = itertools.count(1)


# -- the configuration file --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    address: Address
    decimals: int = 6
    symbol: str = "USDC"


@dataclass(frozen=True, kw_only=True)
class ChainTable:
    rpc: str | Sequence[str]
    tokens: Sequence[TokenTable]
    name: str = "anvil"
    chain_id: int = 31337
    finality: int | str = 3
    start_block: int | str = 0
    poll_interval_s: float = 0.1
    quorum: int | None = None
    proof: str | None = None


def write_config(
    folder: Path,
    *chains: ChainTable,
    database: str | None = None,
    invoices: Mapping[str, int | str] | None = None,
    extra: str = "",
) -> Path:
    """`settler.toml` in `folder`: no keys needed, any free port, SQLite beside it unless `database` says otherwise."""
    database = database or f"sqlite:///{folder / 'settler.db'}"
    lines = [
        "[database]", f"url = {json.dumps(database)}",
        "[api]", 'listen = "127.0.0.1:0"', 'auth = "none"',
    ]  # fmt: skip
    if invoices:
        lines += ["[invoices]", *(f"{key} = {json.dumps(value)}" for key, value in invoices.items())]
    lines.append(extra)
    for chain in chains:
        lines += [
            f"[chains.{chain.name}]", f"chain_id = {chain.chain_id}", f"rpc = {json.dumps(chain.rpc)}",
            f"start_block = {json.dumps(chain.start_block)}", f"finality = {json.dumps(chain.finality)}",
            f"poll_interval_s = {chain.poll_interval_s}",
            *([] if chain.quorum is None else [f"quorum = {chain.quorum}"]),
            *([] if chain.proof is None else [f"proof = {json.dumps(chain.proof)}"]),
        ]  # fmt: skip
        for token in chain.tokens:
            lines += [
                f"[chains.{chain.name}.token.{token.symbol}]", f'address = "{to_checksum(token.address)}"',
                f"decimals = {token.decimals}",
            ]  # fmt: skip
    path = folder / "settler.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def new_address() -> Address:
    """One that nobody in this process was given before."""
    return Address(bytes.fromhex("5e771e") + os.getpid().to_bytes(4) + next(_numbers).to_bytes(13))


# -- waiting -----------------------------------------------------------------------------------------------------------


async def until(
    look: Callable[[], Awaitable[T]],
    is_right: Callable[[T], object],
    *,
    what: str,
    within_s: float = WITHIN_S,
    every_s: float = 0.05,
) -> T:
    """What `look` answers once it `is_right`. Fails with `what` and the last answer."""
    give_up_at = time.monotonic() + within_s
    while True:
        seen = await look()
        if is_right(seen):
            return seen
        assert time.monotonic() < give_up_at, f"waited {within_s:.0f} s for {what}; last seen: {seen!r}"
        await asyncio.sleep(every_s)


def show(figures: str) -> None:
    """Seen with `pytest -s` or `-rP`: what was measured, which is never a reason to fail."""
    sys.stdout.write(f"{figures}\n")


# -- the API -----------------------------------------------------------------------------------------------------------


class Api:
    """The daemon as its users see it."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self.session = session
        self.address = address

    async def get(self, path: str, **query: str | int) -> Json:
        async with self.session.get(self.address + path, params=query) as response:
            body: Json = await response.json()
            assert response.status == 200, f"GET {path}: {response.status} {body}"
            return body

    async def post(self, path: str, body: Mapping[str, Any], *, status: int = 200, **headers: str) -> Json:
        async with self.session.post(self.address + path, json=body, headers=headers) as response:
            answer: Json = await response.json()
            assert response.status == status, f"POST {path}: {response.status} {answer}"
            return answer

    async def every(self, path: str, **query: str | int) -> list[Json]:
        """All pages of a list."""
        found: list[Json] = []
        asked: dict[str, str | int] = {"limit": 200, **query}
        while True:
            page = await self.get(path, **asked)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            asked["cursor"] = page["next_cursor"]

    async def create(
        self,
        amount: str,
        *options: Mapping[str, str],
        reference: str | None = None,
        pay_to: Address | None = None,
        **fields: Any,
    ) -> Json:
        """An invoice; without `options` one to be paid in USDC on `anvil`, to an address of its own."""
        ways = options or (option(pay_to),)
        body = {"amount": amount, "reference": reference or f"order-{next(_numbers)}", "options": ways, **fields}
        return await self.post("/v1/invoices", body, status=201)

    async def invoice(self, made: Json | str) -> Json:
        return await self.get(f"/v1/invoices/{made if isinstance(made, str) else made['id']}")

    async def reaches(self, made: Json, status: str, *, within_s: float = WITHIN_S) -> Json:
        """The invoice, once it has the status."""
        return await until(
            lambda: self.invoice(made),
            lambda i: i["status"] == status,
            what=f"{made['reference']} to be {status}",
            within_s=within_s,
        )

    async def transfers(self, **query: str | int) -> list[Json]:
        return await self.every("/v1/transfers", **query)

    async def settlement_of(self, made: Json) -> Json:
        """The newest of the invoice."""
        newest: Json = (await self.get("/v1/settlements", invoice_id=made["id"]))["data"][0]
        return newest

    async def events(self) -> list[Json]:
        """All there are, oldest first, pulled as a merchant's backend would."""
        found: list[Json] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = (await self.get("/v1/events", limit=200, **after))["data"]
            if not page:
                return found
            found += page

    async def told_of(self, made: Json) -> list[str]:
        """Types of the events about one object, in order."""
        return [e["type"] for e in await self.events() if e["data"]["id"] == made["id"]]

    async def chain(self, name: str = "anvil") -> Json:
        """As the API shows it; its heights are `None` until it was opened."""
        found: dict[str, Json] = {c["name"]: c for c in (await self.get("/v1/chains"))["data"]}
        return found.get(name, {"name": name, "scanned": None, "settled": None})

    async def scanned(self, block: int, chain: str = "anvil") -> None:
        """Returns once the first reading has come to the block."""
        await until(
            lambda: self.chain(chain), lambda c: (c["scanned"] or 0) >= block, what=f"{chain} to be read to {block}"
        )

    async def decided(self, block: int, chain: str = "anvil") -> None:
        """Returns once the second reading has come to the block."""
        await until(
            lambda: self.chain(chain), lambda c: (c["settled"] or 0) >= block, what=f"{chain} to be decided to {block}"
        )

    async def ready(self) -> tuple[int, Json]:
        async with self.session.get(self.address + "/readyz") as response:
            body: Json = await response.json()
            return response.status, body

    async def is_ready(self) -> None:
        await until(self.ready, lambda answer: answer[0] == 200, what="/readyz to say 200")

    async def refusals(self, reason: str) -> list[Json]:
        """The reasons of `/readyz`, once one of them contains `reason`."""
        status, body = await until(
            self.ready, lambda answer: reason in json.dumps(answer[1]), what=f"/readyz to say {reason!r}"
        )
        assert status == 503, body
        reasons: list[Json] = body["reasons"]
        return reasons

    async def metrics(self) -> Metrics:
        async with self.session.get(self.address + "/metrics") as response:
            assert response.status == 200
            return Metrics(await response.text())


def option(
    pay_to: Address | None = None, *, chain: str = "anvil", token: str = "USDC", match: str = "address"
) -> dict[str, str]:
    """A way to pay; to an address of its own unless told."""
    return {"chain": chain, "token": token, "pay_to": to_checksum(pay_to or new_address()), "match": match}


def pay_to(invoice: Json, index: int = 0) -> Address:
    """Where the invoice wants its money."""
    return Address(bytes.fromhex(invoice["options"][index]["pay_to"][2:]))


def due(invoice: Json, index: int = 0) -> int:
    """How much it wants there, in base units."""
    return int(invoice["options"][index]["amount_base"])


def token_of(invoice: Json, index: int = 0) -> Address:
    """The contract it wants it in."""
    return Address(bytes.fromhex(invoice["options"][index]["token_address"][2:]))


class Metrics:
    """One exposition, read."""

    def __init__(self, text: str) -> None:
        self._samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    def one(self, name: str, **labels: str) -> float:
        (found,) = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        return found


# -- in this process ---------------------------------------------------------------------------------------------------


class Log:
    """The log lines of a daemon in this process."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def lines(self) -> list[Json]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def ticks(self, *stages: str) -> list[Json]:
        return [line for line in self.lines if line["event"] == "tick" and line["stage"] in stages]


@dataclass(kw_only=True)
class Running:
    """A daemon in this process."""

    api: Api
    log: Log
    stop: asyncio.Event


@asynccontextmanager
async def running(config: Path, *, shadow: bool = False) -> AsyncIterator[Running]:
    """The daemon in this process, listening; ended in order after the block. Fails if a tick was a bug."""
    with _logging() as log:
        stop = asyncio.Event()
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        settings = load(config, {})
        run = asyncio.create_task(
            daemon(settings, shadow=shadow, stop=stop, on_listening=listening.set_result), name="daemon under test"
        )
        try:
            both: list[asyncio.Future[Any]] = [run, listening]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED, timeout=WITHIN_S)
            if run.done():
                run.result()
            async with aiohttp.ClientSession() as session:
                yield Running(api=Api(session, listening.result()), log=log, stop=stop)
        finally:
            stop.set()
            async with asyncio.timeout(WITHIN_S):
                assert await run == 0
        bugs = [line for line in log.lines if line.get("outcome") == "bug"]
        assert not bugs, f"a tick raised what nobody expected: {bugs[0]}"


@contextmanager
def _logging() -> Iterator[Log]:
    """All of the daemon's log, and pytest's own handlers put back afterwards."""
    root, log = logging.getLogger(), Log()
    handlers, level = list(root.handlers), root.level
    logs.configure("json", "info", log.stream)
    logging.getLogger("settler").setLevel("DEBUG")
    logging.captureWarnings(False)
    try:
        yield log
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("settler").setLevel("NOTSET")
        structlog.reset_defaults()


# -- as a process ------------------------------------------------------------------------------------------------------


def program() -> str:
    """The console script of the environment the tests run in."""
    found = shutil.which("settler", path=str(Path(sys.executable).parent))
    assert found is not None, "settler is not installed beside this Python: run `make install`"
    return found


def clean_environment() -> dict[str, str]:
    """This one's, without what would configure settler."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SETTLER")}


def cli(*args: str | Path, config: Path | None = None, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """One command, run to its end in a process of its own."""
    given = [*map(str, args), *(["-c", str(config)] if config is not None else [])]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        bred = nursery.start(given, env=clean_environment(), stdout=out, stderr=err)
        try:
            code = bred.wait_at_most(timeout_s)
        except TimeoutError:
            bred.kill()
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(given, code, out.read().decode(), err.read().decode())


async def cli_json(*args: str | Path, config: Path) -> Any:
    """What a command prints with `--json`; it must have gone well."""
    done = await asyncio.to_thread(cli, *args, "--json", config=config)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class _Started(Protocol):
    """What `asyncio.subprocess.Process` and `nursery.Bred` have in common."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...
    async def wait(self) -> int: ...


@dataclass
class Process:
    """`settler run` as a process of its own: `async with Process(config) as process`."""

    config: Path
    args: Sequence[str] = ()
    errors: list[str] = field(default_factory=list)
    """The lines of its stderr so far."""
    is_installed: bool = False
    """Whether it is the installed program, which takes a second to start, and not forked (`nursery`)."""
    main: str = nursery.PROGRAM
    """Of one that is forked: the module whose `main` it runs."""

    def __post_init__(self) -> None:
        self._process: _Started | None = None
        self._reading: asyncio.Task[None] | None = None
        self._listening: asyncio.Future[str] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        await self.listening()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self, **environ: str) -> None:
        """Starts it; it does not listen yet. `environ`: beside the environment it has anyway."""
        self._listening = asyncio.get_running_loop().create_future()
        args, env = ["run", "-c", str(self.config), *self.args], {**clean_environment(), **environ}
        reading, writing = os.pipe()
        try:
            if self.is_installed:
                self._process = await asyncio.create_subprocess_exec(
                    program(), *args, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                    stderr=writing, env=env, preexec_fn=end_with_parent(),
                )  # fmt: skip
            else:
                self._process = nursery.start(args, env=env, stderr=writing, main=self.main)
        finally:
            os.close(writing)
        self._reading = asyncio.create_task(self._read(reading), name="stderr of settler run")

    async def listening(self) -> Api:
        """Its API, once it answers."""
        assert self._listening is not None, "not started"
        async with asyncio.timeout(WITHIN_S):
            address = await asyncio.shield(self._listening)
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return Api(self._session, address)

    @property
    def api(self) -> Api:
        assert self._listening is not None and self._session is not None, "not listening"
        return Api(self._session, self._listening.result())

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def log(self) -> list[Json]:
        """Its log, all of which is JSON."""
        return [json.loads(line) for line in self.errors]

    async def signal(self, number: signal.Signals, *, within_s: float = WITHIN_S) -> int:
        """Sends it, waits for the end; the exit code."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)
        return await self.ended(within_s=within_s)

    async def ended(self, *, within_s: float = WITHIN_S) -> int:
        assert self._process is not None and self._reading is not None, "not started"
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
            await self._reading
        return code

    async def kill(self) -> None:
        """SIGKILL, to this very process; nothing happens if it has ended."""
        if self._process is not None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGKILL)
            await self.ended()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read(self, end: int) -> None:
        assert self._listening is not None
        lines = asyncio.StreamReader(limit=2**20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(end, "rb", buffering=0)
        )
        async for raw in lines:
            line = raw.decode()
            self.errors.append(line)
            if '"daemon.started"' in line and not self._listening.done():
                self._listening.set_result(json.loads(line)["listen"])
        transport.close()
        if not self._listening.done():
            said = "".join(self.errors)
            self._listening.set_exception(RuntimeError(f"settler run ended before it listened:\n{said}"))
            self._listening.exception()  # seen: whoever waits for it gets it all the same
