"""`settler hold`: what stops settlements, and letting it go on."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.deciding import decided
from settler.cli.opened import with_database
from settler.cli.options import (
    CONFIG,
    HLD,
    INV,
    LIMIT,
    AsJson,
    Because,
    Config,
    Limit,
    Merchant,
    before_option,
    examples,
    group,
)
from settler.cli.text import Columns, Json, print_list, print_one
from settler.domain.settlement import HoldReason

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from settler.config import Settings
    from settler.domain.operator import By
    from settler.stages.operating import Operating
    from settler.storage.engine import Database

app = group("Settlements stopped by a policy or an operator, and their release.")


class Status(StrEnum):
    """As the API's `status` (not taken from there: `--help` loads no API)."""

    HELD = "held"
    RELEASED = "released"
    ALL = "all"


_COLUMNS: Columns = {
    "id": lambda h: h["id"],
    "invoice": lambda h: h["invoice_id"],
    "merchant": lambda h: h["merchant"],
    "reason": lambda h: h["reason"],
    "transfer": lambda h: h["transfer_id"],
    "detail": lambda h: h["detail"] or None,
    "held": lambda h: h["held_at"],
    "by": lambda h: h["held_by"],
    "released": lambda h: h["released_at"],
    "released by": lambda h: h["released_by"],
    "why": lambda h: h["release_reason"],
}


@app.command("list", epilog=examples("settler hold list", "settler hold list --status all --reason depeg --json"))
def list_(
    status: Annotated[Status, typer.Option("--status", help="held: those that stop a settlement now.")] = Status.HELD,
    reason: Annotated[HoldReason | None, typer.Option("--reason", help="Only those held for this.")] = None,
    invoice: Annotated[str | None, typer.Option("--invoice", help="Only this invoice's.", metavar="ID")] = None,
    merchant: Merchant = None,
    before: Annotated[str | None, before_option("hld")] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists holds, newest first."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.domain.ids import InvoiceId
        from settler.storage import holds, reading

        async with db.read() as conn:
            found = await holds.find(
                conn,
                stands=None if status is Status.ALL else status is Status.HELD,
                reason=reason,
                invoice_id=None if invoice is None else InvoiceId(invoice),
                merchant=merchant,
                before=before,
                limit=limit,
            )
            return list(await reading.hold_views(conn, found))

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no holds")


@app.command(epilog=examples(f'settler hold place {INV} --reason "the buyer asked us to wait"'))
def place(
    invoice: Annotated[str, typer.Argument(metavar="INVOICE", help="Id of the invoice that is not to settle.")],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Stops the settlement of an open invoice until the hold is released."""
    from settler.api.models import HoldCreate
    from settler.domain.ids import InvoiceId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, body: HoldCreate, by: By) -> Json:
        return (await reading.hold_views(conn, [await operating.place_hold(conn, InvoiceId(body.invoice_id), by)]))[0]

    given = {"invoice_id": invoice, "reason": reason}
    print_one(decided(config, HoldCreate, given, verb), as_json=as_json)


@app.command(epilog=examples(f'settler hold release {HLD} --reason "price is back at par, looked at it"'))
def release(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the hold.")],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lets what a hold stopped go on; with nothing else in the way, the invoice settles at once."""
    from settler.api.models import HoldRelease
    from settler.domain.ids import HoldId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, _body: HoldRelease, by: By) -> Json:
        return (await reading.hold_views(conn, [(await operating.release_hold(conn, HoldId(id_), by)).value]))[0]

    print_one(decided(config, HoldRelease, {"reason": reason}, verb), as_json=as_json)
