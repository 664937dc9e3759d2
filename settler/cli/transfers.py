"""`settler transfer`: money that arrived, first of all the suspense queue, and what is decided about it."""

from __future__ import annotations

import string
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.deciding import decided
from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import (
    CONFIG,
    INV,
    LIMIT,
    TRF,
    AsJson,
    Because,
    Config,
    Limit,
    OnChain,
    before_option,
    examples,
    group,
)
from settler.cli.text import Columns, Json, print_list, print_one
from settler.domain.invoices import Allocation, TransferRecord, TransferStatus, UnmatchedReason

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from chains.model import TxHash
    from settler.config import Settings
    from settler.domain.operator import By
    from settler.stages.operating import Operating
    from settler.stages.refunding import Refunded
    from settler.storage.engine import Database

app = group("Money that arrived, and the suspense queue.")


Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the transfer.")]

_COLUMNS: Columns = {
    "id": lambda t: t["id"],
    "chain": lambda t: t["chain"],
    "token": lambda t: t["token"],
    "amount": lambda t: t["amount"],
    "status": lambda t: t["status"],
    "allocation": lambda t: t["allocation"],
    "reason": lambda t: t["reason"],
    "age": lambda t: t["age"],
    "invoice": lambda t: t["invoice_id"],
    "payer": lambda t: t["payer"],
    "pay to": lambda t: t["pay_to"],
    "block": lambda t: t["block_number"],
    "time": lambda t: t["block_time"],
    "tx": lambda t: t["tx_hash"],
}


@app.command(
    "list",
    epilog=examples(
        "settler transfer list",
        "settler transfer list --reason ambiguous --chain base --json",
        f"settler transfer list --all --status orphaned --before {TRF}",
    ),
)
def list_(
    all_: Annotated[bool, typer.Option("--all", help="All transfers, not only those in suspense.")] = False,
    status: Annotated[TransferStatus | None, typer.Option("--status", help="Only those in this status.")] = None,
    allocation: Annotated[Allocation | None, typer.Option("--allocation", help="Implies --all.")] = None,
    reason: Annotated[UnmatchedReason | None, typer.Option("--reason", help="Why it is unmatched.")] = None,
    chain: OnChain = None,
    before: Annotated[str | None, before_option("trf")] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists transfers that belong to no invoice yet (with --all: every transfer), newest first."""
    is_queue = not all_ and allocation is None

    async def work(settings: Settings, db: Database) -> list[Json]:
        from settler.cli.chains import chain_id_of
        from settler.storage import reading, transfers

        async with db.read() as conn:
            chain_id = None if chain is None else await chain_id_of(conn, settings, chain)

            async def page(beyond: str | None) -> list[TransferRecord]:
                return await transfers.find(
                    conn,
                    status=status,
                    allocation=Allocation.UNMATCHED if is_queue else allocation,
                    reason=reason,
                    chain_id=chain_id,
                    before=beyond,
                    limit=limit,
                )

            found = await _collect(
                page, before, limit, lambda t: not is_queue or _waits(t, asked=reason, status=status)
            )
            return list(await reading.transfer_views(conn, found))

    found = with_database(config, work)
    print_list(found if as_json else _aged(found), _COLUMNS, as_json=as_json, nothing="no transfers")


@app.command(epilog=examples(f"settler transfer show {TRF}", f"settler transfer show {TRF} --json"))
def show(id_: Id, config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Shows one transfer: where it is on its chain, and what became of its money."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.domain.ids import TransferId
        from settler.storage import reading, transfers

        async with db.read() as conn:
            found = await transfers.get(conn, TransferId(id_))
            if found is None:
                raise _unknown(id_)
            return (await reading.transfer_views(conn, [found]))[0]

    print_one(with_database(config, work), as_json=as_json)


@app.command(epilog=examples(f'settler transfer assign {TRF} {INV} --reason "sent to the old address"'))
def assign(
    id_: Id,
    invoice: Annotated[str, typer.Argument(metavar="INVOICE", help="Id of the invoice it pays.")],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Counts money in suspense for an open invoice; it settles at once if that was all it lacked."""
    from settler.api.models import TransferAssign
    from settler.domain.ids import InvoiceId, TransferId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, body: TransferAssign, by: By) -> Json:
        made = await operating.assign(conn, TransferId(id_), InvoiceId(body.invoice_id), by)
        return (await reading.transfer_views(conn, [made.value]))[0]

    given = {"invoice_id": invoice, "reason": reason}
    print_one(decided(config, TransferAssign, given, verb), as_json=as_json)


