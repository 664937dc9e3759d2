"""`settler export`: settlements, the ledger or transfers as a table for other programs (`settler.domain.exporting`)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from settler.cli.completion import chain_names, words
from settler.cli.failures import USAGE, Failure
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.progress import progress
from settler.cli.sheets import DECIMALS, STDOUT, DoesNotFit, Format, open_sheet, pyarrow, whole_file
from settler.cli.text import print_json
from settler.cli.times import parse_period
from settler.domain.exporting import COLUMNS, Row, What

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from chains.model import ChainId
    from settler.config import Settings
    from settler.storage.engine import Database
    from settler.storage.exporting import Selection


def export(
    what: Annotated[
        What,
        typer.Argument(
            help="What to export.", metavar="settlements|ledger|transfers", autocompletion=words(tuple(What))
        ),
    ],
    format_: Annotated[Format, typer.Option("--format", help="csv, jsonl or parquet.")] = Format.CSV,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Only what was settled (posted, recorded) from this time on, e.g. 2026-01-01 or 2026-01-01T00:00:00Z.",
            metavar="TIME",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Only before this time.", metavar="TIME")] = None,
    chain: Annotated[
        str | None,
        typer.Option(
            "--chain",
            help="Only of this chain; settlements with any payment on it.",
            metavar="CHAIN",
            autocompletion=chain_names,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="File to write; - for stdout.", metavar="FILE")
    ] = STDOUT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Exports one row a settlement, ledger line or transfer; its columns are safe to sum.

    Amounts are exact, each with its currency or token beside it. A settlement that was reversed counts 0, whenever it
    was; the ledger has its reversal as rows of their own, at their own time.
    """
    first, end = parse_period(since, until)
    if as_json and output == STDOUT:
        raise Failure("--json tells what was written to a file: give --output FILE, or --format jsonl", code=USAGE)
    if format_ is Format.PARQUET:
        pyarrow()
        if output == STDOUT and sys.stdout.isatty():
            raise Failure("--format parquet is not for a terminal; give --output FILE", code=USAGE)

    async def work(_settings: Settings, db: Database) -> int:
        from settler.storage.exporting import Selection

        async with db.read() as conn:
            selection = Selection(since=first, until=end, chain_id=await _chain_id(conn, chain))
            return await _export(conn, what, selection, format_, output)

    count = with_database(config, work)
    if as_json:
        print_json({"what": what.value, "format": format_.value, "output": output, "rows": count})
    elif output != STDOUT:
        print(f"{count} rows written to {output}")


async def _export(conn: AsyncConnection, what: What, selection: Selection, format_: Format, output: str) -> int:
    """How many rows were written. Parquet begins anew, with wider columns, where an amount does not fit."""
    from settler.storage import exporting

    # on a terminal the rows themselves show how far it is
    is_shown = sys.stderr.isatty() and not (output == STDOUT and sys.stdout.isatty())
    total = await exporting.count(conn, what, selection) if is_shown else 0
    problem = ""
    for digits in DECIMALS:
        try:
            done = written = 0
            with (
                progress(f"exporting {what}", total, as_json=True) as advance,
                whole_file(output, at_once=format_ is Format.PARQUET) as file,
                closing(open_sheet(format_, file, COLUMNS[what], digits=digits)) as sheet,
            ):
                async for count, rows in _pages(conn, what, selection):
                    sheet.write(rows)
                    done, written = done + count, written + len(rows)
                    advance(done, f"{written} rows")
            return written
        except DoesNotFit as error:
            problem = str(error)
    raise Failure(f"--format parquet: {problem}; choose csv or jsonl, which hold any amount")


async def _pages(conn: AsyncConnection, what: What, selection: Selection) -> AsyncIterator[tuple[int, list[Row]]]:
    """With each page, how many of `storage.exporting.count` it is."""
    from settler.domain.exporting import ledger_row, settlement_row, transfer_row
    from settler.storage import exporting, reading

    render = await reading.render(conn)
    match what:
        case What.SETTLEMENTS:
            async for settlements in exporting.settlement_pages(conn, selection):
                yield len(settlements), [settlement_row(s) for s in settlements]
        case What.LEDGER:
            async for entries, lines in exporting.ledger_pages(conn, selection):
                yield entries, [ledger_row(line, render) for line in lines]
        case What.TRANSFERS:
            async for transfers in exporting.transfer_pages(conn, selection):
                yield len(transfers), [transfer_row(t, render) for t in transfers]
        case _:
            assert_never(what)


async def _chain_id(conn: AsyncConnection, name: str | None) -> ChainId | None:
    """Of a chain in the database, configured or not any more. Raises `Failure` naming those there are."""
    from settler.storage import chains

    if name is None:
        return None
    known = {state.name: state.chain_id for state in await chains.all_states(conn)}
    if name not in known:
        there_are = f"there are {', '.join(known)}" if known else "none was read yet"
        raise Failure(f"--chain {name!r} is not in the database; {there_are}", code=USAGE)
    return known[name]
