"""`settler bench proof`: its blocks are true ones, and each figure is there."""

from __future__ import annotations

import json

import msgspec
import pytest

from chains.proof import BLOCK, RECEIPTS
from settler.bench.proof import prove
from settler.bench.proof_blocks import PROFILE, make_block
from settler.cli import main
from tests.chains.proof.reference import bloom, trie_root
from tests.chains.proof.samples import encoded

pytestmark = pytest.mark.slow
"""Whole benchmarks, small: seconds each."""


@pytest.mark.parametrize(("transactions", "payments"), [(1, 1), (20, 1), (150, 7), (17, 17)])
def test_make_block__held_against_plain_code__is_true(transactions: int, payments: int) -> None:
    made = make_block(transactions, payments)
    block, receipts = BLOCK.decode(made.block_json), RECEIPTS.decode(made.receipts_json)
    assert block is not None
    assert receipts is not None
    assert len(receipts) == transactions
    assert len(made.payments) == payments
    assert block["receiptsRoot"] == "0x" + trie_root([encoded(each) for each in receipts]).hex()
    for each in msgspec.json.decode(made.receipts_json):
        assert each["logsBloom"] == "0x" + bloom(each["logs"]).hex()
        assert each["blockHash"] == "0x" + made.hash.hex() == block["hash"]
    assert PROFILE.family == "ethereum"


def test_make_block__twice__is_the_same() -> None:
    assert make_block(30, 2) == make_block(30, 2)
    assert make_block(30, 2) != make_block(31, 2)


async def test_prove__of_small_blocks__says_what_it_proved_and_each_step() -> None:
    report = await prove(sizes=((10, 1), (12, 12)), repeats=1)
    assert [(row["transactions"], row["payments"]) for row in report.rows] == [(10, 1), (12, 12)]
    for row in report.rows:
        assert row["logs"] >= row["payments"]
        assert row["cpu_ms"] > 0
        assert row["ratio"] > 0
        assert {"json_ms", "rlp_ms", "keccak_ms", "trie_ms", "logs_ms", "evidence_ms", "rest_ms"} <= row.keys()
    assert report.inputs["repeats"] == 1


def test_bench_proof__for_programs__is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "proof", "--repeats", "1", "--json"]) == 0
    figure = json.loads(capsys.readouterr().out)
    assert figure["benchmark"] == "proof"
    assert [row["transactions"] for row in figure["rows"]] == [50, 150, 300, 1_000, 1_000]
    assert figure["machine"]["cores"] >= 1
