"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration file.", metavar="FILE")]
CONFIG = Path("settler.toml")
"""The default of `-c`."""
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many.")]
LIMIT = 50
Before = Annotated[
    str | None, typer.Option("--before", help="Go on below this id (the last of the list before).", metavar="ID")
]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]
Because = Annotated[str, typer.Option("--reason", help="Why; it has to be given, and is kept in the audit log.")]
Merchant = Annotated[str | None, typer.Option("--merchant", help="Only this merchant's.")]


def group(help_: str) -> typer.Typer:
    """A group of commands, e.g. `settler invoice`."""
    return typer.Typer(help=help_, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
