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
    completing,
    configuring,
    daemon,
    events,
    export,
    holds,
    invoices,
    ledger,
    reconcile,
    relay,
    rescan,
    settlements,
    simulate,
    tokens,
    transfers,
    webhooks,
)
from settler.cli.options import examples

app = typer.Typer(
    help="Watches chains for stablecoin transfers, matches them to invoices, and settles what is final.",
    no_args_is_help=True,
    add_completion=True,
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


app.command("demo", epilog=examples("settler demo", "settler demo --invoices 10 --exit-when-settled"))(daemon.demo)
app.command("run", epilog=examples("settler run -c settler.toml", "settler run -c settler.toml --shadow"))(daemon.run)
app.command("migrate", epilog=examples("settler migrate -c settler.toml"))(daemon.migrate)
app.command("check", epilog=examples("settler check -c settler.toml", "settler check --json"))(check.check)
app.command(
    "reconcile",
    epilog=examples(
        "settler reconcile -c settler.toml",
        "settler reconcile --chain base --from 37000000 --to 37100000 --rpc https://mainnet.base.org --json",
    ),
)(reconcile.reconcile)
app.command(
    "rescan",
    epilog=examples("settler rescan -c settler.toml --chain base --from 37000000 --to 37000100"),
)(rescan.rescan)
app.command(
    "simulate",
    epilog=examples("settler simulate --seeds 100 --jobs 2", "settler simulate --seeds 1 --seed 7 --steps 400 --json"),
)(simulate.simulate)
app.command(
    "export",
    epilog=examples(
        "settler export settlements --from 2026-01-01 --to 2026-02-01 -o january.csv",
        "settler export ledger --format jsonl --chain base",
        "settler export transfers --format parquet -o transfers.parquet --json",
    ),
)(export.export)
app.add_typer(invoices.app, name="invoice")
app.add_typer(addresses.app, name="address")
app.add_typer(transfers.app, name="transfer")
app.add_typer(settlements.app, name="settlement")
app.add_typer(holds.app, name="hold")
app.add_typer(chains.app, name="chain")
app.add_typer(tokens.app, name="token")
app.add_typer(events.app, name="event")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(relay.app, name="relay")
app.add_typer(api_keys.app, name="api-key")
app.add_typer(ledger.app, name="ledger")
app.add_typer(audit.app, name="audit")
app.add_typer(configuring.app, name="config")
app.add_typer(bench.app, name="bench")
app.command(
    "completion",
    epilog=examples(
        "settler completion bash > ~/.local/share/bash-completion/completions/settler",
        'settler completion zsh > "${fpath[1]}/_settler"',
        "settler completion fish > ~/.config/fish/completions/settler.fish",
    ),
)(completing.completion)
