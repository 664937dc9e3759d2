"""Options that several commands share, and how a command's help ends: with lines that work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from settler.cli.completion import chain_names
from settler.domain.ids import looks_like_id

Config = Annotated[Path, typer.Option("--config", "-c", help="Configuration file, TOML.", metavar="FILE")]
CONFIG = Path("settler.toml")
"""The default of `-c`."""
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs, on stdout; errors stay a line on stderr.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many rows.")]
LIMIT = 50
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.", metavar="TEXT")]
Because = Annotated[
    str, typer.Option("--reason", help="Why; it has to be given, and is kept in the audit log.", metavar="TEXT")
]
Merchant = Annotated[str | None, typer.Option("--merchant", help="Only this merchant's.", metavar="NAME")]
OnChain = Annotated[
    str | None, typer.Option("--chain", help="Only of this chain.", metavar="CHAIN", autocompletion=chain_names)
]


INV, TRF, STL, HLD, EVT, KEY, WHE, DLV = (
    f"{kind}_01kb2y7t3q8m5x9n4c6w0r1hzd" for kind in ("inv", "trf", "stl", "hld", "evt", "key", "whe", "dlv")
)
"""Ids as they look, for examples."""


def group(help_: str) -> typer.Typer:
    """A group of commands, e.g. `settler invoice`."""
    return typer.Typer(help=help_, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def examples(*lines: str) -> str:
    """How a command's help ends: command lines that work, each left as it is written."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def before_option(prefix: str) -> Any:  # as typer.Option itself, which any parameter may be annotated with
    """`--before` of a list of ids with this prefix: another id would silently show a wrong part of the list."""
    return typer.Option(
        "--before",
        help="Go on below this id (the last of the list before).",
        metavar="ID",
        callback=id_checked(prefix),
    )


def id_checked(prefix: str) -> Callable[[str | None], str | None]:
    """A check of an option's value; the command line names the option in the error."""

    def check(value: str | None) -> str | None:
        if value is not None and not looks_like_id(value, prefix):
            raise typer.BadParameter(f"{value[:80]!r} is no id of this list; give {prefix}_ and its 26 characters")
        return value

    return check
