"""`settler bench backfill`: what it costs to catch up with a chain, beside the least that it can cost.

A server of canned answers (`settler.bench.canned`) is read in one process by the floor (`settler.bench.floor`) and then
by settler itself: the real second reading with its pool, its checks and its database, from the chain's opening to its
final height. Ratios are to the floor's last stage, of the same run.

    #  floor      fetched, decoded, matched, stored
    #  unpaid     settler; ten thousand invoices are open, and none of them is paid
    #  paid       settler; of the transfers a share pays an invoice each, which is settled
    #  quorum     as paid, and two providers have to agree
    #  anvil      as paid, from a real node, beside the floor from the same node
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from settler.bench.canned import TOKEN, CannedChain, Served, deposit_address
from settler.bench.catching_up import OnProgress, Run, catch_up
from settler.bench.companions import companion
from settler.bench.floor import floor
from settler.bench.measuring import Report
from settler.bench.mined import mined
from settler.bench.soak import slope
from settler.runtime.memory import keep_steady

CASES = ("floor", "unpaid", "paid", "quorum")
"""Those of the canned chain."""
ANVIL = "anvil"
LOGS_A_BLOCK = 200 / 3
INVOICES_LEAST = 10_000
WARM_UP = 1 / 3
"""Share of the events before memory is measured: buffers grow to their size."""
_TOPIC_PADDING = "0x" + "00" * 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done."""

    events: int
    blocks: int
    payments_ppm: int
    invoices: int
    cases: tuple[str, ...] = CASES
    is_profiled: bool = False
    """Each run of settler once more, to sample where its time goes."""
    anvil: str | None = None
    """Path of the node's program; `None`: where it is usually found."""

    @property
    def passes(self) -> int:
        """Over all events: four for the floor's stages."""
        runs = len([case for case in self.cases if case != "floor"])
        return 4 * len({"floor", ANVIL} & set(self.cases)) + runs * (2 if self.is_profiled else 1)

    @property
    def paid(self) -> CannedChain:
        return CannedChain(
            events=self.events, blocks=self.blocks, payments_ppm=self.payments_ppm, invoices=self.invoices
        )

    @property
    def unpaid(self) -> CannedChain:
        return replace(self.paid, payments_ppm=0)


def work_of(
    *,
    events: int,
    matched: float,
    blocks: int | None = None,
    cases: Sequence[str] = CASES,
    is_profiled: bool = False,
    anvil: str | None = None,
) -> Work:
    """`matched`: the share of the events that pay an invoice of their own, half of all there are."""
    payments_ppm = round(matched * 1_000_000)
    payments = events * payments_ppm // 1_000_000
    return Work(
        events=events,
        blocks=blocks or max(1, round(events / LOGS_A_BLOCK)),
        payments_ppm=payments_ppm,
        invoices=max(INVOICES_LEAST, 2 * payments),
        cases=tuple(cases),
        is_profiled=is_profiled,
        anvil=anvil,
    )


async def backfill(work: Work, on_progress: OnProgress = lambda _done, _said: None) -> Report:
    """A row a stage of the floor and a case. Times are µs an event. Raises `CompanionFailed`, and `AnvilError` where
    anvil is asked for.
    """
    keep_steady()  # as the daemon's own process does
    with tempfile.TemporaryDirectory(prefix="settler-backfill-") as folder:
        told = _Told(work, Path(folder), on_progress)
        rows = await _canned_rows(work, told)
        if ANVIL in work.cases:
            async with mined(work.paid, work.anvil) as served:
                floors = await told.floor(served, "anvil, floor")
                rows += _with_ratios([*floors, await told.case(served, ANVIL)], floors)
    inputs = {"events": work.events, "blocks": work.blocks, "payments": work.paid.payments, "invoices": work.invoices}
    return Report(benchmark="backfill", inputs=inputs, rows=rows)


async def _canned_rows(work: Work, told: _Told) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        paid = await stack.enter_async_context(_served(work.paid))
        floors = await told.floor(paid, "floor") if "floor" in work.cases else []
        rows = list(floors)
        for case in (each for each in CASES if each in work.cases and each != "floor"):
            if case == "unpaid":
                async with _served(work.unpaid) as served:
                    rows.append(await told.case(served, case))
            else:
                rows.append(await told.case(paid, case))
        return _with_payments(_with_ratios(rows, floors))


