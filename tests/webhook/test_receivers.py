"""The receivers in docs/examples, run as processes of their own and sent real webhooks by the real dispatch stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chains.address import to_checksum
from chains.model import Address, BlockNumber
from settler.clock import FakeClock
from settler.domain.delivery import Endpoint, Reply
from settler.domain.events import Event, EventType, event
from settler.domain.ids import SettlementId
from settler.domain.invoices import Invoice, InvoiceStatus
from settler.domain.views import Json, Render, invoice_view
from settler.stages.dispatch import Dispatch
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.webhook.send import HttpSender
from tests.domain import samples
from tests.webhook.samples import OLD_SECRET, SECRET, added, an_endpoint

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
LINES = 120
RENDER = Render(
    address=to_checksum,
    chain_names={samples.CHAIN: "base", samples.OTHER_CHAIN: "ethereum"},
    tokens={
        (samples.CHAIN, samples.USDC): samples.a_token(),
        (samples.CHAIN, samples.DAI): samples.a_token("DAI", decimals=18, address=samples.DAI),
        (samples.OTHER_CHAIN, samples.USDC): samples.a_token(chain_id=samples.OTHER_CHAIN),
    },
    heads={samples.CHAIN: BlockNumber(1_004)},
)


def _invoice(reference: str, **changes: Any) -> Invoice:
    made = samples.an_invoice(reference=reference, status=InvoiceStatus.SETTLED, version=4, **changes)
    return replace(made, settled_at=samples.EXPIRES, settlement_id=SettlementId("stl_" + "3" * 26))


def _order(invoice: Invoice) -> Json:
    """As the shop wrote it down: 100.00 USD, in USDC on Base."""
    usdc = {"chain_id": 8453, "token": "USDC", "token_address": to_checksum(samples.USDC)}
    return {"invoice_id": invoice.id, "amount": "100", "currency": "USD", "accepts": [usdc]}


def _paid(**changes: Any) -> Json:
    """A payment as the invoice shows it, as far as a receiver looks at it."""
    return {
        "chain_id": 8453,
        "token": "USDC",
        "token_address": to_checksum(samples.USDC),
        "status": "final",
        **changes,
    }


INVOICES = {
    name: _invoice(name)
    for name in ("good", "tampered", "secret", "old", "rotated", "twice", "reordered", "shared", "finer")
}
WRONG: Mapping[str, tuple[Invoice, Mapping[str, Any], str]] = {
    "another-token": (
        _invoice("another-token", options=(samples.an_option(token="DAI", token_address=samples.DAI, decimals=18),)),
        {},
        "payable in another token or on another chain",
    ),
    "fake-token": (
        _invoice("fake-token", options=(samples.an_option(token_address=Address(b"\xee" * 20)),)),
        {},
        "payable in another token or on another chain",
    ),
    "another-chain": (
        _invoice("another-chain", options=(samples.an_option(chain="ethereum", chain_id=samples.OTHER_CHAIN),)),
        {},
        "payable in another token or on another chain",
    ),
    "paid-in-dai": (
        _invoice("paid-in-dai"),
        {"payments": [_paid(token="DAI", token_address=to_checksum(samples.DAI))]},
        "paid in another token or on another chain",
    ),
    "paid-in-fake": (
        _invoice("paid-in-fake"),
        {"payments": [_paid(), _paid(token_address=to_checksum(Address(b"\xee" * 20)))]},
        "paid in another token or on another chain",
    ),
    "paid-elsewhere": (
        _invoice("paid-elsewhere"),
        {"payments": [_paid(chain_id=1)]},
        "paid in another token or on another chain",
    ),
    "not-paid": (_invoice("not-paid"), {"payments": []}, "paid in another token or on another chain"),
    "one-dollar": (_invoice("one-dollar", amount=1_000_000), {}, "another amount was asked for"),
    "too-little": (_invoice("too-little"), {"amount_settled": "99.999999"}, "less was settled than ordered"),
    "euros": (_invoice("euros", currency="EUR"), {}, "not settled in the currency of the order"),
    "anothers": (_invoice("anothers"), {"id": "inv_" + "9" * 26}, "another invoice's"),
    "unheard-of": (_invoice("unheard-of"), {}, "no such order"),
}


@dataclass(frozen=True)
class Running:
    """A receiver's process, and what it says."""

    url: str
    said: Path

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines()


