"""`settler completion`: the script that makes a shell complete the words of `settler`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="For which shell.", metavar="bash|zsh|fish")]) -> None:
    """Prints the completion script of a shell; `settler --install-completion` installs that of the one it runs in."""
    # typer names it nowhere else, and has no public way to the script of a shell that is not the one it runs in
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # see above

    print(get_completion_script(prog_name="settler", complete_var="_SETTLER_COMPLETE", shell=shell.value))
