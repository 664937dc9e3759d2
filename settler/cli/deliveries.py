"""`settler webhook delivery` and `settler webhook replay`: how events got to their endpoints, and once more."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.completion import words
from settler.cli.opened import with_database
from settler.cli.options import (
    CONFIG,
    DLV,
    LIMIT,
    WHE,
    AsJson,
    Config,
    Limit,
    before_option,
    examples,
    group,
    id_checked,
)
from settler.cli.progress import progress
from settler.cli.text import Columns, Json, print_json, print_list, print_one
from settler.cli.times import parse_period
from settler.domain.delivery import DeliveryStatus
from settler.domain.events import EventType

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database
    from settler.storage.webhooks import Replay

app = group("How events got to their endpoints.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the delivery.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="Only to this endpoint.", metavar="ID", callback=id_checked("whe"))
]

PIECE = 1_000
"""Of a replay in one transaction: a tenth of a second or so, then others may write."""
_ATTEMPTS_SHOWN = 50
_COLUMNS: Columns = {
    "id": lambda d: d["id"],
    "event": lambda d: d["event_id"],
    "type": lambda d: d["event_type"],
    "endpoint": lambda d: d["endpoint_id"],
    "status": lambda d: d["status"],
    "attempts": lambda d: d["attempts"],
    "next": lambda d: d["next_attempt_at"],
    "answer": lambda d: d["last_status_code"],
    "error": lambda d: d["last_error"],
}


@app.command(
    "list",
    epilog=examples(
        "settler webhook delivery list --status dead",
        f"settler webhook delivery list --endpoint {WHE} --type invoice.settled --json",
    ),
)
def list_(
    status: Annotated[DeliveryStatus | None, typer.Option("--status", help="Only those.")] = None,
    endpoint: Endpoint = None,
    event: Annotated[
        str | None, typer.Option("--event", help="Only of this event.", metavar="ID", callback=id_checked("evt"))
    ] = None,
    type_: Annotated[
        EventType | None,
        typer.Option(
            "--type", help="Only of events of this type.", metavar="TYPE", autocompletion=words(tuple(EventType))
        ),
    ] = None,
    before: Annotated[str | None, before_option("dlv")] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists deliveries, those of the newest events first. `dead` are the dead letters."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.api.views import delivery_view
        from settler.domain.delivery import EndpointId
        from settler.domain.ids import EventId
        from settler.storage import webhooks

        async with db.read() as conn:
            found = await webhooks.find_deliveries(
                conn,
                status=status,
                endpoint_id=None if endpoint is None else EndpointId(endpoint),
                event_id=None if event is None else EventId(event),
                event_type=type_,
                before=before,
                limit=limit,
            )
        return [delivery_view(delivery) for delivery in found]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no deliveries")


@app.command(epilog=examples(f"settler webhook delivery show {DLV}"))
def show(id_: Id, config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Shows a delivery with its attempts, newest first: when, how long, and what came back."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.api.views import logged_delivery_view
        from settler.domain.delivery import DeliveryId
        from settler.domain.errors import NotFound
        from settler.storage import webhooks

        async with db.read() as conn:
            found = await webhooks.get_delivery(conn, DeliveryId(id_))
            attempts = await webhooks.attempts_of(conn, DeliveryId(id_), limit=_ATTEMPTS_SHOWN)
        if found is None:
            raise NotFound(f"there is no delivery {id_!r}; see settler webhook delivery list")
        return logged_delivery_view(found, attempts)

    print_one(with_database(config, work), as_json=as_json)


@app.command(epilog=examples(f"settler webhook delivery retry {DLV}"))
def retry(id_: Id, config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Sends a delivery again at once, with all its attempts before it: a dead letter, or one that was delivered."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.api.views import delivery_view
        from settler.clock import SystemClock
        from settler.domain.delivery import DeliveryId
        from settler.storage import webhooks

        async with db.write() as conn:
            return delivery_view(await webhooks.retry_delivery(conn, DeliveryId(id_), SystemClock().now()))

    print_one(with_database(config, work), as_json=as_json)


def replay(
    since: Annotated[
        str | None,
        typer.Option("--from", help="Only events of this time (RFC 3339, or a day in UTC) or later.", metavar="TIME"),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Only events before this time. Default: now.", metavar="TIME")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only what was given up: the dead letters.")] = False,
    endpoint: Endpoint = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Sends the events of a range again, under the ids they had; a running daemon does so at once.

    Deliveries that are pending come anyway and are left alone; disabled endpoints are passed over. With --endpoint
    (and without --dead) that endpoint also gets what it was never sent: it was added later, or was disabled. Cut
    short, what was done stays done; run it again.
    """
    first, end = parse_period(since, until)

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.clock import SystemClock
        from settler.domain.delivery import EndpointId
        from settler.storage.webhooks import Replay

        now = SystemClock().now()
        wanted = Replay(
            since=first,
            until=min(end or now, now),
            is_dead_only=dead,
            endpoint_id=None if endpoint is None else EndpointId(endpoint),
        )
        return await _replay(db, wanted, now, as_json=as_json)

    found = with_database(config, work)
    if as_json:
        print_json(found)
    else:
        print(f"{found['replayed']} deliveries due again, {found['created']} made")


async def _replay(db: Database, wanted: Replay, now: datetime, *, as_json: bool) -> Json:
    """Piece by piece, each a transaction of its own."""
    from settler.domain.views import time_text
    from settler.storage import webhooks

    async with db.read() as conn:
        total = await webhooks.count_to_see(conn, wanted)
    sums: Counter[str] = Counter()
    unit = "events" if webhooks.is_by_event(wanted) else "deliveries"
    with progress("replay", max(total, 1), as_json=as_json, unit=unit) as advance:
        after: str | None = None
        while True:
            async with db.write() as conn:
                done = await webhooks.replay(conn, wanted, now, after=after, limit=PIECE)
            sums.update(replayed=done.replayed, created=done.created, seen=done.seen)
            advance(sums["seen"], f"{sums['replayed']} due again, {sums['created']} made")
            if done.after is None:
                break
            after = done.after
    return {
        "since": None if wanted.since is None else time_text(wanted.since),
        "until": time_text(wanted.until),
        "dead_only": wanted.is_dead_only,
        "endpoint_id": wanted.endpoint_id,
        "replayed": sums["replayed"],
        "created": sums["created"],
    }
