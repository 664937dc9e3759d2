"""`settler chain`: how far each chain is read, and letting a halted one go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.completion import chain_names
from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, AsJson, Because, Config, examples, group
from settler.cli.text import Columns, Json, print_list, print_one

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from chains.model import ChainId
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("How far each chain is read; resuming a halted one.")

_COLUMNS: Columns = {
    "chain": lambda c: c["name"],
    "id": lambda c: c["chain_id"],
    "head": lambda c: c["head"],
    "scanned": lambda c: c["scanned"],
    "final": lambda c: c["final"],
    "settled": lambda c: c["settled"],
    "lag s": lambda c: c["lag_s"],
    "leader": lambda c: c["leader"],
    "state": lambda c: f"halted: {c['halt_reason']}" if c["halted"] else "ok" if c["scanned"] else "not read yet",
}


@app.command("list", epilog=examples("settler chain list", "settler chain list --json"))
def list_(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Lists the chains the database knows."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.api.chains import chain_views

        async with db.read() as conn:
            return await chain_views(conn)

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no chains: none was read yet")


@app.command(
    epilog=examples('settler chain resume polygon --reason "node, explorer and a second provider agree again"')
)
def resume(
    chain: Annotated[str, typer.Argument(help="Name of the chain.", metavar="CHAIN", autocompletion=chain_names)],
    reason: Because,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lets a halted chain settle again."""
    if not reason.strip():
        raise Failure("--reason: is empty; say why the chain may go on", code=USAGE)

    async def work(settings: Settings, db: Database) -> Json:
        from settler.api.chains import chain_views
        from settler.clock import SystemClock
        from settler.storage import chains

        async with db.write() as conn:
            chain_id = await chain_id_of(conn, settings, chain)
            if await chains.get(conn, chain_id) is None:
                raise Failure(f"{chain} was not read yet; there is nothing to resume", code=USAGE)
            now = SystemClock().now()
            await chains.resume(conn, chain_id, now=now, who=operator(), reason=reason)
            return next(view for view in await chain_views(conn) if view["chain_id"] == chain_id)

    print_one(with_database(config, work), as_json=as_json)


async def chain_id_of(conn: AsyncConnection, settings: Settings, name: str) -> ChainId:
    """The id of a chain by its name, configured now or known from before. Raises `Failure` naming those there
    are.
    """
    from settler.storage import chains

    known = {state.name: state.chain_id for state in await chains.all_states(conn)}
    known |= {chain.name: chain.chain_id for chain in settings.chains.values()}
    if name not in known:
        raise Failure(f"chain {name!r} is not known; choose one of {', '.join(sorted(known))}", code=USAGE)
    return known[name]
