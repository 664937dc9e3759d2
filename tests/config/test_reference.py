"""The reference of the settings: whole, true, and the page in docs/."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from settler.config import load, reference
from settler.config.reference import EXAMPLES, Setting, example_file, markdown, sections
from settler.config.tables import ChainTable, File, TokenTable
from tests.docs.pages import DOCS, page

ALL = [setting for section in sections() for setting in section.settings]
each = pytest.mark.parametrize("setting", ALL, ids=lambda s: s.key)


def test_page__is_what_the_generator_gives() -> None:
    """Renew it with `settler config reference > docs/configuration.md`."""
    assert (DOCS / "configuration.md").read_text() == markdown()


def test_reference__has_every_setting_of_the_tables() -> None:
    """Counted here anew, from the tables alone."""
    plain = {
        f"{table}.{key}"
        for table, field in File.model_fields.items()
        if table != "chains"
        for key in field.annotation.model_fields  # type: ignore[union-attr]  # every other one is a table
    }
    of_chains = {f"chains.NAME.{key}" for key in ChainTable.model_fields} - {"chains.NAME.token"}
    of_tokens = {f"chains.NAME.token.SYMBOL.{key}" for key in TokenTable.model_fields}
    assert {s.key for s in ALL} == plain | of_chains | of_tokens
    assert set(EXAMPLES) == {s.key for s in ALL}, "every example is of a setting there is"


@each
def test_setting__says_what_it_is(setting: Setting) -> None:
    assert len(setting.meaning) > 20, "it has a docstring"
    assert setting.meaning.endswith((".", ")")), setting.meaning
    assert setting.type
    if setting.default is None:
        assert re.search(r"Default|Left out|EIP-55|Of this contract|Off unless", setting.meaning) is not None


def test_examples__together__are_a_configuration_that_loads(tmp_path: Path) -> None:
    file = tmp_path / "settler.toml"
    file.write_text(example_file())
    settings = load(file, {})
    chain = settings.chains[reference.NAME]
    assert [t.symbol for t in chain.tokens] == [reference.SYMBOL, "USDC", "USDT"]
    assert (settings.invoices.expires_in_s, str(settings.invoices.late)) == (1_800, "accept")


def test_variables__each_with_its_example__give_the_same_configuration(tmp_path: Path) -> None:
    """A variable that nothing reads would leave the default, which differs from the example somewhere."""
    file = tmp_path / "settler.toml"
    file.write_text(example_file())
    wanted = load(file, {})
    file.write_text("")
    values = {s.variable: tomllib.loads(s.assignment)[s.key.rpartition(".")[2]] for s in ALL}
    environ = {
        name: s.example if isinstance(values[name], list | dict) else str(values[name]).replace("False", "false")
        for s in ALL
        for name in [s.variable]
    }
    assert load(file, environ) == wanted


def test_bounds__stand_in_the_type() -> None:
    (found,) = [s for s in ALL if s.key == "invoices.underpayment_tolerance_bps"]
    assert found.type == "whole number, 0 to 1_000 bps"
    assert found.default == "0"
    assert found.variable == "SETTLER__INVOICES__UNDERPAYMENT_TOLERANCE_BPS"


def test_json__is_of_every_setting() -> None:
    assert json.loads(json.dumps([s.as_json() for s in ALL]))[0]["key"] == "database.url"


def test_page__links_lead_somewhere() -> None:
    shown = page("configuration.md")
    assert {link for link in shown.links if link[1:] not in shown.anchors} == set()
