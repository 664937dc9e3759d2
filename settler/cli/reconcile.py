"""`settler reconcile`: holds the records against the chain, its balances, their own books and each other. Changes
nothing of them, and keeps its result for the metrics.

The invariants of RULES.md section 8 that need no chain (I2, I4, I6, I7) are checked once, over the whole database, and
listed as violations; those that do (I1, I3, I8) are the breaks of each chain, each of which names its invariant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.breaks import break_view, print_breaks
from settler.cli.completion import chain_names
from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.node import Rpc, node_at
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.progress import progress
from settler.cli.rescan import configured
from settler.cli.text import Columns, Json, one_line, print_json, print_list

if TYPE_CHECKING:
    from pathlib import Path

    from chains.model import BlockSpan
    from chains.rpc import RpcProvider
    from chains.spans import WindowedReader
    from settler.config import ChainSettings, Settings
    from settler.domain.reconciling import Break
    from settler.stages.reconcile import Reconciled
    from settler.storage.chains import ChainState
    from settler.storage.engine import Database

ChainName = Annotated[
    str | None,
    typer.Option(
        "--chain",
        help="Only this chain; default: every configured one.",
        metavar="CHAIN",
        autocompletion=chain_names,
    ),
]
First = Annotated[
    int | None, typer.Option("--from", min=0, help="First block; default: the first one known.", metavar="BLOCK")
]
Last = Annotated[
    int | None, typer.Option("--to", min=0, help="Last block; default: up to where it is settled.", metavar="BLOCK")
]


_VIOLATIONS: Columns = {
    "invariant": lambda v: v["invariant"],
    "subject": lambda v: v["subject"],
    "detail": lambda v: v["detail"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the command line says."""

    first: int | None
    last: int | None
    rpc: str | None
    config: Path
    as_json: bool


@dataclass(slots=True)
class _Records:
    """What the database says by itself."""

    violations: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A chain read to the end that was asked for."""

    chain: ChainSettings
    span: BlockSpan
    breaks: int


def reconcile(
    chain: ChainName = None,
    first: First = None,
    last: Last = None,
    rpc: Rpc = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Compares the records with the chain and its balances, and with each other; lists every break.

    Asks the node given with --rpc, else the last one configured: not the one that the daemon asks first.
    """
    asked = _Asked(first=first, last=last, rpc=rpc, config=config, as_json=as_json)
    records = _Records()
    ended: list[_Run] = []

    async def work(settings: Settings, db: Database) -> list[Json]:
        names = list(settings.chains) if chain is None else [configured(settings, chain).name]
        if len(names) > 1 and (first, last, rpc) != (None, None, None):
            given = "--rpc" if rpc is not None else "--from and --to"
            raise Failure(f"--chain: {given} are of one chain; give one of {', '.join(names)}", code=USAGE)
        try:
            if len(names) == 1:
                rows = [await _reconciled(settings.chains[names[0]], db, asked, ended)]
            else:
                rows = [await _one_of_several(settings.chains[name], db, asked, ended) for name in names]
        except Failure as error:
            if error.code != USAGE:
                # the node's trouble must not hide what the database says by itself
                await _check_records(settings, db, records)
            raise
        await _check_records(settings, db, records)
        if last is None:
            await _keep(db, ended, records, is_from_start=first is None)
        return rows

    try:
        found = with_database(config, work)
    except Failure:
        if not as_json:
            _print_violations(records)
        raise
    count = sum(len(each["breaks"]) + each["unlisted"] for each in found) + len(records.violations)
    failed = [each for each in found if each["failure"]]
    if as_json:
        print_json({"chains": found, "violations": records.violations, "notes": records.notes, "breaks": count})
    else:
        _print_records(records)
        _print(found)
        if failed:
            raise Failure("; ".join(f"{each['chain']}: {one_line(each['failure'])}" for each in failed))
    return PROBLEM if count or failed else 0


async def _check_records(settings: Settings, db: Database, records: _Records) -> None:
    """The books of each chain are left to its `Reconcile`."""
    from settler.runtime.setups import judgement_of
    from settler.stages.invariants import check_records, delivered_once

    rules = judgement_of(settings)
    found = await check_records(db, policy=rules.policy, version=rules.version)
    records.violations += [{"invariant": v.invariant.value, "subject": v.subject, "detail": v.detail} for v in found]
    lacking = await delivered_once(db)
    if lacking:
        records.notes.append(
            f"{len(lacking)} deliveries of events were never made, e.g. {lacking[0].subject}: as it should be if they "
            "were written by settler run --shadow, else a violation of I6"
        )


def _invariant(found: Break) -> str | None:
    from settler.domain.invariants import OF_BREAK

    broken = OF_BREAK.get(found.kind)
    return None if broken is None else broken.value


async def _one_of_several(chain: ChainSettings, db: Database, asked: _Asked, ended: list[_Run]) -> Json:
    """Its trouble keeps nobody from the other chains."""
    try:
        return await _reconciled(chain, db, asked, ended)
    except Failure as error:
        return _row(chain, failure=str(error))


