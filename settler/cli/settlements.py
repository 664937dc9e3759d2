"""`settler settlement`: the records of what is paid for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.opened import with_database
from settler.cli.options import (
    CONFIG,
    INV,
    LIMIT,
    STL,
    AsJson,
    Config,
    Limit,
    Merchant,
    before_option,
    examples,
    group,
)
from settler.cli.text import Columns, Json, print_list, print_one
from settler.cli.verify import verify

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("Records of what is paid for good.")

_COLUMNS: Columns = {
    "id": lambda s: s["id"],
    "invoice": lambda s: s["invoice_id"],
    "reference": lambda s: s["reference"],
    "merchant": lambda s: s["merchant"],
    "requested": lambda s: s["amount_requested"],
    "settled": lambda s: s["amount_settled"],
    "surplus": lambda s: s["amount_surplus"],
    "currency": lambda s: s["currency"],
    "settled at": lambda s: s["settled_at"],
    "reversed": lambda s: s["reversal"] and s["reversal"]["reversed_at"],
}


@app.command(
    "list",
    epilog=examples("settler settlement list --merchant shop", f"settler settlement list --invoice {INV} --json"),
)
def list_(
    invoice: Annotated[str | None, typer.Option("--invoice", help="Only this invoice's.", metavar="ID")] = None,
    merchant: Merchant = None,
    before: Annotated[str | None, before_option("stl")] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists settlements, newest first."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.domain.ids import InvoiceId
        from settler.storage import reading, settlements

        async with db.read() as conn:
            found = await settlements.find(
                conn,
                invoice_id=None if invoice is None else InvoiceId(invoice),
                merchant=merchant,
                before=before,
                limit=limit,
            )
            return list(await reading.settlement_views(conn, found))

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no settlements")


@app.command(epilog=examples(f"settler settlement show {STL}", f"settler settlement show {STL} --json"))
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the settlement.")],
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Shows one settlement with its payments."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.domain.ids import SettlementId
        from settler.storage import reading, settlements

        async with db.read() as conn:
            found = await settlements.get(conn, SettlementId(id_))
            if found is None:
                raise Failure(f"there is no settlement {id_!r}; see settler settlement list", code=USAGE)
            return (await reading.settlement_views(conn, [found]))[0]

    print_one(with_database(config, work), as_json=as_json)


app.command(
    "verify",
    epilog=examples(
        f"settler settlement verify {STL}", f"settler settlement verify {STL} --rpc https://mainnet.base.org --json"
    ),
)(verify)
