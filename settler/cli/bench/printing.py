"""How every benchmark prints: a table below what it was measured on, or one JSON object with both."""

from __future__ import annotations

import sys

from settler.bench.measuring import Report
from settler.cli.text import Columns, print_json, print_list


def print_report(report: Report, columns: Columns, *, as_json: bool) -> None:
    """The rows on stdout; the machine and the inputs too, in JSON with them, else on stderr."""
    if as_json:
        print_json(report.as_json())
        return
    print(report.machine.line(), file=sys.stderr)
    said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.inputs.items())
    print(f"{report.benchmark}: {said}", file=sys.stderr)
    print_list(list(report.rows), columns, as_json=False, nothing="nothing was measured")
