"""`settler invoice`: as the API makes, shows, lists, cancels and marks them, without it."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from settler.cli.completion import chain_names, words
from settler.cli.deciding import decided
from settler.cli.failures import USAGE, Failure
from settler.cli.opened import with_database
from settler.cli.options import (
    CONFIG,
    INV,
    LIMIT,
    AsJson,
    Because,
    Config,
    Limit,
    Merchant,
    Why,
    before_option,
    examples,
    group,
)
from settler.cli.text import Columns, Json, print_list, print_one
from settler.domain.ids import ENTROPY_BYTES, TOKEN_BYTES
from settler.domain.invoices import InvoiceException, InvoiceStatus, Match

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from settler.config import Settings
    from settler.domain.operator import By
    from settler.stages.operating import Operating
    from settler.storage.engine import Database

app = group("Invoices, without the API.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the invoice.")]

_ADDRESS = "0x52908400098527886E0F7030069857D2E4169EE7"
_WAY = ("chain", "token", "pay_to", "match")
"""What the parts of --option are, as far as they have no name."""
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


@app.command(
    epilog=examples(
        "settler invoice create --amount 100.00 --reference order-42 \\",
        f"  --option base:USDC:{_ADDRESS}",
        "settler invoice create --amount 5 --reference order-43 --option base:USDC --option polygon:USDC",
        "settler invoice create --amount 9.99 --reference order-44 --option base:USDC:match=reference --json",
    )
)
def create(
    amount: Annotated[
        str,
        typer.Option("--amount", help='What is owed, in the currency of the tokens, e.g. "100.00".', metavar="AMOUNT"),
    ],
    reference: Annotated[
        str, typer.Option("--reference", help="Your own name for it, unique per merchant.", metavar="TEXT")
    ],
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="A way to pay: CHAIN:TOKEN:ADDRESS, with :MATCH where it is not address, and :reference=0x… and "
            ":payer=0x… where the match goes by them. Without ADDRESS (CHAIN:TOKEN, CHAIN:TOKEN:match=MATCH) it is a "
            "deposit address of the invoice's own. Several may be given.",
            metavar="CHAIN:TOKEN[:ADDRESS[:MATCH]][:KEY=VALUE]",
        ),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            "--chain", help="With --token and --pay-to: one way to pay.", metavar="CHAIN", autocompletion=chain_names
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="Symbol of a token configured on --chain.", metavar="SYMBOL")
    ] = None,
    pay_to: Annotated[
        str | None,
        typer.Option(
            "--pay-to",
            help="Checksummed address to be paid; default: a deposit address of its own.",
            metavar="ADDRESS",
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            help="How a payment is known to be this one's: address (default), amount, reference or payer.",
            metavar="MATCH",
            autocompletion=words(tuple(Match)),
        ),
    ] = None,
    onchain_reference: Annotated[
        str | None,
        typer.Option(
            "--onchain-reference", help="With --match reference: 8 to 32 bytes; default: made.", metavar="0x…"
        ),
    ] = None,
    payer: Annotated[
        str | None, typer.Option("--payer", help="With --match payer (or reference): who will pay.", metavar="ADDRESS")
    ] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", help="Default: that of the tokens.", metavar="CODE")
    ] = None,
    expires_in_s: Annotated[
        int | None,
        typer.Option(
            "--expires-in-s", help="Seconds it can be paid in; default: invoices.expires_in_s.", metavar="SECONDS"
        ),
    ] = None,
    merchant: Annotated[
        str | None, typer.Option("--merchant", help="Whose it is; default: default.", metavar="NAME")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="Kept with it; several may be given.", metavar="KEY=VALUE")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Creates an invoice and shows it, with what a payer has to know."""
    ways = [_way(text) for text in option or ()]
    one = {"chain": chain, "token": token, "pay_to": pay_to, "match": match}
    if given := _given({**one, "reference": onchain_reference, "payer": payer}):
        ways.insert(0, given)
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
        from settler.domain.drafting import NEW_REFERENCE_BYTES, draft
        from settler.storage import invoicing, reading

        request = validate(InvoiceCreate, json.dumps(body)).to_request()
        now = SystemClock().now()
        drafted = draft(
            request,
            catalog=settings.catalog(),
            defaults=settings.invoice_defaults(),
            now=now,
            new_reference=os.urandom(NEW_REFERENCE_BYTES),
        )
        async with db.write() as conn:
            made = await invoicing.insert(
                conn,
                drafted,
                now=now,
                entropy=os.urandom(ENTROPY_BYTES),
                secret=os.urandom(TOKEN_BYTES),
                policy=settings.deposit_policy(),
            )
            return (await reading.invoice_views(conn, [made]))[0]

    print_one(with_database(config, work), as_json=as_json)


