"""`settler audit`: what operators did, and whether anybody changed the log of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, LIMIT, AsJson, Config, Limit, examples, group
from settler.cli.text import Columns, Json, one_line, print_json, print_list
from settler.cli.times import parse_period

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.domain.audit import Kept
    from settler.storage.engine import Database
    from settler.storage.operator_actions import Verified

app = group("The audit log: what operators did, when and why.")

_COLUMNS: Columns = {
    "seq": lambda a: a["seq"],
    "at": lambda a: a["at"],
    "who": lambda a: a["who"],
    "action": lambda a: a["action"],
    "object": lambda a: a["object_id"],
    "reason": lambda a: a["reason"],
    "detail": lambda a: a["detail"],
}
_HEAD = re.compile(r"(?:([0-9]{1,18}):)?(?:0x)?([0-9a-fA-F]{64})", re.ASCII)


@app.command(
    "list",
    epilog=examples(
        "settler audit list --action transfer.assign --from 2026-01-01",
        "settler audit list --who cli:ada --json",
    ),
)
def list_(
    action: Annotated[
        str | None, typer.Option("--action", help="Only such, e.g. transfer.assign.", metavar="ACTION")
    ] = None,
    object_: Annotated[str | None, typer.Option("--object", help="Only about this one.", metavar="ID")] = None,
    who: Annotated[str | None, typer.Option("--who", help="Only this operator's, e.g. cli:ada.", metavar="WHO")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="From this time on, e.g. 2026-01-31T00:00:00Z.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Before this time.", metavar="TIME")] = None,
    before: Annotated[
        int | None, typer.Option("--before", min=1, help="Go on below this number (the last of the list before).")
    ] = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists what operators did, newest first."""
    first, end = parse_period(since, until)

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.storage import operator_actions

        async with db.read() as conn:
            found = await operator_actions.find(
                conn, action=action, object_id=object_, who=who, since=first, until=end, before=before, limit=limit
            )
        return [_view(kept) for kept in found]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no actions")


@app.command(epilog=examples("settler audit verify", f"settler audit verify --expect-head 42:{'9c' * 32}"))
def verify(
    expect_head: Annotated[
        str | None,
        typer.Option(
            "--expect-head",
            help="What an earlier verify printed as head and you kept elsewhere: the log must still hold it.",
            metavar="SEQ:HASH",
        ),
    ] = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Follows the chain of hashes through the whole log; exit 1 where it breaks.

    Prints the head: keep it where the database's administrator cannot write. Only with it, given back by
    --expect-head, does it show when the newest rows are taken away, or all are written anew.
    """
    known_seq, known_hash = _expected(expect_head)

    async def work(_settings: Settings, db: Database) -> Verified:
        from settler.storage import operator_actions

        async with db.read() as conn:
            return await operator_actions.verify(conn, known_seq=known_seq, known_hash=known_hash)

    found = with_database(config, work)
    problem = _problem(found, known_seq, known_hash)
    if as_json:
        shown = {"seq": found.head.seq, "hash": found.head.hash.hex()}
        broken = None if found.flaw is None else {"seq": found.flaw.seq, "detail": found.flaw.detail}
        print_json({"is_whole": problem is None, "head": shown, "broken": broken, "problem": problem})
    elif problem is None:
        print(f"{found.head.seq} actions, none changed\nhead {found.head}")
    else:
        raise Failure(problem)
    return 0 if problem is None else PROBLEM


def _expected(text: str | None) -> tuple[int | None, bytes | None]:
    if text is None:
        return None, None
    parts = _HEAD.fullmatch(text)
    if parts is None:
        raise Failure(f"--expect-head {text!r}: write SEQ:HASH as settler audit verify prints it", code=USAGE)
    return None if parts[1] is None else int(parts[1]), bytes.fromhex(parts[2])


def _problem(found: Verified, known_seq: int | None, known_hash: bytes | None) -> str | None:
    """What is wrong with the log, and what to do; `None`: nothing."""
    remedy = "compare with a backup: somebody changed the database"
    if found.flaw is not None:
        return f"the audit log is broken at row {found.flaw.seq}: {one_line(found.flaw.detail)}; {remedy}"
    if known_hash is None or (found.known is not None and found.known.hash == known_hash):
        return None
    if found.known is not None:
        return f"the audit log was written anew: row {known_seq} is {found.known.hash.hex()} now; {remedy}"
    row = "the expected row" if known_seq is None else f"row {known_seq}"
    ends = f"the audit log ends at row {found.head.seq} and does not hold {row}"
    return f"{ends}: it was cut off or written anew; {remedy}"


def _view(kept: Kept) -> dict[str, Any]:
    from settler.domain.views import time_text

    a = kept.action
    return {
        "seq": a.seq,
        "id": a.id,
        "at": time_text(a.at),
        "who": a.who,
        "action": a.action,
        "object_id": a.object_id,
        "reason": a.reason,
        "detail": dict(a.detail),
        "hash": kept.hash.hex(),
    }
