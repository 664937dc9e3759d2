"""What a run of many worlds comes to, and the command that tells of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import pytest

from settler.cli import main, progress
from settler.domain.invariants import Invariant, Violation
from settler.simulation import plan
from settler.simulation import run as running
from settler.simulation.plan import ALL_FAULTS, STEPS, draw
from settler.simulation.run import COVERING_SEEDS, Ran, Report
from settler.simulation.verdict import Verdict
from tests.cli.tree import COMMANDS

LOST = Violation(invariant=Invariant.I1, subject="base", detail="a payment is lost")


def ended(seed: int, *, is_broken: bool = False, **fields: Any) -> Ran:
    verdict = Verdict(seed=seed, steps=STEPS, chains=2, digest=f"{seed + 1:032x}", simulated_s=86_400.0, blocks=100)
    for name, value in fields.items():
        setattr(verdict, name, value)
    if is_broken:
        verdict.violations.append(LOST)
        verdict.lines = [f"line {number}" for number in range(100)]
    return Ran(verdict=verdict, cpu_s=0.5)


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], Ran]], list[dict[str, Any]]]:
    """Puts something in the place of the worlds; returns how they were asked for."""

    def put(of: Callable[[int], Ran]) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def run_seeds(seeds: range, steps: int, **how: Any) -> Generator[Ran, None, None]:
            asked.append({"seeds": seeds, "steps": steps, **how})
            for seed in seeds:
                yield of(seed)

        monkeypatch.setattr(running, "run_seeds", run_seeds)
        return asked

    return put


# -- plans -------------------------------------------------------------------------------------------------------------


def test_kinds__have_names_of_their_own() -> None:
    """Two that shared a name were counted as one, and one of them never struck."""
    assert max(Counter(ALL_FAULTS).values()) == 1


def test_draw__of_a_seed__is_one_plan() -> None:
    assert [draw(seed) for seed in range(20)] == [draw(seed) for seed in range(20)]
    assert len({repr(draw(seed)) for seed in range(20)}) == 20


def test_draw__over_seeds__has_every_kind_in_some_and_none_in_all() -> None:
    plans = [draw(seed) for seed in range(100)]
    drawn = Counter(name for each in plans for name in each.faults)
    assert set(drawn) == set(ALL_FAULTS)
    assert max(drawn.values()) < len(plans)


def test_draw__a_liar__is_never_alone() -> None:
    """Where nobody could tell, a lie is no fault of ours to be found."""
    for seed in range(200):
        for chain in draw(seed).chains:
            assert chain.liar is None or chain.quorum >= 2


def test_draw__only_some_kinds__leaves_the_rest_of_the_world_as_it_was() -> None:
    whole, some = draw(7), draw(7, only=["kill -9", "reorg"])
    assert list(some.faults) == ["reorg", "kill -9"]
    assert (some.chains, some.customs, some.receivers) == (whole.chains, whole.customs, whole.receivers)


# -- reports -----------------------------------------------------------------------------------------------------------


def test_report__adds_up() -> None:
    report = Report()
    report.add(ended(1, faults=Counter({"reorg": 2}), did=Counter(exact=1), counts={"invoices": 3}))
    report.add(ended(2, faults=Counter({"reorg": 1, "429": 4}), did=Counter(exact=2), counts={"invoices": 4}))
    assert (report.seeds, report.blocks, report.simulated_s, report.chain_s) == (2, 200, 172_800, 345_600)
    assert (report.faults, report.did["exact"], report.rows["invoices"]) == ({"reorg": 3, "429": 4}, 3, 7)
    assert (report.days_a_cpu_minute, report.blocks_a_cpu_second) == (120, 200)
    assert report.is_good


def test_report__in_whatever_order_worlds_end__is_the_same() -> None:
    there, back = Report(), Report()
    for seed in range(5):
        there.add(ended(seed, is_broken=seed % 2 == 0))
        back.add(ended(4 - seed, is_broken=seed % 2 == 0))
    assert there == back
    assert [verdict.seed for verdict in there.failed] == [0, 2, 4]


def test_report__trace__of_one_world_is_its_own() -> None:
    report = Report()
    report.add(ended(41))
    assert report.trace == f"{42:032x}"
    report.add(ended(42))
    assert report.trace not in {f"{42:032x}", f"{43:032x}"}


@pytest.mark.parametrize("problems", [[], ["it never came to rest"]])
def test_report__one_broken_world__breaks_it(problems: list[str]) -> None:
    report = Report()
    report.add(ended(1))
    report.add(ended(2, is_broken=not problems, problems=problems))
    assert not report.is_good


def test_report__a_kind_that_never_struck__breaks_a_run_that_covers() -> None:
    report = Report()
    all_but_one = Counter({name: 1 for name in ALL_FAULTS if name != "lost lease"})
    for seed in range(COVERING_SEEDS):
        assert report.is_good, "too few worlds to tell"
        report.add(ended(seed, faults=all_but_one))
    assert (report.is_covering, report.never_struck, report.is_good) == (True, ["lost lease"], False)
    report.add(ended(1_000, faults=Counter({"lost lease": 1})))
    assert (report.never_struck, report.is_good) == ([], True)


def test_report__many_worlds_of_a_step_each__cover_nothing() -> None:
    report = Report()
    for seed in range(COVERING_SEEDS):
        report.add(ended(seed, steps=1))
    assert (report.is_covering, report.is_good) == (False, True)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_run__stops_at_the_first_failure__where_asked(worlds: Callable[..., object]) -> None:
    worlds(lambda seed: ended(seed, is_broken=seed in {3, 5}))
    assert running.run(range(10), stops_at_failure=True).seeds == 4
    assert running.run(range(10)).seeds == 10


def test_run__interrupted__reports_what_had_ended(worlds: Callable[..., object]) -> None:
    def of(seed: int) -> Ran:
        if seed == 3:
            raise KeyboardInterrupt
        return ended(seed)

    worlds(of)
    report = running.run(range(10))
    assert (report.seeds, report.was_interrupted) == (3, True)


def test_run_seed__a_world_that_fails_by_itself__is_a_problem_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a soak of a night the seed must not be lost."""

    async def broken(_self: object) -> None:
        raise ValueError("a bug of the simulation")

    monkeypatch.setattr("settler.simulation.world.World._begin", broken)
    verdict = running.run_seed(1, 5).verdict
    assert (verdict.seed, verdict.steps, verdict.is_good) == (1, 5, False)
    assert verdict.problems == ["the world itself broke: ValueError('a bug of the simulation')"]
    assert verdict.lines[-1] == "ValueError: a bug of the simulation"
    assert verdict.digest


