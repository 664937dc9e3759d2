"""Shows the demo: a live table on a terminal, a plain line at each change elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

Invoice = Mapping[str, Any]
"""As the API shows it."""

_COLOURS = {"pending": "yellow", "processing": "cyan", "settled": "green", "expired": "red"}


class Screen:
    """A `with` block; `show` it what the API says as often as you like."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, invoices: Sequence[Invoice], chain: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._live.update(_table(invoices, chain))
            return
        for invoice in invoices:
            line = _line(invoice)
            if self._shown.get(invoice["id"]) != line:
                self._shown[invoice["id"]] = line
                self.say(line)


def _table(invoices: Sequence[Invoice], chain: Mapping[str, Any]) -> Table:
    table = Table(title=_title(chain), title_justify="left")
    for name in ("invoice", "asked", "received", "settled", "status", "payments"):
        table.add_column(name, justify="right" if name in ("asked", "received", "settled") else "left")
    for i in invoices:
        colour = _COLOURS.get(i["status"], "white")
        table.add_row(
            i["reference"],
            i["amount_requested"],
            i["amount_received"],
            i["amount_settled"],
            f"[{colour}]{_status(i)}[/]",
            "\n".join(_payment(p) for p in i["payments"]) or "-",
        )
    return table


def _title(chain: Mapping[str, Any]) -> str:
    return f"head {chain['head']} · scanned {chain['scanned']} · final {chain['final']} · settled {chain['settled']}"


def _line(i: Invoice) -> str:
    paid = "; ".join(_payment(p) for p in i["payments"]) or "no payment yet"
    return (
        f"{i['reference']}: {_status(i)}, asked {i['amount_requested']}, received {i['amount_received']}, "
        f"settled {i['amount_settled']} ({paid})"
    )


def _status(i: Invoice) -> str:
    return str(i["status"]) + (f" ({', '.join(i['exceptions'])})" if i["exceptions"] else "")


def _payment(p: Mapping[str, Any]) -> str:
    return f"{p['amount']} {p['token']} in block {p['block_number']}, {p['status']}"
