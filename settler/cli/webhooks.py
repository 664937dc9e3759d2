"""`settler webhook`: where events are sent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, AsJson, Config, Why, group
from settler.cli.text import Columns, Json, print_list, print_one

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("Outgoing webhooks.")
endpoints = group("Where events are sent.")
app.add_typer(endpoints, name="endpoint")

_LISTED = 1_000
"""Endpoints shown at most, live ones and such as were removed."""
_COLUMNS: Columns = {
    "id": lambda e: e["id"],
    "url": lambda e: e["url"],
    "types": lambda e: e["types"] or "all",
    "merchant": lambda e: e["merchant"],
    "created": lambda e: e["created_at"],
    "disabled": lambda e: e["disabled_at"],
    "why": lambda e: e["disabled_reason"],
}


@endpoints.command()
def add(
    url: Annotated[str, typer.Argument(help="http(s) URL that takes the POST requests.", metavar="URL")],
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; several may be given. Default: all.")
    ] = None,
    merchant: Annotated[
        str | None, typer.Option("--merchant", help="Only events about this merchant's invoices.")
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Adds an endpoint and shows its signing secret, once."""

    async def work(settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.api.models import EndpointCreate
        from settler.api.views import endpoint_view
        from settler.clock import SystemClock
        from settler.domain.delivery import Endpoint, EndpointId
        from settler.domain.ids import ENTROPY_BYTES, make_id
        from settler.storage import webhooks
        from settler.webhook.guard import check_url
        from settler.webhook.sign import SECRET_BYTES, new_secret

        body = {"url": url, "types": type_ or [], "merchant": merchant}
        wanted = validate(EndpointCreate, json.dumps({k: v for k, v in body.items() if v is not None}))
        check_url(wanted.url, allow_private=settings.webhooks.allow_private_addresses)
        now = SystemClock().now()
        endpoint = Endpoint(
            id=EndpointId(make_id("whe", now, os.urandom(ENTROPY_BYTES))),
            url=wanted.url,
            merchant=wanted.merchant,
            types=tuple(dict.fromkeys(wanted.types)),
            secret=new_secret(os.urandom(SECRET_BYTES)),
            previous_secret=None,
            created_at=now,
        )
        async with db.write() as conn:
            await webhooks.add_endpoint(conn, endpoint)
        return {**endpoint_view(endpoint), "secret": endpoint.secret}

    print_one(with_database(config, work), as_json=as_json)
    if not as_json:
        print("keep the secret: it is not shown again", file=sys.stderr)


@endpoints.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Those that were removed or disabled, too.")] = False,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists endpoints, newest first; never their secrets."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.api.views import endpoint_view
        from settler.storage import webhooks

        async with db.read() as conn:
            found = await webhooks.find_endpoints(conn, is_live=None if all_ else True, limit=_LISTED)
        return [endpoint_view(endpoint) for endpoint in found]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no webhook endpoints")


@endpoints.command()
def remove(
    id_: Annotated[str, typer.Argument(metavar="ID")],
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Removes an endpoint: nothing more is sent there, what waits becomes dead letters. Again is no error."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.api.views import endpoint_view
        from settler.clock import SystemClock
        from settler.domain.delivery import EndpointId
        from settler.storage import webhooks

        why = f"removed by {operator()}" + (f": {reason}" if reason else "")
        async with db.write() as conn:
            await webhooks.disable_endpoint(conn, EndpointId(id_), SystemClock().now(), reason=why)
            found = await webhooks.get_endpoint(conn, EndpointId(id_))
        if found is None:
            raise Failure(f"there is no webhook endpoint {id_!r}; see settler webhook endpoint list", code=USAGE)
        return endpoint_view(found)

    print_one(with_database(config, work), as_json=as_json)