async def _reconciled(chain: ChainSettings, db: Database, asked: _Asked, ended: list[_Run]) -> Json:
    """The chain's row of the answer. A run that ends well is added to `ended`."""
    import asyncio

    from chains.errors import ChainError
    from chains.holdings import Holdings
    from settler.clock import SystemClock
    from settler.runtime.setups import setup_of
    from settler.stages.reconcile import Reconcile

    state, span = await _range(chain, db, asked)
    again = f"settler rescan -c {asked.config} --chain {chain.name} ".replace("{", "{{").replace("}", "}}")
    failure = None
    async with _provider(chain, asked.rpc) as (provider, reader):
        check = Reconcile(
            chain=setup_of(chain),
            provider=reader,
            holdings=Holdings(provider, chain_id=chain.chain_id, monotonic=SystemClock().monotonic),
            db=db,
            rescan=again + "--from {block} --to {block}",
            sleep=asyncio.sleep,
        )
        try:
            with progress(f"{chain.name} {span} by {provider.name}", len(span), as_json=asked.as_json) as advance:

                def on_piece(found: Reconciled) -> None:
                    advance(found.blocks, f"{found.found} transfers, {len(found.breaks) + found.unlisted} breaks")

                await check.run(span, state, on_piece)
        except ChainError as error:
            failure = str(error)
    if failure is None:
        ended.append(_Run(chain=chain, span=span, breaks=len(check.found.breaks) + check.found.unlisted))
    return _row(chain, provider=provider.name, span=span, found=check.found, failure=failure)


async def _keep(db: Database, ended: list[_Run], records: _Records, *, is_from_start: bool) -> None:
    """Keeps the results for `settler_reconciliation_breaks`; a database that takes none is no break."""
    from sqlalchemy.exc import SQLAlchemyError

    from settler.clock import SystemClock
    from settler.storage import reconciliations
    from settler.storage.errors import StorageUnavailable

    try:
        async with db.write() as conn:
            for run in ended:
                is_kept = await reconciliations.store(
                    conn,
                    chain_id=run.chain.chain_id,
                    span=run.span,
                    is_from_start=is_from_start,
                    breaks=run.breaks + len(records.violations),
                    now=SystemClock().now(),
                )
                if not is_kept:
                    records.notes.append(
                        f"{run.chain.name}: a part of the chain was read, and no clean run ends where it begins: the "
                        "result is not kept for settler_reconciliation_breaks"
                    )
    except (SQLAlchemyError, StorageUnavailable) as error:
        # a replica, or a role that may only read: checking there is as good
        records.notes.append(f"the result is not kept for settler_reconciliation_breaks: {one_line(str(error))}")


def _row(
    chain: ChainSettings,
    *,
    provider: str | None = None,
    span: BlockSpan | None = None,
    found: Reconciled | None = None,
    failure: str | None,
) -> Json:
    from settler.stages.reconcile import Reconciled

    found = found or Reconciled()
    tokens = {token.address: token for token in chain.tokens}
    return {
        "chain": chain.name,
        "chain_id": chain.chain_id,
        "provider": provider,
        "from": None if span is None else span.first,
        "to": None if span is None else span.last,
        "blocks": found.blocks,
        "transfers": found.found,
        "matching": found.matching,
        "before_watched": found.before_watched,
        "balances": found.balances,
        "breaks": [{**break_view(each, tokens), "invariant": _invariant(each)} for each in found.breaks],
        "unlisted": found.unlisted,
        "notes": found.notes,
        "failure": failure,
    }


async def _range(chain: ChainSettings, db: Database, asked: _Asked) -> tuple[ChainState, BlockSpan]:
    """The chain's row and the blocks to check. Raises `Failure` for a range that is none."""
    from chains.model import BlockNumber
    from settler.stages.rereading import RangeRefused, checked_range
    from settler.storage import books, chains

    async with db.read() as conn:
        state = await chains.get(conn, chain.chain_id)
        known = await books.first_block(conn, chain.chain_id)
    settled = 0 if state is None or state.settled_number is None else state.settled_number
    last = settled if asked.last is None else asked.last
    first = min(last, known or 0) if asked.first is None else asked.first
    try:
        span = checked_range(state, chain.name, BlockNumber(first), BlockNumber(last))
    except RangeRefused as error:
        raise Failure(str(error), code=USAGE) from error
    assert state is not None, "a range is checked against the chain's row"
    return state, span


@asynccontextmanager
async def _provider(chain: ChainSettings, rpc: str | None) -> AsyncIterator[tuple[RpcProvider, WindowedReader]]:
    """The node that is asked, serving this very chain."""
    name, url = (None, rpc) if rpc is not None else (chain.providers[-1], chain.rpc[-1].get_secret_value())
    async with node_at(url, name=name) as node:
        if node.chain_id != chain.chain_id:
            whose = f"--rpc {node.name}" if rpc is not None else f"chains.{chain.name}.rpc: {node.name}"
            raise Failure(
                f"{whose} serves chain id {node.chain_id}, {chain.name} is {chain.chain_id}; give a node of that chain",
                code=USAGE if rpc is not None else PROBLEM,
            )
        yield node.provider, node.reader


def _print_records(records: _Records) -> None:
    _print_violations(records)
    said = f"{len(records.violations)} violations of the invariants" if records.violations else "agree with each other"
    print(f"records: invoices, transfers, settlements, ledger, events and cursors: {said}")
    for note in records.notes:
        print(f"  note: {one_line(note)}")


def _print_violations(records: _Records) -> None:
    if records.violations:
        print_list(records.violations, _VIOLATIONS, as_json=False, nothing="")


def _print(found: list[Json]) -> None:
    for each in found:
        if each["provider"] is None:
            continue  # its failure says all there is
        print_breaks(each["breaks"])
        counts = (
            f"{each['blocks']} blocks ({each['from']}..{each['to']}), {each['transfers']} transfers, "
            f"{each['balances']} balances, {len(each['breaks']) + each['unlisted']} breaks"
        )
        print(f"{each['chain']}: {counts}; asked was {each['provider']}")
        if each["unlisted"]:
            print(f"  {each['unlisted']} more breaks are not listed")
        if each["before_watched"]:
            print(f"  {each['before_watched']} transfers came before their address was watched: no break")
        for note in each["notes"]:
            print(f"  note: {one_line(note)}")
