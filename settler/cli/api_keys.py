"""`settler api-key`: who may use the API."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import USAGE, Failure
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, KEY, AsJson, Config, Why, examples, group
from settler.cli.text import Columns, Json, print_list, print_one

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.api_keys import ApiKey, Scope
    from settler.storage.engine import Database

app = group("Keys of the API.")

_COLUMNS: Columns = {
    "id": lambda k: k["id"],
    "name": lambda k: k["name"],
    "scopes": lambda k: k["scopes"],
    "merchant": lambda k: k["merchant"],
    "created": lambda k: k["created_at"],
    "last used": lambda k: k["last_used_at"],
    "revoked": lambda k: k["revoked_at"],
}


@app.command(
    epilog=examples(
        "settler api-key create --name shop --scope read --scope write --merchant shop",
        "settler api-key create --name ops --scope read --scope operate --json",
    )
)
def create(
    name: Annotated[str, typer.Option("--name", help="Your own name for it; it stands in the audit log.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, write or operate; several may be given. Default: read and write."),
    ] = None,
    merchant: Annotated[str | None, typer.Option("--merchant", help="The one merchant whose objects it sees.")] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Creates a key and shows it, once: only its hash is kept."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.clock import SystemClock
        from settler.domain.ids import ENTROPY_BYTES
        from settler.storage import api_keys

        scopes = _checked(name, scope or ["read", "write"], merchant)
        async with db.write() as conn:
            made, text = await api_keys.create(
                conn,
                name=name,
                scopes=scopes,
                merchant=merchant,
                now=SystemClock().now(),
                who=operator(),
                secret=os.urandom(api_keys.SECRET_BYTES),
                entropy=os.urandom(ENTROPY_BYTES),
            )
        return {**_view(made), "key": text}

    print_one(with_database(config, work), as_json=as_json)
    if not as_json:
        print("keep the key: it is not shown again", file=sys.stderr)


@app.command(epilog=examples(f"settler api-key rotate {KEY} --overlap-s 3600"))
def rotate(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    overlap_s: Annotated[
        int,
        typer.Option("--overlap-s", min=0, max=30 * 86_400, help="Seconds that the old text still opens it; 0: none."),
    ] = 86_400,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Gives a key a new text and shows it, once; the old one works for a while beside it.

    Id, name, scopes, merchant and idempotency keys stay. Sessions of the operator's pages end at once.
    """

    async def work(_settings: Settings, db: Database) -> Json:
        from datetime import timedelta

        from settler.clock import SystemClock
        from settler.storage import api_keys

        async with db.write() as conn:
            rotated, text = await api_keys.rotate(
                conn,
                id_,
                now=SystemClock().now(),
                overlap=timedelta(seconds=overlap_s),
                who=operator(),
                secret=os.urandom(api_keys.SECRET_BYTES),
            )
        return {**_view(rotated), "key": text}

    print_one(with_database(config, work), as_json=as_json)
    if not as_json:
        print("keep the key: it is not shown again", file=sys.stderr)


@app.command("list", epilog=examples("settler api-key list", "settler api-key list --json"))
def list_(config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Lists keys, revoked ones too; never the keys themselves."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.storage import api_keys

        async with db.read() as conn:
            return [_view(key) for key in await api_keys.list_all(conn)]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no API keys")


@app.command(epilog=examples(f'settler api-key revoke {KEY} --reason "it was in a log"'))
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the key.")],
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Ends a key, at once and for good."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.clock import SystemClock
        from settler.storage import api_keys

        async with db.write() as conn:
            now = SystemClock().now()
            return _view(await api_keys.revoke(conn, id_, now=now, who=operator(), reason=reason))

    print_one(with_database(config, work), as_json=as_json)


def _checked(name: str, scopes: list[str], merchant: str | None) -> set[Scope]:
    """The scopes, if everything is fine. Raises `Failure` naming the option."""
    import re

    from settler.api.fields import MERCHANT_PATTERN, NAME_CHARS
    from settler.cli.text import one_line
    from settler.storage.api_keys import Scope

    if not 1 <= len(name.strip()) <= NAME_CHARS or one_line(name) != name:
        raise Failure(f"--name {name!r}: give 1 to {NAME_CHARS} printable characters", code=USAGE)
    if merchant is not None and not re.fullmatch(MERCHANT_PATTERN, merchant):
        raise Failure(f"--merchant {merchant!r}: give 1 to 64 letters, digits, dots and hyphens", code=USAGE)
    unknown = [scope for scope in scopes if scope not in set(Scope)]
    if unknown:
        raise Failure(f"--scope {unknown[0]!r}: write one of {', '.join(Scope)}", code=USAGE)
    return {Scope(scope) for scope in scopes}


def _view(key: ApiKey) -> Json:
    from settler.domain.views import time_text

    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(scope.value for scope in key.scopes),
        "merchant": key.merchant,
        "created_at": time_text(key.created_at),
        "last_used_at": None if key.last_used_at is None else time_text(key.last_used_at),
        "previous_until": None if key.previous_until is None else time_text(key.previous_until),
        "revoked_at": None if key.revoked_at is None else time_text(key.revoked_at),
    }
