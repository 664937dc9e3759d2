"""The Terraform module, as far as it can be told by reading: names that belong together, and what its settings make of
settler's configuration. Terraform itself and checkov are in tests/system/test_deploy_lint.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from settler.config import load

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MODULE = DEPLOY / "terraform"
EXAMPLES = sorted(path.name for path in (MODULE / "examples").iterdir())
RPC = '["https://one.example/key", "https://two.example/key"]'
XPUB = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"


def read(folder: Path) -> str:
    return "\n".join(_uncommented(path.read_text()) for path in sorted(folder.glob("*.tf")))


def _uncommented(text: str) -> str:
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def variable_of(key: str) -> str:
    """As locals.tf has it."""
    parts = key.split(".")
    kept = {3} if parts[2:3] == ["token"] else set()
    return "__".join(["SETTLER", *(part if at in kept else part.upper() for at, part in enumerate(parts))])


def settings_of(example: str) -> dict[str, str]:
    """The variables that an example's tasks start with."""
    text = read(MODULE / "examples" / example)
    block = re.search(r"^  settings = \{\n(.*?)^  \}", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    found = {}
    for key, encoded, plain in re.findall(
        r'^    "([^"]+)" *= (?:jsonencode\((.*)\)|("(?:[^"\\]|\\.)*"))$', block[1], re.MULTILINE
    ):
        found[variable_of(key)] = encoded or json.loads(plain)
    assert len(found) == len(block[1].splitlines()), "a line that this test does not read"
    secret = re.search(r"secret_settings = (\[.*\])", text)
    assert secret is not None
    for key in json.loads(secret[1]):
        found[variable_of(key)] = XPUB if key == "deposits.xpub" else RPC
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_example__its_variables_over_an_empty_file__are_a_configuration(example: str) -> None:
    environ = settings_of(example)
    environ |= {
        "SETTLER__DATABASE__URL": "postgresql://settler:word@database:5432/settler?sslmode=verify-full",
        "SETTLER__API__LISTEN": "0.0.0.0:8080",
        "SETTLER__RUNTIME__DRAIN_TIMEOUT_S": "30",
        "SETTLER__RUNTIME__LOG_FORMAT": "json",
    }
    settings = load("/dev/null", environ)
    assert "base" in settings.chains
    assert all(len(chain.rpc) == 2 for chain in settings.chains.values())


def test_tasks__set_what_the_configuration_knows() -> None:
    """The names that tasks.tf writes itself."""
    names = set(re.findall(r'name = "(SETTLER__\w+)"', read(MODULE)))
    assert names == {
        "SETTLER__API__LISTEN",
        "SETTLER__API__TRUSTED_PROXIES",
        "SETTLER__DATABASE__URL",
        "SETTLER__RUNTIME__DRAIN_TIMEOUT_S",
        "SETTLER__RUNTIME__LOG_FORMAT",
    }


@pytest.mark.parametrize("folder", [MODULE, *(MODULE / "examples" / each for each in EXAMPLES)], ids=lambda p: p.name)
def test_variables__used_and_declared__are_the_same(folder: Path) -> None:
    text = read(folder)
    declared = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    body = re.sub(r'^variable "\w+" \{.*?^\}', "", text, flags=re.MULTILINE | re.DOTALL)
    assert declared == set(re.findall(r"\bvar\.(\w+)", body))


def test_locals__used_and_declared__are_the_same() -> None:
    text = read(MODULE)
    declared: set[str] = set()
    for block in re.findall(r"^locals \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        declared |= set(re.findall(r"^  (\w+) *= ", block, re.MULTILINE))
    assert declared == set(re.findall(r"\blocal\.(\w+)", text))


@pytest.mark.parametrize("example", EXAMPLES)
def test_example__gives_what_the_module_takes(example: str) -> None:
    declared = set(re.findall(r'^variable "(\w+)"', read(MODULE), re.MULTILINE))
    call = re.search(r'^module "settler" \{\n(.*?)^\}', read(MODULE / "examples" / example), re.MULTILINE | re.DOTALL)
    assert call is not None
    given = set(re.findall(r"^  (\w+) *= ", call[1], re.MULTILINE)) - {"source"}
    assert given <= declared
    required = {
        name
        for name, body in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', read(MODULE), re.MULTILINE | re.DOTALL)
        if not re.search(r"^  default ", body, re.MULTILINE)
    }
    assert required <= given


def test_variables__each__says_what_it_is_for() -> None:
    for name, body in re.findall(r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', read(MODULE), re.MULTILINE | re.DOTALL):
        assert "description" in body, name


def test_files__that_the_module_reads__are_there() -> None:
    paths = re.findall(r"\$\{path\.module\}/([^\"$*]+)", read(MODULE))
    assert {"../postgres/roles.sql", "bootstrap.sh"} <= set(paths)
    for path in paths:
        assert (MODULE / path).exists(), path


def test_checkov__whatever_it_skips__is_in_the_documentation() -> None:
    text = "".join(path.read_text() for path in MODULE.glob("*.tf")) + (DEPLOY / "lint.sh").read_text()
    skipped = set(re.findall(r"(?:skip=|--skip-check )(CKV2?_\w+)", text))
    table = (DEPLOY.parent / "docs" / "aws.md").read_text().split("| checkov | skipped on |")[1]
    assert skipped == set(re.findall(r"CKV2?_\w+", table))


def test_health_check__is_the_images_own() -> None:
    """ECS does not read an image's HEALTHCHECK, so the same command stands in both."""
    command = re.search(r"HEALTHCHECK [^\n]*\\\n +CMD (\[.*\])", (DEPLOY / "Dockerfile").read_text())
    assert command is not None
    assert json.dumps(["CMD", *json.loads(command[1])]) in read(MODULE)


def test_secrets__none_of_them__is_in_the_state() -> None:
    """A value given as `secret_string` would be stored; `secret_string_wo` is not."""
    text = read(MODULE)
    assert "secret_string_wo " in text
    assert not re.search(r"\bsecret_string *=", text)
    assert not re.search(r"^ +password *= [^e]", text, re.MULTILINE), "a password that is not ephemeral"
