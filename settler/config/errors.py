"""What is wrong with a configuration: all of it, in lines an operator can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where a value stands in the file: `("chains", "base", "rpc")`."""


@dataclass(frozen=True, slots=True)
class Problem:
    key: str
    """Path of the key as one would write it: `chains.base.token.ACME.decimals`; or the file, or a variable's
    name.
    """
    message: str
    """The value, what is wrong with it, and the remedy. Never a secret."""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class ConfigError(Exception):
    """The configuration cannot be used. Caught by the CLI (exit 2), which prints one line a problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error needs a problem"
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def key_of(path: Path) -> str:
    """`chains.base.rpc[1]`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(top level)"
