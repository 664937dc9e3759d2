"""`settler transfer`: money that arrived, first of all the suspense queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.opened import with_database
from settler.cli.options import CONFIG, LIMIT, AsJson, Before, Config, Limit, group
from settler.cli.text import Columns, Json, print_list
from settler.domain.invoices import Allocation, TransferRecord, TransferStatus, UnmatchedReason

if TYPE_CHECKING:
    from settler.config import Settings
    from settler.storage.engine import Database

app = group("Money that arrived, and the suspense queue.")


@app.callback()
def _group() -> None:
    """Keeps `list` a word of its own while it is the only command."""


_COLUMNS: Columns = {
    "id": lambda t: t["id"],
    "chain": lambda t: t["chain"],
    "token": lambda t: t["token"],
    "amount": lambda t: t["amount"],
    "status": lambda t: t["status"],
    "allocation": lambda t: t["allocation"],
    "reason": lambda t: t["reason"],
    "invoice": lambda t: t["invoice_id"],
    "payer": lambda t: t["payer"],
    "pay to": lambda t: t["pay_to"],
    "block": lambda t: t["block_number"],
    "time": lambda t: t["block_time"],
    "tx": lambda t: t["tx_hash"],
}


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="All transfers, not only those in suspense.")] = False,
    status: Annotated[TransferStatus | None, typer.Option("--status")] = None,
    allocation: Annotated[Allocation | None, typer.Option("--allocation", help="Implies --all.")] = None,
    reason: Annotated[UnmatchedReason | None, typer.Option("--reason", help="Why it is unmatched.")] = None,
    chain: Annotated[str | None, typer.Option("--chain", help="Name of a chain.")] = None,
    before: Before = None,
    limit: Limit = LIMIT,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists transfers that belong to no invoice yet (with --all: every transfer), newest first."""
    is_queue = not all_ and allocation is None

    async def work(settings: Settings, db: Database) -> list[Json]:
        from settler.cli.chains import chain_id_of
        from settler.storage import reading, transfers

        async with db.read() as conn:
            chain_id = None if chain is None else await chain_id_of(conn, settings, chain)

            async def page(beyond: str | None) -> list[TransferRecord]:
                return await transfers.find(
                    conn,
                    status=status,
                    allocation=Allocation.UNMATCHED if is_queue else allocation,
                    reason=reason,
                    chain_id=chain_id,
                    before=beyond,
                    limit=limit,
                )

            found = await _collect(
                page, before, limit, lambda t: not is_queue or _waits(t, asked=reason, status=status)
            )
            return list(await reading.transfer_views(conn, found))

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no transfers")


async def _collect(
    page: Callable[[str | None], Awaitable[list[TransferRecord]]],
    before: str | None,
    limit: int,
    is_wanted: Callable[[TransferRecord], bool],
) -> list[TransferRecord]:
    """The first `limit` wanted ones, a page at a time."""
    wanted: list[TransferRecord] = []
    while True:
        found = await page(before)
        wanted += [t for t in found if is_wanted(t)]
        if len(found) < limit or len(wanted) >= limit:
            return wanted[:limit]
        before = found[-1].id


def _waits(t: TransferRecord, *, asked: UnmatchedReason | None, status: TransferStatus | None) -> bool:
    """Whether an operator has something to decide: the money is there. What was asked for by name is shown
    anyway.
    """
    is_there = t.is_canonical or status is not None
    return is_there and (t.reason is not UnmatchedReason.IGNORED_ZERO or asked is not None)
