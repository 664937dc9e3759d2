"""A seed is one world: the same trace hash in every run, in every process, and however many run side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from settler.simulation.run import Ran, run, run_seed
from tests.support.db import TEMPLATE
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.timeout(600)

SEED, STEPS = 12, 8
"""Three quarters of all kinds of fault, every second step."""
OTHER_HASHES = ("0", "4242")


def told(ran: Ran) -> tuple[object, ...]:
    verdict = ran.verdict
    return verdict.digest, verdict.blocks, verdict.simulated_s, verdict.faults, verdict.did, verdict.counts


def test_seed__twice_in_one_process__is_one_world() -> None:
    first, second = run_seed(SEED, STEPS), run_seed(SEED, STEPS)
    assert told(first) == told(second)
    assert first.verdict.is_good, first.verdict.violations
    assert first.verdict.digest != run_seed(SEED + 1, STEPS).verdict.digest


def test_seed__however_python_hashes__is_one_world() -> None:
    """Bytes and words have another hash in each process, and sets of them another order."""
    running = [_started(hash_seed) for hash_seed in OTHER_HASHES]
    here = run_seed(SEED, STEPS).verdict
    for process in running:
        out, err = process.communicate()
        found = json.loads(out)
        assert (found["trace"], found["blocks"]) == (here.digest, here.blocks), err
        assert found["faults"] == here.faults


def _started(hash_seed: str) -> subprocess.Popen[str]:
    words = ["simulate", "--seeds", "1", "--seed", str(SEED), "--steps", str(STEPS), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "settler", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )


def test_jobs__side_by_side__come_to_the_same() -> None:
    alone, together = (_whole(jobs) for jobs in (1, 2))
    assert alone == together


def _whole(jobs: int) -> dict[str, Any]:
    report = run(range(1, 4), 3, jobs=jobs)
    return {
        "trace": report.trace,
        "seeds": report.seeds,
        "blocks": report.blocks,
        "simulated_s": round(report.simulated_s, 3),
        "faults": report.faults,
        "did": report.did,
        "rows": report.rows,
        "failed": report.failed,
    }


@pytest.fixture
def simulated_url(postgres_server: PostgresServer) -> Iterator[str]:
    yield postgres_server.create_database("sim_world", template=TEMPLATE)
    postgres_server.drop_database("sim_world")


@pytest.mark.postgres
def test_seed__on_postgres__is_good_and_the_same_again(simulated_url: str) -> None:
    first, second = (run_seed(SEED, STEPS, database=simulated_url) for _ in range(2))
    assert told(first) == told(second)
    assert first.verdict.is_good, (first.verdict.violations, first.verdict.problems)
    assert first.verdict.counts["invoices"] > 0
