"""How every benchmark prints: a table below what it was measured on, or one JSON object with both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import itemgetter

from settler.bench.measuring import Report
from settler.cli.text import Columns, Json, print_json, print_list


def columns(values: Mapping[str, str | Callable[[Json], object]]) -> Columns:
    """Title to the value of a row: the one of that name as it is, or what is made of the row."""
    return {title: itemgetter(value) if isinstance(value, str) else value for title, value in values.items()}


def print_report(report: Report, shown: Columns, *, as_json: bool) -> None:
    """The rows on stdout; the machine and the inputs too, in JSON with them, else on stderr."""
    if as_json:
        print_json(report.as_json())
        return
    print(report.machine.line(), file=sys.stderr)
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.inputs.items())
    print(f"{report.benchmark}: {said}", file=sys.stderr)
    print_list(list(report.rows), shown, as_json=False, nothing="nothing was measured")
