"""docs/rpc-cost.md says what the readings call, by the block times of the registry, and what the planner would ask."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from chains import registry
from chains.model import Address
from chains.planning import LOG_BYTES, RECIPIENT_BYTES, Learned, answered, plan
from settler.config.chain import _default_poll_interval_s
from settler.config.reference import sections
from settler.runtime.chain_tasks import UNAWAITED_POLLS
from settler.runtime.outside import Cadence
from tests.docs.pages import DOCS, page

DAY_S = 86_400
SHOWN = ("ethereum", "base", "polygon", "bnb", "arbitrum")
SLOW_S = 15.0
"""Of the second row of each chain."""


@dataclass(frozen=True)
class Calls:
    """In a day."""

    headers: float
    logs: float

    @property
    def total(self) -> float:
        return self.headers + self.logs


def idle_calls(*, block_s: float, poll_s: float, providers: int, quorum: int, has_tag: bool = True) -> Calls:
    """At most, nobody pays: as the first table says what a tick calls, with a newly final block at each look."""
    polls, blocks = DAY_S / poll_s, DAY_S / block_s
    heads = polls * (1 if providers == 1 else 2)
    readings = min(polls, blocks)
    is_one_block = block_s >= poll_s
    looks = polls / UNAWAITED_POLLS * quorum
    settled = min(looks, blocks * quorum)
    announced = DAY_S / Cadence().announced_s * quorum
    return Calls(
        headers=heads + readings * (1 if is_one_block else 2) + looks * (3 if has_tag else 2) + 2 * settled + announced,
        logs=readings + settled + announced,
    )


@dataclass(frozen=True)
class Price:
    provider: str
    unit: str
    header: int
    logs: int
    receipts: int
    batch: str
    source: str


PRICES = (
    Price("Alchemy", "CU", 20, 60, 20, "the sum", "https://www.alchemy.com/docs/reference/compute-unit-costs"),
    Price(
        "Infura",
        "credit",
        80,
        255,
        1_000,
        "the sum, and the batch",
        "https://docs.metamask.io/services/get-started/pricing/credit-cost/",
    ),
    Price("QuickNode", "credit", 20, 20, 20, "not said", "https://www.quicknode.com/api-credits"),
    Price("Chainstack", "RU", 1, 1, 1, "not said", "https://docs.chainstack.com/docs/request-units"),
    Price("dRPC", "CU", 20, 20, 20, "not said", "https://drpc.org/docs/pricing/compute-units"),
    Price("Ankr", "credit", 200, 200, 200, "not said", "https://www.ankr.com/docs/rpc-service/pricing/"),
)


def price_rows() -> str:
    return "".join(
        f"| [{p.provider}]({p.source}) | {p.unit} | {p.header} | {p.logs} | {p.receipts:,} | {p.batch} |\n"
        for p in PRICES
    )


def _cadences() -> list[tuple[str, float, float]]:
    """(name, block time, poll interval)"""
    chains = {chain.key: chain for chain in registry.all_chains()}
    found = []
    for key in SHOWN:
        chain = chains[key]
        found += [(chain.name, chain.block_time_s, poll) for poll in (_default_poll_interval_s(chain), SLOW_S)]
    return found


def call_rows() -> str:
    rows = []
    for name, block_s, poll_s in _cadences():
        one = idle_calls(block_s=block_s, poll_s=poll_s, providers=1, quorum=1).total
        three = idle_calls(block_s=block_s, poll_s=poll_s, providers=3, quorum=2).total
        rows.append(f"| {name} | {poll_s:g} | {one:,.0f} | {three:,.0f} |\n")
    return "".join(rows)


def unit_rows() -> str:
    rows = []
    for name, block_s, poll_s in _cadences():
        calls = idle_calls(block_s=block_s, poll_s=poll_s, providers=1, quorum=1)
        units = [calls.headers * p.header + calls.logs * p.logs for p in PRICES]
        rows.append(f"| {name} | {poll_s:g} | {' | '.join(_millions(n) for n in units)} |\n")
    return "".join(rows)


def _millions(units: float) -> str:
    return f"{units / 1e6:.2f} M" if units < 1e7 else f"{units / 1e6:.1f} M"


def byte_rows() -> str:
    rows = []
    for density in (0.1, 1, 10, 70, 300):
        cells = [_day_of_logs(density, addresses) for addresses in (10, 100, 500, 501)]
        rows.append(f"| {density:g} | {' | '.join(cells)} |\n")
    return "".join(rows)


def _day_of_logs(density: float, addresses: int) -> str:
    """After a thousand blocks were seen unfiltered."""
    learned = answered(Learned(), None, blocks=1_000, logs=round(1_000 * density), wanted=0)
    everybody = frozenset(Address(n.to_bytes(20)) for n in range(1, addresses + 1))
    is_filtered = plan(1, everybody, learned) is not None
    each = addresses * RECIPIENT_BYTES if is_filtered else density * LOG_BYTES
    megabytes = DAY_S / 12 * each / 1e6
    shown = f"{megabytes:,.0f}" if megabytes >= 100 else f"{megabytes:.2g}"
    return f"{shown}{' *f*' if is_filtered else ''}"


TABLES = {"calls": call_rows, "prices": price_rows, "units": unit_rows, "bytes": byte_rows}


@pytest.mark.parametrize("name", TABLES)
def test_rpc_cost__each_table__is_what_is_computed(name: str) -> None:
    """To renew them: `python -m tests.docs.test_rpc_cost`."""
    shown = page("rpc-cost.md").text.split(f"<!-- table: {name} -->\n")[1].split("<!-- end -->")[0]
    assert shown == TABLES[name]()


def test_rpc_cost__figures_in_the_text__are_those_of_the_tables() -> None:
    text = page("rpc-cost.md").text
    at_most = idle_calls(block_s=12, poll_s=4, providers=1, quorum=1)
    a_step = DAY_S / (32 * 12)
    looks = DAY_S / 4 / UNAWAITED_POLLS
    by_epoch = at_most.total - 3 * (looks - a_step)
    assert f"{round(by_epoch, -3):,.0f} instead of {round(at_most.total, -2):,.0f} with one provider" in text
    polls = (DAY_S / 4, DAY_S)
    base = idle_calls(block_s=2, poll_s=1, providers=1, quorum=1)
    assert f"the table has {at_most.total / polls[0]:.1f} and {base.total / polls[1]:.1f}" in text


@pytest.mark.parametrize(
    ("block_s", "poll_s", "blocks", "headers", "logs"), [(12, 4, 20, 128, 34), (2, 1, 30, 146, 48)]
)
def test_idle_calls__against_what_the_bench_measured__are_no_less_and_not_far_off(
    block_s: float, poll_s: float, blocks: int, headers: int, logs: int
) -> None:
    """`settler bench live`, 60 polls, one provider, depth 3, its calls told apart by method (November 2026)."""
    counted = idle_calls(block_s=block_s, poll_s=poll_s, providers=1, quorum=1, has_tag=False)
    part = 60 * poll_s / DAY_S
    assert round(60 * poll_s / block_s) == blocks
    assert 0.9 * headers <= counted.headers * part <= 1.2 * headers
    assert 0.9 * logs <= counted.logs * part <= 1.2 * logs


def test_idle_calls__a_tick__is_at_most_three() -> None:
    """Of watch, reading whatever went by in one call for the logs."""
    for block_s, poll_s in ((12, 4), (2, 1), (0.25, 0.5), (0.25, 60)):
        one = idle_calls(block_s=block_s, poll_s=poll_s, providers=1, quorum=1)
        by_settle = DAY_S / poll_s / UNAWAITED_POLLS
        assert one.logs - by_settle - 144 <= DAY_S / poll_s + 1e-6


def test_rpc_cost__settings_it_names__exist() -> None:
    table = page("rpc-cost.md").text.split("## What changes it")[1]
    named = set(re.findall(r"^\| `([a-z_]+)[ `]", table, re.MULTILINE)) - {"settler"}
    keys = {setting.key.rpartition(".")[2] for section in sections() for setting in section.settings}
    assert len(named) >= 6
    assert named <= keys


if __name__ == "__main__":
    path = DOCS / "rpc-cost.md"
    text = path.read_text()
    for name, rows in TABLES.items():
        before, rest = text.split(f"<!-- table: {name} -->\n", 1)
        text = f"{before}<!-- table: {name} -->\n{rows()}<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    path.write_text(text)