@app.command(epilog=examples(f'settler transfer dismiss {TRF} --reason "our own treasury"'))
def dismiss(id_: Id, reason: Because, config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Takes a transfer out of the queue; its money stays in suspense."""
    from settler.api.models import TransferDismiss
    from settler.domain.ids import TransferId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, _body: TransferDismiss, by: By) -> Json:
        return (await reading.transfer_views(conn, [await operating.dismiss(conn, TransferId(id_), by)]))[0]

    print_one(decided(config, TransferDismiss, {"reason": reason}, verb), as_json=as_json)


@app.command(
    epilog=examples(
        f"settler transfer refund {TRF} \\",
        f'  --tx 0x{"1f" * 32} --reason "sent twice"',
    )
)
def refund(
    id_: Id,
    tx: Annotated[str, typer.Option("--tx", help="The transaction that sent money back.", metavar="HASH")],
    reason: Because,
    log_index: Annotated[
        int | None, typer.Option("--log-index", min=0, help="Which of its logs, where several send the token.")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Records that money of a payment was sent back, as the chain shows it. Sends nothing itself."""

    async def work(settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.api.models import TransferDismiss
        from settler.domain.ids import TransferId
        from settler.domain.money import format_amount
        from settler.storage import reading, transfers

        why = validate(TransferDismiss, json.dumps({"reason": reason})).reason
        tx_hash = _tx_hash(tx)
        async with db.read() as conn:
            payment = await transfers.get(conn, TransferId(id_))
        if payment is None:
            raise _unknown(id_)
        made = await _refunded(settings, db, payment, tx_hash, log_index=log_index, why=why)
        async with db.read() as conn:
            (view,) = await reading.refund_views(conn, [made.refund])
        left = format_amount(made.left_base, payment.decimals)
        return {**view, "left": left, "left_base": str(made.left_base), "allocation": made.payment.allocation.value}

    print_one(with_database(config, work), as_json=as_json)


def _unknown(id_: str) -> Failure:
    return Failure(f"there is no transfer {id_!r}; see settler transfer list --all", code=USAGE)


def _tx_hash(text: str) -> TxHash:
    from chains.model import TxHash

    digits = text.removeprefix("0x")
    if len(digits) != 64 or not all(d in string.hexdigits for d in digits):
        raise Failure(f"--tx {text[:80]!r}: is no transaction hash; give 0x and 64 hex digits", code=USAGE)
    return TxHash(bytes.fromhex(digits))


async def _refunded(
    settings: Settings, db: Database, payment: TransferRecord, tx_hash: TxHash, *, log_index: int | None, why: str
) -> Refunded:
    """Asks the chain's own providers, as many as have to agree there before anything settles."""
    from chains.errors import ChainError
    from settler.clock import SystemClock
    from settler.runtime.providers import make_locators, make_pool
    from settler.runtime.setups import judgement_of, setup_of
    from settler.stages.refunding import Refunding

    chain = next((c for c in settings.chains.values() if c.chain_id == payment.identity.chain_id), None)
    if chain is None:
        raise Failure(
            f"{payment.id} is on chain id {payment.identity.chain_id}, which is not configured; configure it",
            code=USAGE,
        )
    clock = SystemClock()
    pool, locators = make_pool(chain, monotonic=clock.monotonic), make_locators(chain)
    refunding = Refunding(
        chain=setup_of(chain), pool=pool, locators=locators, db=db, clock=clock, judgement=judgement_of(settings)
    )
    try:
        return await refunding.record(payment.id, tx_hash, log_index=log_index, who=operator(), reason=why)
    except ChainError as error:
        raise Failure(f"{chain.name}: {error}; nothing was recorded, try again", code=PROBLEM) from error
    finally:
        await pool.close()
        for locator in locators:
            await locator.close()


def _aged(found: list[Json]) -> list[Json]:
    """With how long ago the money came, where it still waits for an operator."""
    from settler.clock import SystemClock

    now = SystemClock().now()
    return [{**t, "age": _age(t, now) if t["reason"] else None} for t in found]


def _age(transfer: Json, now: datetime) -> str:
    """In its two largest units: `3d 4h`, `5m 12s`."""
    left = max(0, int((now - datetime.fromisoformat(transfer["block_time"])).total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


async def _collect(
    page: Callable[[str | None], Awaitable[list[TransferRecord]]],
    before: str | None,
    limit: int,
    is_wanted: Callable[[TransferRecord], bool],
) -> list[TransferRecord]:
    """The first `limit` wanted ones, a page at a time."""
    wanted: list[TransferRecord] = []
    while True:
        found = await page(before)
        wanted += [t for t in found if is_wanted(t)]
        if len(found) < limit or len(wanted) >= limit:
            return wanted[:limit]
        before = found[-1].id


def _waits(t: TransferRecord, *, asked: UnmatchedReason | None, status: TransferStatus | None) -> bool:
    """Whether an operator has something to decide: the money is there. What was asked for by name is shown
    anyway.
    """
    is_there = t.is_canonical or status is not None
    return is_there and (t.reason is not UnmatchedReason.IGNORED_ZERO or asked is not None)
