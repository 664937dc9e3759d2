"""`settler event`: what happened, in order, as webhooks tell it and `GET /v1/events` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.opened import with_database
from settler.cli.options import CONFIG, EVT, LIMIT, AsJson, Config, Limit, Merchant, examples, group, id_checked
from settler.cli.text import Columns, Json, print_list

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("What happened, in order; the same events go to webhook endpoints.")

_COLUMNS: Columns = {
    "id": lambda e: e["id"],
    "created": lambda e: e["created_at"],
    "type": lambda e: e["type"],
    "object": lambda e: e["data"].get("id"),
    "version": lambda e: e["data"].get("version"),
}


@app.callback()
def _event() -> None:
    """Makes it a group although it has one command."""


@app.command("list", epilog=examples("settler event list --limit 20", f"settler event list --after {EVT} --json"))
def list_(
    after: Annotated[
        str | None,
        typer.Option(
            "--after", help="Go on behind this event (the last you have).", metavar="ID", callback=id_checked("evt")
        ),
    ] = None,
    merchant: Merchant = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists events, oldest first; with --json each as a webhook's body holds it."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.storage import feed

        await feed.catch_up(db)
        async with db.read() as conn:
            return [event.body() for event in await feed.find_after(conn, after, merchant=merchant, limit=limit)]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no events")
