"""`settler demo`: the main job on this machine, nothing to configure.

Starts a local anvil, deploys a test stablecoin, runs the daemon on SQLite, makes invoices through the API, pays
them (exactly,
in two parts, too much), lets a reorg move a payment, and shows a live table until all are settled. What it starts
it stops.
"""

from __future__ import annotations

import asyncio

from settler.demo.story import tell

__all__ = ["run_demo"]


def run_demo(*, invoices: int = 3, exit_when_settled: bool = False, anvil: str | None = None) -> int:
    """Returns the exit code: 0 once all invoices are settled (and, without `exit_when_settled`, it was
    interrupted), else 1.

    `anvil`: the program to start, the value of SETTLER_ANVIL. Raises `settler.anvil.AnvilError` when there is none.
    """
    from settler.runtime.supervisor import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(tell(invoices=invoices, exit_when_settled=exit_when_settled, anvil=anvil))
        except KeyboardInterrupt:
            return 0
