"""What the database holds, for the checkers: only tables that were written since the last look are read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from sqlalchemy import literal, select

from settler.simulation.checks_rows import Rows
from settler.simulation.life import Life
from settler.simulation.store import SimStore
from settler.storage import schema
from settler.storage.engine import StorageUnavailable
from settler.storage.outcome import Row

_TABLES = {field.name: select(schema.metadata.tables[field.name]) for field in fields(Rows)}
_ONE = select(literal(1))


class Looker:
    """Of one store."""

    def __init__(self, store: SimStore, *, on_chain: Callable[[Life, Row, str | None], None]) -> None:
        """`on_chain`: told, right after each commit that touched chains' rows, who committed, and of each chain its row
        and who leads it: a cursor that went back may be where it was again before the next look.
        """
        self._store = store
        self._written: set[str] = set(_TABLES)
        self._on_chain = on_chain
        store.on_commit = self._committed

    def _committed(self, life: Life, tables: tuple[str, ...], _statements: int) -> None:
        self._written.update(tables)
        if "chains" in tables:
            holders = {row["chain_id"]: row["holder"] for row in self._store.peek(schema.leases)}
            for row in self._store.peek(schema.chains):
                self._on_chain(life, row, holders.get(row["chain_id"]))

    async def changed(self) -> Rows:
        """All rows of tables written since the last look; none while somebody stands still within a transaction: then
        the next look has them."""
        try:
            return await self._read(is_all=False)
        except StorageUnavailable:
            return Rows()

    async def all(self) -> Rows:
        return await self._read(is_all=True)

    async def _read(self, *, is_all: bool) -> Rows:
        rows = Rows()
        async with self._store.checker.read() as conn:
            await conn.execute(_ONE)  # waits for its turn: what is committed before is seen whole
            written, self._written = self._written, set()
            for name in (name for name in _TABLES if is_all or name in written):
                getattr(rows, name).extend(await conn.execute(_TABLES[name]))
        return rows