@app.command(epilog=examples(f"settler invoice show {INV}", f"settler invoice show {INV} --qr --option 1"))
def show(
    id_: Id,
    qr: Annotated[
        bool, typer.Option("--qr", help="With a QR code that a wallet can scan, for a dark terminal.")
    ] = False,
    option: Annotated[
        int | None, typer.Option("--option", help="With --qr: which way to pay, counted from 0; default: 0.")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Shows one invoice with its options and payments."""
    if qr and as_json:
        raise Failure("--qr is for people, --json for programs; leave one of them out", code=USAGE)
    if option is not None and not qr:
        raise Failure("--option goes with --qr; add it", code=USAGE)

    async def work(_settings: Settings, db: Database) -> tuple[Json, str]:
        from settler.api.routes.qr import blocks, option_of
        from settler.domain.ids import InvoiceId
        from settler.domain.views import payment_uri
        from settler.storage import invoices, reading

        async with db.read() as conn:
            found = await invoices.get(conn, InvoiceId(id_))
            if found is None:
                raise _unknown(id_)
            view = (await reading.invoice_views(conn, [found]))[0]
            code = blocks(payment_uri(option_of(found, option or 0), await reading.render(conn))) if qr else ""
            return view, code

    view, code = with_database(config, work)
    print_one(view, as_json=as_json)
    print(code, end="")


@app.command(
    "list",
    epilog=examples(
        "settler invoice list --status processing",
        "settler invoice list --exception underpaid --limit 200 --json",
        f"settler invoice list --before {INV}",
    ),
)
def list_(
    status: Annotated[InvoiceStatus | None, typer.Option("--status", help="Only those in this status.")] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="Only the one of this name.", metavar="TEXT")
    ] = None,
    merchant: Merchant = None,
    exception: Annotated[
        InvoiceException | None, typer.Option("--exception", help="Only those with this exception.")
    ] = None,
    before: Annotated[str | None, before_option("inv")] = None,
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


@app.command(epilog=examples(f'settler invoice cancel {INV} --reason "the order was withdrawn"'))
def cancel(
    id_: Id,
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Cancels a pending invoice: it is not to be paid any more."""
    from settler.api.models import InvoiceCancel
    from settler.domain.ids import InvoiceId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, _body: InvoiceCancel, by: By) -> Json:
        return (await reading.invoice_views(conn, [await operating.cancel(conn, InvoiceId(id_), by)]))[0]

    print_one(decided(config, InvoiceCancel, {"reason": reason}, verb), as_json=as_json)


@app.command(epilog=examples(f'settler invoice mark {INV} settled --reason "one cent short, accepted"'))
def mark(
    id_: Id,
    status: Annotated[str, typer.Argument(metavar="STATUS", help="Only: settled.", autocompletion=words(["settled"]))],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Settles an open invoice with the final payments it has: too little, too late, or none."""
    from settler.api.models import InvoiceMark
    from settler.domain.ids import InvoiceId
    from settler.storage import reading

    async def verb(conn: AsyncConnection, operating: Operating, _body: InvoiceMark, by: By) -> Json:
        return (await reading.invoice_views(conn, [(await operating.mark(conn, InvoiceId(id_), by)).value]))[0]

    print_one(decided(config, InvoiceMark, {"status": status, "reason": reason}, verb), as_json=as_json)


def _way(text: str) -> dict[str, Any]:
    parts = text.split(":")
    plain = list(itertools.takewhile(lambda part: "=" not in part, parts))
    named = [part.partition("=")[::2] for part in parts[len(plain) :]]
    way = dict(zip(_WAY, plain, strict=False))
    if not 2 <= len(plain) <= len(_WAY) or not all(parts) or len(way | dict(named)) < len(plain) + len(named):
        raise Failure(
            f"--option {text!r}: write CHAIN:TOKEN:ADDRESS, e.g. base:USDC:0x…, and then e.g. :match=reference",
            code=USAGE,
        )
    return way | dict(named)


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