# -- the command -------------------------------------------------------------------------------------------------------


def test_simulate__all_held__says_what_was_run(
    worlds: Callable[..., list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = worlds(lambda seed: ended(seed, faults=Counter({"reorg": 2})))
    assert main(["simulate", "--seeds", "3", "--seed", "1", "--steps", "20"]) == 0
    (how,) = asked
    assert (how["seeds"], how["steps"], how["jobs"], how["database"]) == (range(1, 4), 20, 1, None)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:3] == [f"worlds: {n} of 3 worlds; {n} simulated days, {2 * n} faults, 0 broken" for n in (1, 2, 3)]
    assert lines[3] == f"first seed 1, trace {2 ^ 3 ^ 4:032x}"
    assert lines[4].startswith("3 worlds, 3.0 simulated days (0.008 years; 0.016 of chains), 300 blocks, 1.5 s of CPU")
    assert "faults  reorg 6" in lines
    assert lines[-1] == "nothing lost, nothing doubled, nothing settled that was not paid"
    assert err == ""


def test_simulate__something_broke__shows_it_and_how_to_see_it_again(
    worlds: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    worlds(lambda seed: ended(seed, is_broken=seed == 2))
    assert main(["simulate", "--seeds", "3", "--seed", "1"]) == 1
    out = capsys.readouterr().out
    assert f"seed 2: BROKEN, trace {3:032x}\n  line 60\n" in out
    assert f"  line 99\n  {LOST}\n  to see it again: settler simulate --seeds 1 --seed 2 --steps {STEPS}\n" in out
    assert out.splitlines()[-1] == "broken  1 of 3: seeds 2"


def test_simulate__json__says_the_same(worlds: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    worlds(lambda seed: ended(seed, is_broken=seed == 2))
    words = ["simulate", "--seeds", "3", "--seed", "1", "--fault", "kill -9", "--database", "postgresql://u:pw@h/sim"]
    assert main([*words, "--json"]) == 1
    out = capsys.readouterr().out
    assert "pw" not in out
    told = json.loads(out)
    assert (told["first_seed"], told["worlds"], told["blocks"], told["is_good"]) == (1, 3, 300, False)
    assert told["never_struck"] == ["kill -9"]
    (broken,) = told["broken"]
    assert broken["again"] == f"settler simulate --seeds 1 --seed 2 --steps {STEPS} --fault 'kill -9' --database URL"
    assert (broken["trace"], broken["violations"]) == (f"{3:032x}", [str(LOST)])
    assert broken["lines"][-1] == "line 99"


def test_simulate__without_a_seed__draws_one(
    worlds: Callable[..., list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = worlds(ended)
    for _ in range(2):
        assert main(["simulate", "--seeds", "1"]) == 0
    first, second = (how["seeds"].start for how in asked)
    assert first != second
    assert f"first seed {second}, trace" in capsys.readouterr().out


def test_simulate__until_broken__ends_there(worlds: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    worlds(lambda seed: ended(seed, is_broken=seed == 2))
    assert main(["simulate", "--seeds", "1000000", "--seed", "0", "--until-broken"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "broken  1 of 3: seeds 2"


def test_simulate__interrupted__prints_the_report_so_far(
    worlds: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    def of(seed: int) -> Ran:
        if seed == 2:
            raise KeyboardInterrupt
        return ended(seed)

    worlds(of)
    assert main(["simulate", "--seeds", "1000000", "--seed", "0"]) == 130
    assert "2 worlds, 2.0 simulated days" in capsys.readouterr().out


def test_simulate__a_kind_that_never_struck__is_named_and_fails(
    worlds: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    worlds(lambda seed: ended(seed, faults=Counter({name: 1 for name in ALL_FAULTS if name != "deadlock"})))
    assert main(["simulate", "--seeds", str(COVERING_SEEDS), "--seed", "0"]) == 1
    *_, never, outcome = capsys.readouterr().out.splitlines()
    assert never == "never   deadlock"
    assert outcome == "a kind of fault never struck: the simulation does not test what it says"


def test_simulate__an_unknown_kind__is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--fault", "bad luck"]) == 2
    assert "'bad luck' is none of: " in capsys.readouterr().err


def test_simulate__a_database_without_the_mark__is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "1", "--database", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: database.url: ")


def test_simulate__a_database_that_is_not_there__is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "1", "--database", "postgresql://nobody@127.0.0.1:1/sim"]) == 1
    assert capsys.readouterr().err.startswith("error: the database: ")


def test_simulate__help__names_the_usual_length() -> None:
    (listed,) = (each for each in COMMANDS if str(each) == "simulate")
    assert f"Default: {plan.STEPS}." in listed.options["--steps"].help


def test_progress__of_hours__is_told_by_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    advance = progress.lines("worlds", 1_000_000, "worlds", every_s=30, monotonic=lambda: now_s)
    for done in range(1, 100):
        now_s += 1.0
        advance(done, "none broken")
    assert capsys.readouterr().out.splitlines() == [
        f"worlds: {done} of 1000000 worlds; none broken" for done in (30, 60, 90)
    ]