@pytest.fixture(scope="module", params=["python", "typescript"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, str(EXAMPLES / "receiver.py")] if request.param == "python" else _compiled(folder)
    known = [*INVOICES.values(), *(invoice for invoice, _, _ in WRONG.values() if invoice.reference != "unheard-of")]
    orders = {invoice.reference: _order(invoice) for invoice in known}
    orders["mistyped"] = {**orders["good"], "amount": "a hundred"}
    (folder / "orders.json").write_text(json.dumps(orders))
    env = {**os.environ, "WEBHOOK_SECRET": SECRET, "ORDERS": str(folder / "orders.json"), "PORT": "0"}
    said = folder / "said"
    with said.open("wb") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()  # ends with the process, should it fail to start
        assert first.startswith("listening on "), first + process.stderr.read()
        yield Running(f"http://127.0.0.1:{int(first.split()[-1])}/", said)
    finally:
        process.kill()
        process.communicate()


def _compiled(folder: Path) -> list[str]:
    """The command that runs receiver.ts, compiled as strictly as there is."""
    # Where the machine has no node, `make anvil` put one beside this Python.
    search = os.environ.get("PATH", "") + os.pathsep + str(Path(sys.executable).parent)
    node = shutil.which("node", path=search)
    assert node is not None, "no node: run `make anvil`"
    modules = ROOT / "node_modules"
    options = {
        "strict": True,
        "noEmitOnError": True,
        "noUncheckedIndexedAccess": True,
        "noPropertyAccessFromIndexSignature": True,
        "exactOptionalPropertyTypes": True,
        "noImplicitReturns": True,
        "noUnusedLocals": True,
        "skipLibCheck": True,  # others' declarations, seconds of them
        "target": "es2023",
        "lib": ["es2023"],
        "module": "nodenext",
        "types": ["node"],
        "typeRoots": [str(modules / "@types")],
        "rootDir": str(EXAMPLES),
        "outDir": str(folder),
    }
    project = {"compilerOptions": options, "files": [str(EXAMPLES / "receiver.ts")]}
    (folder / "tsconfig.json").write_text(json.dumps(project))
    compiler = [node, str(modules / "typescript" / "bin" / "tsc"), "-p", str(folder)]
    done = subprocess.run(compiler, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    (folder / "node_modules").symlink_to(modules)
    return [node, str(folder / "receiver.js")]


def _event(invoice: Invoice, type_: EventType = EventType.INVOICE_SETTLED, **changes: Any) -> Event:
    """As the daemon tells of it; `changes` of the data."""
    payment = samples.a_transfer()
    shown = invoice_view(invoice, [payment], samples.a_settlement(invoice, samples.a_line(payment)), RENDER)
    data = {**shown, **changes}
    at = datetime.now(UTC)
    return event(type_, invoice.id, data["version"], at=at, merchant="default", data=data)


@dataclass
class Tampering:
    """A sender behind which somebody changes bodies on their way."""

    inner: HttpSender

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        changed = body.replace(b'"amount_settled":"100.00"', b'"amount_settled":"900.00"')
        assert changed != body
        return await self.inner.send(url, headers, changed)


async def _sent(
    db: Database, receiver: Running, *events: Event, at: datetime | None = None, tamper: bool = False, **endpoint: Any
) -> tuple[list[str], list[int | None]]:
    """What the receiver said to these events, sent one after another, and what it answered."""
    clock = FakeClock(at or datetime.now(UTC))
    before = len(receiver.lines())
    async with HttpSender(clock=clock, allow_private=True) as sender:
        dispatch = Dispatch(db, Tampering(sender) if tamper else sender, clock, jitter=lambda: 0.5)
        if await _endpoint(db) is None:
            await added(db, an_endpoint(url=receiver.url, **endpoint))
        for each in events:
            await added(db, each)
            while (await dispatch.tick()).has_more:
                pass
    async with db.read() as conn:
        found = await webhooks.find_deliveries(conn, limit=100)
        answers = {d.event_id: d.last_status_code for d in found}
    return receiver.lines()[before:], [answers[each.id] for each in events]


async def _endpoint(db: Database) -> Endpoint | None:
    async with db.read() as conn:
        return await webhooks.get_endpoint(conn, an_endpoint().id)


async def test_good__is_shipped(sqlite_db: Database, receiver: Running) -> None:
    created = _event(INVOICES["good"], EventType.INVOICE_CREATED, version=1, status="pending")
    assert await _sent(sqlite_db, receiver, created, _event(INVOICES["good"])) == (["ignored", "ship good"], [204, 204])


async def test_settled_but_not_what_was_ordered__is_held_and_not_shipped(
    sqlite_db: Database, receiver: Running
) -> None:
    """Signed, settled, and yet not the payment of this order: attack 22."""
    sent = [_event(invoice, **changes) for invoice, changes, _ in WRONG.values()]
    said, codes = await _sent(sqlite_db, receiver, *sent)
    assert said == [f"hold {name}: {why}" for name, (_, _, why) in WRONG.items()]
    assert codes == [204] * len(sent)


async def test_tampered_body__is_refused(sqlite_db: Database, receiver: Running) -> None:
    [said], codes = await _sent(sqlite_db, receiver, _event(INVOICES["tampered"]), tamper=True)
    assert (said, codes) == ("refused No matching signature found", [401])


async def test_wrong_secret__is_refused(sqlite_db: Database, receiver: Running) -> None:
    [said], codes = await _sent(sqlite_db, receiver, _event(INVOICES["secret"]), secret=OLD_SECRET)
    assert (said, codes) == ("refused No matching signature found", [401])


async def test_old_timestamp__is_refused(sqlite_db: Database, receiver: Running) -> None:
    """A webhook that somebody recorded and plays again."""
    at = datetime.now(UTC) - timedelta(minutes=6)
    [said], codes = await _sent(sqlite_db, receiver, _event(INVOICES["old"]), at=at)
    assert (said, codes) == ("refused Message timestamp too old", [401])


async def test_rotated_secret__is_taken_for_the_overlap_and_no_longer(sqlite_db: Database, receiver: Running) -> None:
    """The receiver still has the secret before."""
    now = datetime.now(UTC)
    rotated: dict[str, Any] = {
        "secret": OLD_SECRET,
        "previous_secret": SECRET,
        "previous_secret_until": now + timedelta(seconds=90),
    }
    settled = _event(INVOICES["rotated"])
    reversed_ = _event(INVOICES["rotated"], EventType.INVOICE_REVERSED, version=5, status="reversed")
    assert await _sent(sqlite_db, receiver, settled, at=now, **rotated) == (["ship rotated"], [204])
    [said], codes = await _sent(sqlite_db, receiver, reversed_, at=now + timedelta(seconds=91))
    assert (said, codes) == ("refused No matching signature found", [401])


async def test_sent_again__is_a_duplicate(sqlite_db: Database, receiver: Running) -> None:
    settled = _event(INVOICES["twice"])
    assert await _sent(sqlite_db, receiver, settled) == (["ship twice"], [204])
    now = datetime.now(UTC)
    async with sqlite_db.write() as conn:
        done = await webhooks.replay(
            conn, webhooks.Replay(since=None, until=now + timedelta(days=1)), now, after=None, limit=10
        )
    assert done.replayed == 1
    other = _event(INVOICES["twice"], EventType.INVOICE_EXPIRED)  # something to send beside it
    assert sorted((await _sent(sqlite_db, receiver, other))[0]) == ["duplicate", "ignored"]


async def test_reversed_comes_first__the_older_settled_ships_nothing(sqlite_db: Database, receiver: Running) -> None:
    reversed_ = _event(INVOICES["reordered"], EventType.INVOICE_REVERSED, version=5, status="reversed")
    assert await _sent(sqlite_db, receiver, reversed_, _event(INVOICES["reordered"])) == (
        ["stop reordered", "older than what is known"],
        [204, 204],
    )


async def test_reversed_of_anothers_invoice__stops_no_order_of_the_same_reference(
    sqlite_db: Database, receiver: Running
) -> None:
    """Two merchants may both have an order 42, and one endpoint may hear of both."""
    anothers = _event(
        INVOICES["shared"], EventType.INVOICE_REVERSED, id="inv_" + "8" * 26, version=5, status="reversed"
    )
    assert await _sent(sqlite_db, receiver, anothers, _event(INVOICES["shared"])) == (
        ["ignored", "ship shared"],
        [204, 204],
    )


async def test_less_by_a_part_finer_than_18_decimals__is_not_shipped(sqlite_db: Database, receiver: Running) -> None:
    less = _event(INVOICES["finer"], amount_settled="99.9999999999999999999")
    assert await _sent(sqlite_db, receiver, less) == (["hold finer: less was settled than ordered"], [204])


async def test_what_cannot_be_handled__is_asked_for_again_and_ends_nothing(
    sqlite_db: Database, receiver: Running
) -> None:
    """An order with a mistyped amount ended the receiver in TypeScript, again at each retry: nothing was shipped."""
    mistyped = _event(_invoice("mistyped"), id=INVOICES["good"].id)
    assert (await _sent(sqlite_db, receiver, mistyped))[0] == []
    later = _event(INVOICES["good"], EventType.INVOICE_EXPIRED, version=9)
    said, codes = await _sent(sqlite_db, receiver, later)
    assert (said, codes) == (["ignored"], [204])


@pytest.mark.parametrize("name", ["receiver.py", "receiver.ts"])
def test_example__is_short_enough_to_be_read(name: str) -> None:
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) < LINES
    assert max(map(len, lines)) <= LINES
