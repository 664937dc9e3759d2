"""What the documents say is there: links, anchors, commands, settings, metrics, events."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chains.errors import ChainError
from chains.heads import Silence
from settler.clock import FakeClock, SystemClock
from settler.config import load
from settler.config.reference import EXAMPLES
from settler.domain.delivery import MAX_ATTEMPTS, RETRY_DELAYS_S
from settler.domain.events import EventType
from settler.domain.invoices import UnmatchedReason
from settler.domain.settlement import HoldReason
from settler.health import NO_ANSWER, Health
from settler.metrics import Metrics
from settler.stages.looking import TagUnusable
from settler.stages.opening import Refused
from tests.cli.tree import ALL, parse
from tests.docs.pages import DOCS, PAGES, ROOT, Page, page
from tests.support.wallet import XPUB

each_page = pytest.mark.parametrize("shown", PAGES, ids=str)
_KNOWN = {str(listed): listed for listed in ALL}
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
_INLINE = re.compile(r"`settler ([^`]+)`")
RUNBOOK = (
    *("not-ready", "chain-refused", "chain-halted", "chain-lag", "head-stale", "finality-stalled", "reorg", "reversal"),
    *("provider-down", "provider-disagreement", "rate-limited", "nothing-settles", "suspense", "holds"),
    *("reconciliation-breaks", "audit-log-broken", "dead-letters", "outbox-growing", "process-stuck", "stage-failing"),
    *("database-away", "stop-and-start", "backup", "restore", "upgrade", "keys-and-secrets"),
    *("change-the-configuration", "shadow-run"),
)
"""Alerts link to them: a name once given stays."""


@each_page
def test_page__every_relative_link__leads_somewhere(shown: Page) -> None:
    for link in shown.links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = Page((shown.path.parent / file).resolve()) if file else shown
        assert target.path.exists(), link
        if anchor:
            assert anchor in target.anchors, link


@each_page
def test_page__every_command_line__is_one(shown: Page) -> None:
    lines = [
        line.strip()
        for fence in shown.fences("sh")
        for line in fence.text.replace("\\\n", " ").splitlines()
        if line.strip().startswith("settler ")
    ]
    for line in lines:
        words = shlex.split(re.split(r" [|>#] ?", line)[0].replace("…", "x"), comments=True)
        parse(words[1:])


@each_page
def test_page__every_command_named__exists(shown: Page) -> None:
    for text in _INLINE.findall(shown.prose):
        paths = [""]
        for word in text.split():
            if not re.fullmatch(r"[a-z]+(-[a-z]+)*(\|[a-z]+(-[a-z]+)*)*", word):
                break
            if all(path in _KNOWN and not _KNOWN[path].is_group for path in paths):
                break  # its arguments
            paths = [f"{path} {choice}".strip() for path in paths for choice in word.split("|")]
        assert set(paths) <= set(_KNOWN), text


@each_page
def test_page__says_nothing_of_the_machine_it_was_written_on(shown: Page) -> None:
    assert not re.search(r"/work/|/root/|/home/", shown.text)


@pytest.mark.parametrize("shown", [each for each in PAGES if each.path.parent == DOCS], ids=str)
def test_page__has_lines_that_can_be_read(shown: Page) -> None:
    """Tables and links may be longer."""
    for line in shown.prose.splitlines():
        is_free = line.startswith(("|", "- ", "[", "1", "2", "3", "4", "5", "6", "7", "8", "9")) or "](" in line
        assert is_free or len(line) <= 160, line


def test_runbook__anchors_that_alerts_link_to__are_there() -> None:
    assert set(RUNBOOK) <= page("runbook.md").anchors


def test_runbook__every_metric_named__is_measured() -> None:
    measured = set(
        re.findall(r"^# TYPE (\w+)", Metrics(SystemClock(), version="0").exposition().decode(), re.MULTILINE)
    )
    named = set(re.findall(r"`(settler_[a-z_]+)", page("runbook.md").text))
    assert named
    assert named <= measured


def test_runbook__every_reason_of_readyz__is_in_the_table() -> None:
    table = page("runbook.md").text.split("## Not ready")[1].split("## Chain refused")[0]
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    health = Health(clock)
    for chain in ("new", "refused", "halted", "silent", "late", "stale"):
        health.expect_chain(chain)
    health.refused("refused", "x")
    for chain in ("halted", "silent", "late", "stale"):
        health.progressed(chain, lag_s=3_600 if chain == "late" else 0)
    clock.advance(3_600)
    for chain in ("halted", "silent", "late"):
        health.progressed(chain, lag_s=3_600 if chain == "late" else 0)
    health.halted("halted", "x")
    health.provider_down("silent", f"{NO_ANSWER} (x)")
    health.draining()
    is_ready, reasons = health.ready()
    assert not is_ready
    assert len(reasons) == 7
    for reason in reasons:
        words = re.split(r"\d|\(|: x", reason["reason"])[0].strip()
        assert f"| `{words}" in table, reason


def test_runbook__every_outcome_of_a_tick__is_in_the_table() -> None:
    table = page("runbook.md").text.split("## Stage failing")[1].split("##")[0]
    assert issubclass(Refused, ChainError)
    assert issubclass(TagUnusable, ChainError)
    kinds = [ChainError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    # a subscription's, which is no tick
    labels = {kind.label for kind in kinds if kind is not Silence and not kind.__module__.startswith("tests")} | {
        "ok",
        "conflict",
        "storage",
        "bug",
    }
    assert {label for label in labels if f"`{label}`" not in table} == set()


def test_concepts__every_reason__is_explained() -> None:
    text = page("concepts.md").text
    for reason in (*UnmatchedReason, *HoldReason):
        assert f"| `{reason}` |" in text


def test_settings__named_anywhere__exist() -> None:
    tables = {key.split(".")[0] for key in EXAMPLES} - {"chains"}
    keys = set(EXAMPLES)
    for shown in PAGES:
        for table, key in re.findall(r"`([a-z]+)\.([a-z_]+)(?: =[^`]*)?`", shown.prose):
            if table in tables:
                assert f"{table}.{key}" in keys, f"{shown}: {table}.{key}"


@each_page
def test_page__every_configuration__loads(shown: Page, tmp_path: Path) -> None:
    """Pieces too: each laid over a chain that makes it whole, with something in the place of each `…`."""
    hosts = itertools.count(1)
    for fence in shown.fences("toml"):
        text = re.sub("//…", lambda _: f"//node{next(hosts)}.example", fence.text)
        data = tomllib.loads(text.replace('"0x…"', f'"{ADDRESS}"').replace("xpub6…", XPUB))
        base = {"rpc": ["https://node.example", "https://node2.example", "https://node3.example"], "tokens": ["USDC"]}
        for name, given in (data.setdefault("chains", {"base": {}})).items():
            data["chains"][name] = base | given
        file = tmp_path / "settler.toml"
        file.write_text("\n".join(_written(data)))
        assert load(file, {}).chains


def _written(table: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[str]:
    """TOML again: values first, then the tables below."""
    if at:
        yield f"[{'.'.join(at)}]"
    yield from (f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict))
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _written(value, (*at, key))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    return "[" + ", ".join(map(_value, value)) + "]" if isinstance(value, list) else json.dumps(value)


def test_api_guide__every_problem__is_in_the_table() -> None:
    told = set(re.findall(r"`([a-z-]+)`", page("api.md").text.split("| status |")[1].split("**Limits.**")[0]))
    files = [*(ROOT / "settler" / "api").glob("*.py"), *(ROOT / "settler" / "api" / "routes").glob("*.py")]
    used = {code for file in files for code in re.findall(r'HTTPStatus\.[A-Z_]+,\s*"([a-z-]+)"', file.read_text())}
    assert used
    assert used - told == set()


def test_webhooks__the_schedule__is_that_of_the_sender() -> None:
    table = page("webhooks.md").text.split("<!-- table: retries -->")[1].split("Each wait")[0]
    units = {"s": 1, "min": 60, "h": 3_600}
    waits = [int(n) * units[unit] for n, unit in re.findall(r"\| (\d+) (s|min|h) \|", table)]
    assert tuple(waits) == RETRY_DELAYS_S
    assert table.count("\n| ") == MAX_ATTEMPTS + 2, "and the two lines above it"


def test_webhooks__every_event__is_in_the_table() -> None:
    text = page("webhooks.md").text
    for type_ in EventType:
        assert f"| `{type_}` |" in text


def test_index__names_every_page() -> None:
    index = page("README.md").links
    assert {path.name for path in DOCS.glob("*.md")} - {"README.md"} <= set(index)
