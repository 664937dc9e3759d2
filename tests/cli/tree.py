"""Every command of the command line, with its options and the examples of its help."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer.main import get_command

from settler.cli.app import app

_WHOLE = get_command(app)
"""Made once: it takes half a second."""


@dataclass(frozen=True)
class Listed:
    path: tuple[str, ...]
    """`("invoice", "create")`"""
    command: Any  # of typer, which has no public name for it
    is_group: bool

    def __str__(self) -> str:
        return " ".join(self.path)

    @property
    def options(self) -> dict[str, Any]:
        """By the longest of its names, without --help."""
        found = [p for p in self.command.params if p.param_type_name == "option" and "--help" not in p.opts]
        return {max(p.opts, key=len): p for p in found}

    @property
    def arguments(self) -> list[Any]:
        return [p for p in self.command.params if p.param_type_name == "argument"]

    @property
    def examples(self) -> list[list[str]]:
        """Command lines, each as the words a shell would make of it, up to a pipe."""
        head, _, text = (self.command.epilog or "").partition("Examples:\n")
        assert not head.strip("\b\n"), "nothing but examples stands there"
        lines = text.replace("\\\n", " ").splitlines()
        return [_words(line) for line in lines if line.strip()]


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("|<>"):
            break
        words.append(word)
    return words


def walked(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[Listed]:
    """Groups before what is in them."""
    command = _WHOLE if command is None else command
    children = getattr(command, "commands", None)
    yield Listed(path=path, command=command, is_group=children is not None)
    for name, child in (children or {}).items():
        yield from walked(child, (*path, name))


ALL = tuple(walked())
COMMANDS = tuple(each for each in ALL if not each.is_group)


def parse(words: list[str]) -> None:
    """As the command line parses it, without doing it. Raises what typer raises of wrong usage."""
    command: Any = _WHOLE
    context, rest = None, words
    while True:
        context = command.make_context(command.name, rest, parent=context)
        if not hasattr(command, "commands"):
            return
        _, command, rest = command.resolve_command(context, context._protected_args + context.args)
