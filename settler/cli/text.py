"""Text for people: tables and single objects, and JSON for programs. Nothing is ever cut; control characters
are escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
Columns = Mapping[str, Callable[[Json], object]]
"""Title to the value of one object."""
_WIDEST = 100_000
"""Characters; more than any row has."""


def one_line(text: str) -> str:
    """Control characters escaped: what a node, a client or a file said cannot forge a line of a table."""
    from settler.logs import escape_controls  # not at the top: it loads structlog, which --help does without

    return escape_controls(text)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_list(objects: Sequence[Json], columns: Columns, *, as_json: bool, nothing: str) -> None:
    """A table (or a JSON array). `nothing`: said on stderr where there is nothing to show."""
    if as_json:
        print_json(list(objects))
        return
    if not objects:
        print(nothing, file=sys.stderr)
        return
    rows = [[_shown(value(each)) for value in columns.values()] for each in objects]
    if sys.stdout.isatty():
        _print_rich(list(columns), rows)
    else:
        _print_plain([title.upper().replace(" ", "_") for title in columns], rows)


def print_one(value: Json, *, as_json: bool) -> None:
    """One object, a line a field (or JSON)."""
    if as_json:
        print_json(value)
    else:
        _print_fields(value, indent="")


def _print_fields(value: Json, *, indent: str) -> None:
    width = max((len(name) for name in value), default=0)
    for name, field in value.items():
        if isinstance(field, Mapping) and field:
            print(f"{indent}{name}")
            _print_fields(field, indent=indent + "  ")
        elif isinstance(field, list) and field and all(isinstance(item, Mapping) for item in field):
            for number, item in enumerate(field):
                print(f"{indent}{name}[{number}]")
                _print_fields(item, indent=indent + "  ")
        else:
            print(f"{indent}{one_line(name).ljust(width)}  {_shown(field)}".rstrip())


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(_shown, value)) or "-"
        case Mapping():
            return one_line(json.dumps(value, ensure_ascii=False)) if value else "-"
        case _:
            return one_line(str(value))


def _print_plain(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns, two spaces between: for `awk`, a pipe or a file."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_rich(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    # folded into a narrow terminal, no id could be read or copied: too long a row is left to the terminal to wrap
    whole = console.measure(table, options=console.options.update_width(_WIDEST)).maximum
    console.width = max(console.width, whole)
    console.print(table)
