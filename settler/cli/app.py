"""All commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from settler import __version__
from settler.cli import (
    addresses,
    api_keys,
    audit,
    bench,
    chains,
    check,
    daemon,
    export,
    holds,
    invoices,
    ledger,
    reconcile,
    rescan,
    settlements,
    tokens,
    transfers,
    webhooks,
)

app = typer.Typer(
    help="Watches chains for stablecoin transfers, matches them to invoices, and settles what is final.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"settler {__version__}")
        raise typer.Exit


@app.callback()
def settler(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command("demo")(daemon.demo)
app.command("run")(daemon.run)
app.command("migrate")(daemon.migrate)
app.command("check")(check.check)
app.command("reconcile")(reconcile.reconcile)
app.command("rescan")(rescan.rescan)
app.command("export")(export.export)
app.add_typer(invoices.app, name="invoice")
app.add_typer(addresses.app, name="address")
app.add_typer(transfers.app, name="transfer")
app.add_typer(settlements.app, name="settlement")
app.add_typer(holds.app, name="hold")
app.add_typer(chains.app, name="chain")
app.add_typer(tokens.app, name="token")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(api_keys.app, name="api-key")
app.add_typer(ledger.app, name="ledger")
app.add_typer(audit.app, name="audit")
app.add_typer(bench.app, name="bench")
