"""`settler rescan`: reads a past range of a chain again and adds what was missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.breaks import break_view, print_breaks
from settler.cli.completion import chain_names
from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.progress import progress
from settler.cli.text import Json, one_line, print_json

if TYPE_CHECKING:
    from settler.config import ChainSettings, Settings
    from settler.stages.rescan import Rescanned
    from settler.storage.engine import Database

ChainName = Annotated[
    str, typer.Option("--chain", help="Name of the chain.", metavar="CHAIN", autocompletion=chain_names)
]
First = Annotated[int, typer.Option("--from", min=0, help="First block to read, inclusive.", metavar="BLOCK")]
Last = Annotated[int, typer.Option("--to", min=0, help="Last block to read, inclusive.", metavar="BLOCK")]


def rescan(chain: ChainName, first: First, last: Last, config: Config = CONFIG, as_json: AsJson = False) -> int:
    """Reads a past range again, beside the daemon too: payments that were missed are added and settled."""

    async def work(settings: Settings, db: Database) -> Json:
        return await _rescan(settings, configured(settings, chain), db, (first, last), as_json=as_json)

    found = with_database(config, work)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return PROBLEM if found["breaks"] or found["failure"] else 0


def configured(settings: Settings, name: str) -> ChainSettings:
    """The chain of that name. Raises `Failure` naming those there are."""
    if name not in settings.chains:
        known = ", ".join(settings.chains)
        raise Failure(f"--chain {name!r} is not configured; choose one of {known}", code=USAGE)
    return settings.chains[name]


async def _rescan(
    settings: Settings, chain: ChainSettings, db: Database, blocks: tuple[int, int], *, as_json: bool
) -> Json:
    import asyncio

    from chains.errors import ChainError
    from chains.model import BlockNumber
    from settler.clock import SystemClock
    from settler.runtime.providers import make_pool
    from settler.runtime.setups import judgement_of, setup_of
    from settler.stages.rereading import RangeRefused, checked_range
    from settler.stages.rescan import Rescan
    from settler.storage import chains
    from settler.storage.chains import CursorMoved

    async with db.read() as conn:
        state = await chains.get(conn, chain.chain_id)
    try:
        span = checked_range(state, chain.name, BlockNumber(blocks[0]), BlockNumber(blocks[1]))
    except RangeRefused as error:
        raise Failure(str(error), code=USAGE) from error
    assert state is not None, "a range is checked against the chain's row"
    clock = SystemClock()
    pool = make_pool(chain, monotonic=clock.monotonic)
    again = Rescan(
        chain=setup_of(chain), pool=pool, db=db, clock=clock, judgement=judgement_of(settings), sleep=asyncio.sleep
    )
    failure = None
    try:
        with progress(f"{chain.name} {span}", len(span), as_json=as_json) as advance:

            def on_piece(done: Rescanned) -> None:
                advance(done.blocks, f"{done.found} transfers, {done.added} added")

            await again.run(span, state, on_piece)
    except (ChainError, CursorMoved) as error:
        failure = str(error)
    finally:
        await pool.close()
    done = again.done
    tokens = {token.address: token for token in chain.tokens}
    return {
        "chain": chain.name,
        "chain_id": chain.chain_id,
        "from": span.first,
        "to": span.last,
        "blocks": done.blocks,
        "transfers": done.found,
        "added": done.added,
        "settled": done.settled,
        "unproven": done.unproven,
        "breaks": [break_view(each, tokens) for each in done.breaks],
        "failure": failure,
        "next": None if failure is None else span.first if done.up_to is None else done.up_to + 1,
    }


def _print(found: Json) -> None:
    print_breaks(found["breaks"])
    counts = (
        f"{found['blocks']} blocks read, {found['transfers']} transfers found, {found['added']} added, "
        f"{found['settled']} invoices settled, {len(found['breaks'])} breaks"
    )
    print(f"{found['chain']}: {counts}")
    if found["unproven"]:
        print(f"{found['unproven']} transfers could not be proven: what would settle by them is held (proof_failed)")
    if found["failure"]:
        raise Failure(
            f"{one_line(found['failure'])}; what was read is kept, go on with --from {found['next']} --to {found['to']}"
        )
