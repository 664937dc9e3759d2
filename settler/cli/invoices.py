"""`settler invoice`: as the API makes, shows, lists and cancels them, without it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, LIMIT, AsJson, Before, Config, Limit, Merchant, Why, group
from settler.cli.text import Columns, Json, print_list, print_one
from settler.domain.ids import ENTROPY_BYTES
from settler.domain.invoices import InvoiceException, InvoiceStatus

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("Invoices, without the API.")

_COLUMNS: Columns = {
    "id": lambda i: i["id"],
    "reference": lambda i: i["reference"],
    "merchant": lambda i: i["merchant"],
    "status": lambda i: i["status"],
    "exceptions": lambda i: i["exceptions"],
    "requested": lambda i: i["amount_requested"],
    "received": lambda i: i["amount_received"],
    "settled": lambda i: i["amount_settled"],
    "currency": lambda i: i["currency"],
    "created": lambda i: i["created_at"],
    "expires": lambda i: i["expires_at"],
}


@app.command()
def create(
    amount: Annotated[str, typer.Option("--amount", help='What is owed, e.g. "100.00".')],
    reference: Annotated[str, typer.Option("--reference", help="Your own name for it, unique per merchant.")],
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="A way to pay: CHAIN:TOKEN:ADDRESS, or CHAIN:TOKEN:ADDRESS:MATCH with MATCH address (default) or "
            "amount. Several may be given.",
            metavar="CHAIN:TOKEN:ADDRESS[:MATCH]",
        ),
    ] = None,
    chain: Annotated[str | None, typer.Option("--chain", help="With --token and --pay-to: one way to pay.")] = None,
    token: Annotated[str | None, typer.Option("--token", help="Symbol of a token configured on --chain.")] = None,
    pay_to: Annotated[str | None, typer.Option("--pay-to", help="Checksummed address to be paid.")] = None,
    match: Annotated[str | None, typer.Option("--match", help="address (default) or amount.")] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="That of the tokens.")] = None,
    expires_in_s: Annotated[
        int | None, typer.Option("--expires-in-s", help="Seconds from now; default from the configuration.")
    ] = None,
    merchant: Annotated[str | None, typer.Option("--merchant", help="Whose it is; default: default.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="Kept with it; several may be given.", metavar="KEY=VALUE")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Creates an invoice and shows it."""
    ways = [_way(text) for text in option or ()]
    if any(part is not None for part in (chain, token, pay_to, match)):
        ways.insert(0, _given({"chain": chain, "token": token, "pay_to": pay_to, "match": match}))
    body = _given(
        {
            "amount": amount,
            "reference": reference,
            "options": ways,
            "currency": currency,
            "expires_in_s": expires_in_s,
            "merchant": merchant,
            "metadata": dict(_pair(text) for text in metadata or ()),
        }
    )

    async def work(settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.api.models import InvoiceCreate
        from settler.clock import SystemClock
        from settler.domain.drafting import draft
        from settler.storage import invoicing, reading

        request = validate(InvoiceCreate, json.dumps(body)).to_request()
        now = SystemClock().now()
        drafted = draft(request, catalog=settings.catalog(), defaults=settings.invoice_defaults(), now=now)
        async with db.write() as conn:
            made = await invoicing.insert(conn, drafted, now=now, entropy=os.urandom(ENTROPY_BYTES))
            return (await reading.invoice_views(conn, [made]))[0]

    print_one(with_database(config, work), as_json=as_json)


@app.command()
def show(id_: Annotated[str, typer.Argument(metavar="ID")], config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Shows one invoice with its options and payments."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.domain.ids import InvoiceId
        from settler.storage import invoices, reading

        async with db.read() as conn:
            found = await invoices.get(conn, InvoiceId(id_))
            if found is None:
                raise _unknown(id_)
            return (await reading.invoice_views(conn, [found]))[0]

    print_one(with_database(config, work), as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[InvoiceStatus | None, typer.Option("--status")] = None,
    reference: Annotated[str | None, typer.Option("--reference")] = None,
    merchant: Merchant = None,
    exception: Annotated[InvoiceException | None, typer.Option("--exception")] = None,
    before: Before = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists invoices, newest first."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.storage import invoices, reading

        async with db.read() as conn:
            found = await invoices.find(
                conn,
                status=status,
                reference=reference,
                merchant=merchant,
                exception=exception,
                before=before,
                limit=limit,
            )
            return list(await reading.invoice_views(conn, found))

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no invoices")


@app.command()
def cancel(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Cancels a pending invoice: it is not to be paid any more."""

    async def work(_settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.api.models import InvoiceCancel
        from settler.clock import SystemClock
        from settler.domain.ids import InvoiceId
        from settler.storage import invoicing, reading

        why = validate(InvoiceCancel, json.dumps({"reason": reason})).reason
        async with db.write() as conn:
            now = SystemClock().now()
            canceled = await invoicing.cancel(conn, InvoiceId(id_), now=now, who=operator(), reason=why)
            return (await reading.invoice_views(conn, [canceled]))[0]

    print_one(with_database(config, work), as_json=as_json)


def _way(text: str) -> dict[str, Any]:
    parts = text.split(":")
    if not 2 <= len(parts) <= 4 or not all(parts):
        raise Failure(f"--option {text!r}: write CHAIN:TOKEN:ADDRESS, e.g. base:USDC:0x…", code=USAGE)
    return dict(zip(("chain", "token", "pay_to", "match"), parts, strict=False))


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise Failure(f"--metadata {text!r}: write KEY=VALUE", code=USAGE)
    return key, value


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """What is left out in the request is decided by its model."""
    return {name: value for name, value in fields.items() if value is not None}


def _unknown(id_: str) -> Failure:
    return Failure(f"there is no invoice {id_!r}; see settler invoice list", code=USAGE)
