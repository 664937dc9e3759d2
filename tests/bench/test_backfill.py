"""`settler bench backfill`: its chain is one, and the figures are of work that was done."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from chains.decode import Asked, block_ref, transfers
from chains.model import BlockNumber, BlockSpan, ChainId, LogQuery
from chains.wire import HEADER, LOGS
from settler.bench.backfill import ANVIL, backfill, work_of
from settler.bench.canned import CHAIN_ID, TOKEN, UNIT, CannedChain, answered, deposit_address
from settler.bench.catching_up import STEPS
from settler.cli import main

pytestmark = pytest.mark.slow
"""Whole benchmarks, small: seconds each."""

SMALL = CannedChain(events=1_000, blocks=15, payments_ppm=50_000, invoices=100)


def asked(chain: CannedChain, *calls: tuple[str, list[Any]]) -> list[Any]:
    batch = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(calls)
    ]
    replies = json.loads(b"".join(answered(chain, msgspec.json.encode(batch))))
    assert [reply["id"] for reply in replies] == list(range(len(calls)))
    return [reply["result"] for reply in replies]


def logs(chain: CannedChain, first: int, last: int, **wanted: Any) -> list[dict[str, Any]]:
    (found,) = asked(chain, ("eth_getLogs", [{"fromBlock": hex(first), "toBlock": hex(last), **wanted}]))
    return list(found)


def test_canned__whole_chain__has_the_events_and_payments_it_was_made_for() -> None:
    found = logs(SMALL, 0, SMALL.head)
    assert len(found) == 1_000
    assert len({each["transactionHash"] for each in found}) == 1_000
    span = BlockSpan(first=BlockNumber(1), last=BlockNumber(SMALL.blocks))
    recipients = frozenset(deposit_address(number) for number in range(100))
    query = LogQuery(tokens=frozenset([TOKEN]), recipients=recipients)
    ask = Asked(chain_id=ChainId(CHAIN_ID), span=span, query=query, is_filtered=False)
    paid = transfers(LOGS.decode(msgspec.json.encode(found)), ask)
    assert len({each.identity.recipient for each in paid}) == len(paid) == SMALL.payments == 50
    assert {each.identity.amount for each in paid} == {UNIT}


@pytest.mark.parametrize("width", [1, 4, 7, 15])
def test_canned__in_pieces__is_the_same_chain(width: int) -> None:
    whole = logs(SMALL, 1, SMALL.blocks)
    pieces = [logs(SMALL, first, first + width - 1) for first in range(1, SMALL.head, width)]
    assert [each for piece in pieces for each in piece] == whole


def test_canned__filtered_by_recipient__is_what_is_to_them() -> None:
    wanted = ["0x" + "00" * 12 + deposit_address(number).hex() for number in (3, 7, 99)]
    found = logs(SMALL, 1, SMALL.blocks, topics=[None, None, wanted])
    assert found == [each for each in logs(SMALL, 1, SMALL.blocks) if each["topics"][2] in wanted]
    assert [each["topics"][2] for each in found] == wanted[:2], "the hundredth is not paid"


def test_canned__another_contract_or_event__has_no_logs() -> None:
    assert logs(SMALL, 1, 15, address=["0x" + "11" * 20]) == []
    assert logs(SMALL, 1, 15, topics=[["0x" + "22" * 32]]) == []


def test_canned__headers__are_linked_and_list_the_transactions_of_their_logs() -> None:
    numbers = range(SMALL.head + 1)
    headers = asked(SMALL, *(("eth_getBlockByNumber", [hex(number), False]) for number in numbers))
    refs = [block_ref(raw) for header in headers if (raw := HEADER.decode(msgspec.json.encode(header))) is not None]
    assert [ref.number for ref in refs] == list(numbers)
    assert all(after.parent_hash == before.hash and after.time > before.time for before, after in pairwise(refs))
    found = logs(SMALL, 1, SMALL.blocks)
    for header in headers:
        here = [each for each in found if each["blockNumber"] == header["number"]]
        assert [each["transactionHash"] for each in here] == header["transactions"]
        assert {each["blockHash"] for each in here} <= {header["hash"]}
    tags = ("latest", "finalized", hex(SMALL.head + 1))
    latest, finalized, missing = asked(SMALL, *(("eth_getBlockByNumber", [tag, False]) for tag in tags))
    assert (latest, finalized, missing) == (headers[SMALL.head], headers[SMALL.final], None)


def test_canned__transfers_of_a_block__are_those_of_its_logs() -> None:
    for number in range(SMALL.head):
        found = [(bytes.fromhex(each["topics"][2][26:]), int(each["data"], 16)) for each in logs(SMALL, number, number)]
        assert found == SMALL.transfers_of(number)


async def test_backfill__of_a_small_chain__settles_what_was_paid_in_every_case() -> None:
    seen: list[int] = []
    work = work_of(events=600, matched=0.05)
    report = await backfill(work, lambda done, _: seen.append(done))
    rows = {row["what"]: row for row in report.rows}
    floor = ["floor: fetched", "floor: decoded", "floor: matched", "floor: stored"]
    assert list(rows) == [*floor, "settler: unpaid", "settler: paid", "settler: quorum"]
    assert {name: (row["paid"], row["settled"]) for name, row in rows.items()} == {
        "floor: fetched": (0, 0),
        "floor: decoded": (0, 0),
        "floor: matched": (30, 0),
        "floor: stored": (30, 0),
        "settler: unpaid": (0, 0),
        "settler: paid": (30, 30),
        "settler: quorum": (30, 30),
    }
    assert rows["floor: stored"]["ratio"] == 1.0
    assert all(row[name] > 0 for row in rows.values() for name in ("cpu_us", "wall_us", "ratio", "peak_mib", "calls"))
    assert rows["settler: quorum"]["calls"] > rows["settler: paid"]["calls"] > rows["settler: unpaid"]["calls"]
    assert [name for name, row in rows.items() if "payment_us" in row] == ["settler: paid", "settler: quorum"]
    assert seen == sorted(seen)
    assert seen[-1] == work.passes * work.events


async def test_backfill__profiled__says_where_the_time_went() -> None:
    work = work_of(events=600, matched=0.05, cases=["paid"], is_profiled=True)
    (row,) = (await backfill(work)).rows
    assert row["ratio"] is None, "there is no floor in this run"
    assert row["shares"].keys() <= STEPS.keys()
    assert sum(row["shares"].values()) == pytest.approx(1, abs=0.01)
    assert row["held_ms"] > 0


@pytest.mark.anvil
async def test_backfill__from_anvil__reads_the_same_chain() -> None:
    report = await backfill(work_of(events=300, matched=0.05, cases=[ANVIL]))
    names = ["anvil, floor: fetched", "anvil, floor: decoded", "anvil, floor: matched", "anvil, floor: stored"]
    assert [row["what"] for row in report.rows] == [*names, "anvil, settler: paid"]
    assert [row["paid"] for row in report.rows] == [0, 0, 15, 15, 15]
    assert report.rows[-1]["settled"] == 15
    assert report.rows[-2]["ratio"] == 1.0


def test_backfill__of_what_there_is_not__is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "backfill", "--case", "all"]) == 2
    assert capsys.readouterr().err == "error: --case all is none of floor, unpaid, paid, quorum\n"
