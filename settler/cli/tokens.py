"""`settler token`: what configured tokens announced of themselves, and trusting one again after an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.chains import chain_id_of
from settler.cli.completion import chain_names
from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, AsJson, Because, Config, examples, group
from settler.cli.text import Columns, Json, print_list, print_one

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("What tokens announced of themselves: pauses, upgrades, freezes.")

_COLUMNS: Columns = {
    "chain": lambda r: r["chain"],
    "token": lambda r: r["token"],
    "block": lambda r: r["block_number"],
    "announced": lambda r: r["kind"],
    "subject": lambda r: r["subject"] or "",
    "accepted": lambda r: "yes" if r["is_accepted"] else "no",
}


@app.command("list", epilog=examples("settler token list", "settler token list --json"))
def list_(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Lists what tokens announced, oldest first.

    Payments in a token that is paused, was upgraded, or froze the receiving address are held (`settler hold list`).
    """

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from chains.address import to_checksum
        from settler.storage import chains, risks

        async with db.read() as conn:
            names = {(t.chain_id, t.address): t.symbol for t in await chains.tokens_of(conn)}
            return [
                {
                    "chain": state.name,
                    "token": names[state.chain_id, token],
                    "block_number": risk.announcement.block_number,
                    "tx_hash": "0x" + risk.announcement.tx_hash.hex(),
                    "kind": risk.announcement.kind.value,
                    "subject": None if risk.announcement.subject is None else to_checksum(risk.announcement.subject),
                    "is_accepted": risk.is_accepted,
                }
                for state in await chains.all_states(conn)
                for token, known in (await risks.of_chain(conn, state.chain_id)).items()
                for risk in known
            ]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no token announced anything")


@app.command(
    epilog=examples('settler token accept USDC --chain base --reason "read the new implementation: it is the issuer"')
)
def accept(
    token: Annotated[str, typer.Argument(help="Symbol of the token.", metavar="TOKEN")],
    chain: Annotated[
        str, typer.Option("--chain", help="Name of its chain.", metavar="CHAIN", autocompletion=chain_names)
    ],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Trusts a token as it is now, after an upgrade or a pause; what is held already is released one by one."""
    if not reason.strip():
        raise Failure("--reason: is empty; say why the token is trusted again", code=USAGE)

    async def work(settings: Settings, db: Database) -> Json:
        from settler.clock import SystemClock
        from settler.storage import chains, risks

        async with db.write() as conn:
            chain_id = await chain_id_of(conn, settings, chain)
            known = {t.symbol: t.address for t in await chains.tokens_of(conn, chain_id)}
            if token not in known:
                raise Failure(
                    f"token {token!r} is not known on {chain}; choose one of {', '.join(sorted(known)) or 'none'}",
                    code=USAGE,
                )
            now = SystemClock().now()
            count = await risks.accept(conn, chain_id, known[token], now=now, who=operator(), reason=reason)
            return {"chain": chain, "token": token, "accepted": count}

    print_one(with_database(config, work), as_json=as_json)