def _with_ratios(rows: Sequence[dict[str, Any]], floors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """To the last stage of the floor; none where that was not measured."""
    return [row | {"ratio": round(row["cpu_us"] / floors[-1]["cpu_us"], 2) if floors else None} for row in rows]


def _with_payments(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a settled payment costs beyond the reading of the chain, by the run in which nobody pays."""
    unpaid_us = next((row["cpu_us"] for row in rows if row["what"] == "settler: unpaid"), None)
    return [
        row | {"payment_us": round((row["cpu_us"] - unpaid_us) * row["events"] / row["settled"])}
        if unpaid_us is not None and row["settled"]
        else row
        for row in rows
    ]


class _Told:
    """Measures one after the other, and tells how far all is."""

    def __init__(self, work: Work, folder: Path, on_progress: OnProgress) -> None:
        self._work = work
        self._folder = folder
        self._on_progress = on_progress
        self._done = 0

    async def floor(self, served: Served, name: str) -> list[dict[str, Any]]:
        topics = [_TOPIC_PADDING + deposit_address(number).hex() for number in range(self._work.invoices)]
        stages = await floor(served, self._work.paid, topics, self._made(name))
        self._done += len(stages) * self._work.events
        self._on_progress(self._done, name)
        return [
            _row(f"{name}: {stage.name}", self._work, stage.cpu_s, stage.wall_s, stage.peak_mib)
            | {"calls": stage.calls, "paid": stage.matched, "settled": 0}
            for stage in stages
        ]

    async def case(self, served: Served, case: str) -> dict[str, Any]:
        run = await self._run(served, case, is_profiled=False)
        name = "anvil, settler: paid" if case == ANVIL else f"settler: {case}"
        row = _row(name, self._work, run.cpu_s, run.wall_s, run.peak_mib) | _of(run, self._work, case)
        if self._work.is_profiled:
            seen = await self._run(served, case, is_profiled=True)
            row |= {"held_ms": round(seen.held_ms, 1), "shares": seen.shares}
        return row

    async def _run(self, served: Served, case: str, *, is_profiled: bool) -> Run:
        before = self._done

        def said(events: int, what: str) -> None:
            self._on_progress(before + events, f"{case}: {what}")

        chain = self._work.unpaid if case == "unpaid" else self._work.paid
        folder = self._made(f"{case}, profiled" if is_profiled else case)
        quorum = 2 if case == "quorum" else 1
        run = await catch_up(served, chain, folder, said, quorum=quorum, is_profiled=is_profiled)
        self._done += self._work.events
        return run

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


def _row(name: str, work: Work, cpu_s: float, wall_s: float, peak_mib: float) -> dict[str, Any]:
    return {
        "what": name,
        "events": work.events,
        "wall_us": round(wall_s / work.events * 1e6, 2),
        "cpu_us": round(cpu_s / work.events * 1e6, 2),
        "events_per_s": round(work.events / wall_s),
        "peak_mib": round(peak_mib),
    }


def _of(run: Run, work: Work, case: str) -> dict[str, Any]:
    warm = run.memory[int(len(run.memory) * WARM_UP) :]
    million_events = [blocks * work.events / work.blocks / 1e6 for blocks, _ in warm]
    mib = [held for _, held in warm]
    return {
        "calls": run.calls.total(),
        "calls_by_method": dict(run.calls),
        "paid": 0 if case == "unpaid" else work.paid.payments,
        "settled": run.settled,
        "mib_first": round(run.memory[0][1], 1),
        "mib_last": round(mib[-1], 1),
        "mib_a_million_events": round(slope(million_events, mib), 2),
    }


@asynccontextmanager
async def _served(chain: CannedChain) -> AsyncIterator[Served]:
    async with companion("canned", **asdict(chain)) as server:
        ready = await server.heard()
        yield Served(url=ready["rpc"], token=TOKEN, first=1, final=chain.final)
