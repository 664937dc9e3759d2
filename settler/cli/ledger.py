"""`settler ledger`: what stands on each account, by chain and token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import PROBLEM
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, AsJson, Config, examples, group
from settler.cli.text import Columns, Json, print_json, print_list
from settler.cli.times import parse_time

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("The double-entry ledger.")


@app.callback()
def _ledger() -> None:
    """Makes it a group although it has one command."""


_COLUMNS: Columns = {
    "chain": lambda b: b["chain"],
    "token": lambda b: b["token"],
    "account": lambda b: b["account"],
    "balance": lambda b: b["balance"],
    "base units": lambda b: b["balance_base"],
}
SUM = "sum"
"""Stands for the account in the row that shows the sum of all accounts of a chain and token: zero."""


@app.command(epilog=examples("settler ledger balances", "settler ledger balances --at 2026-02-01 --json"))
def balances(
    at: Annotated[
        str | None,
        typer.Option("--at", help="Only what was posted before this time, e.g. 2026-01-31T00:00:00Z.", metavar="TIME"),
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Shows the balance of each account, debits less credits, and that they sum to zero; exit 1 if they do not.

    What was received is above zero; what became of it (suspense, settled, surplus, refunded) below.
    """
    when = parse_time(at, option="--at")

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from chains.address import to_checksum
        from settler.domain.ledger import Account
        from settler.domain.money import format_amount
        from settler.storage import chains, ledger

        async with db.read() as conn:
            sums = await ledger.balances(conn, when)
            names = chains.names(await chains.all_states(conn))
            tokens = {(t.chain_id, t.address): t for t in await chains.tokens_of(conn)}
        rows: list[Json] = []
        for chain_id, address in sorted({key[:2] for key in sums}, key=lambda asset: (names[asset[0]], asset[1])):
            token = tokens[chain_id, address]
            of_asset = {a.value: total for a in Account if (total := sums.get((chain_id, address, a))) is not None}
            rows += [
                {
                    "chain": names[chain_id],
                    "chain_id": chain_id,
                    "token": token.symbol,
                    "token_address": to_checksum(address),
                    "account": account,
                    "balance": format_amount(total, token.decimals),
                    "balance_base": str(total),
                }
                for account, total in {**of_asset, SUM: sum(of_asset.values())}.items()
            ]
        return rows

    found = with_database(config, work)
    if as_json:
        print_json(
            {
                "balances": [row for row in found if row["account"] != SUM],
                "sums": [{k: v for k, v in row.items() if k != "account"} for row in found if row["account"] == SUM],
            }
        )
    else:
        print_list(found, _COLUMNS, as_json=False, nothing="nothing was posted")
    return PROBLEM if any(row["account"] == SUM and row["balance_base"] != "0" for row in found) else 0
