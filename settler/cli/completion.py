"""What the shell offers after Tab: words that are known without a database or a node.

Promises: never an error and never a wait, for a shell shows both in the middle of a line; what cannot be read offers
nothing. Values of enumerations and names of commands complete by themselves.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

_MAX_BYTES = 1 << 20
"""As the configuration itself is bounded."""
_CHAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
"""As the configuration takes it (`settler.config.values`, too heavy to load here). Nothing else is offered: the script
for zsh evaluates what it is given, and the file may be a stranger's, in the folder one happens to stand in.
"""


def chain_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the configured chains: of `-c`, where it stands before, else of the file a command reads by default."""
    file = ctx.params.get("config") or "settler.toml"
    try:
        with Path(str(file)).open("rb") as stream:
            chains = tomllib.loads(stream.read(_MAX_BYTES).decode()).get("chains")
    except (OSError, ValueError):
        return []
    if not isinstance(chains, dict):
        return []
    return [name for name in chains if _CHAIN_NAME.fullmatch(name) and name.startswith(incomplete)]


def words(known: Sequence[str]) -> Callable[[str], list[str]]:
    """One of these words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete
