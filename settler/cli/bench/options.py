"""Options that several benchmarks share."""

from __future__ import annotations

from typing import Annotated

import typer

BesideSqlite = Annotated[
    str | None, typer.Option("--database", help="PostgreSQL, migrated and empty, beside SQLite.", metavar="URL")
]
InsteadOfSqlite = Annotated[
    str | None,
    typer.Option("--database", help="PostgreSQL, migrated and empty; SQLite unless given.", metavar="URL"),
]
