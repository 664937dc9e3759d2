"""The chart, as far as it can be told without Helm: what its values make of settler's configuration, and that its parts
belong together. Helm itself, Kubernetes' schemas and checkov are in tests/system/test_deploy_lint.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

import settler
from settler.config import ConfigError, Settings, load

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "settler"
SETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
XPUB = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"
SECRETS = {
    "SETTLER__DATABASE__URL": "postgresql://settler:word@database/settler",
    "SETTLER__DEPOSITS__XPUB": XPUB,
}
RPC = '["https://one.example/key", "https://two.example/key"]'
Values = dict[str, Any]


def read(path: Path) -> Values:
    values = yaml.safe_load(path.read_text())
    assert isinstance(values, dict)
    return values


def merged(base: Values, over: Values) -> Values:
    """As Helm does it: tables are merged, everything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return out


def values_of(name: str) -> Values:
    return merged(read(CHART / "values.yaml"), read(CHART / "ci" / f"{name}-values.yaml"))


def templates() -> str:
    return "\n".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())


def loaded(values: Values, folder: Path) -> Settings:
    """The configuration that a pod of these values starts with."""
    file = folder / "settler.toml"
    file.write_text(values["config"])
    environ = {
        name: {"SETTLER__RUNTIME__WORKER": "settler-5d4f-x2x7", "SETTLER__RUNTIME__LOG_FORMAT": "json"}.get(name, "")
        for name in re.findall(r"^- name: (SETTLER__\w+)$", templates(), re.MULTILINE)
    }
    environ["SETTLER__RUNTIME__DRAIN_TIMEOUT_S"] = str(values["drainTimeoutSeconds"])
    environ["SETTLER__API__LISTEN"] = f"{values['listen']['host']}:{values['listen']['port']}"
    environ.pop("SETTLER__DATABASE__URL_FILE")  # of the migration, and always of the Secret
    assert "" not in environ.values(), "a variable of the templates that this test gives no value"
    keys = [key for key in values["secrets"]["values"] or values["secrets"]["keys"] if key.startswith("SETTLER__")]
    for key in keys:
        secret = folder / key
        secret.write_text(values["secrets"]["values"].get(key) or SECRETS.get(key, RPC))
        environ[f"{key}_FILE"] = str(secret)
    return load(file, environ)


@pytest.mark.parametrize("name", SETS)
def test_values__with_their_secrets__are_a_configuration(name: str, tmp_path: Path) -> None:
    values = values_of(name)
    settings = loaded(values, tmp_path)
    assert settings.database_url.startswith("postgresql://"), "several workers need PostgreSQL"
    assert settings.runtime.worker_name == "settler-5d4f-x2x7"
    assert settings.runtime.drain_timeout_s == values["drainTimeoutSeconds"]
    assert not settings.api.listen.is_loopback
    assert all(len(chain.rpc) > 0 for chain in settings.chains.values())


def test_values__with_a_setting_that_there_is_not__are_refused(tmp_path: Path) -> None:
    values = values_of("minimal")
    with pytest.raises(ConfigError):
        loaded(merged(values, {"config": values["config"] + "\n[chains.base.tokenz]\n"}), tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_values_schema__accepts_the_sets(name: str) -> None:
    jsonschema_rs.validate(json.loads((CHART / "values.schema.json").read_text()), values_of(name))


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"replicas": 0},
        {"replicas": "2"},
        {"image": {"digest": "sha256:short"}},
        {"probes": {"readinessPath": "/metrics"}},
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        {"secrets": {"keys": []}},
        {"secrets": {"values": {"SETTLER__DATABASE__URL": ""}}},
        {"listen": {"port": 80}},
        {"networkPolicy": {"https": {"ports": ["443"]}}},
        {"resources": {"limits": {"cpu": 2}}},
    ],
)
def test_values_schema__a_mistake__is_refused(wrong: Values) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, merged(values_of("minimal"), wrong))


def test_values_schema__every_default__is_in_it_and_nothing_else() -> None:
    def below(schema: Values, values: Values, where: str) -> None:
        known = set(schema["properties"]) - {"global"}  # Helm's own
        assert known == set(values), where
        for key, inner in schema["properties"].items():
            if key != "resources" and "properties" in inner:
                assert inner["additionalProperties"] is False, f"{where}.{key}"
                below(inner, values[key], f"{where}.{key}")

    below(json.loads((CHART / "values.schema.json").read_text()), read(CHART / "values.yaml"), "values")


def test_templates__every_value_they_ask_for__has_a_default() -> None:
    values = read(CHART / "values.yaml")
    asked = set(re.findall(r"\.Values((?:\.\w+)+)", templates()))
    assert asked, "the pattern finds nothing"
    for path in asked:
        at: Any = values
        for part in path.strip(".").split("."):
            assert isinstance(at, dict) and part in at, f".Values{path} has no default"
            at = at[part]


def test_templates__every_default__is_asked_for() -> None:
    text = templates()
    for key, value in read(CHART / "values.yaml").items():
        names = [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]
        for name in names:
            whole = rf"\.Values\.{key}\b(?!\.)"  # handed on as it is
            alias = rf"\$policy\.{name.partition('.')[2]}\b" if key == "networkPolicy" else r"(?!)"
            assert re.search(rf"\.Values\.{re.escape(name)}\b|{whole}|{alias}", text), f"{name} is used nowhere"


@pytest.mark.parametrize(("link", "target"), [("rules", "prometheus/rules"), ("dashboards", "grafana/dashboards")])
def test_chart_files__are_the_repositorys_own(link: str, target: str) -> None:
    """Links: Helm puts what they lead to into a package, and nothing can differ."""
    path = CHART / "files" / link
    assert path.is_symlink()
    assert path.resolve() == ROOT / "deploy" / target
    assert list(path.iterdir())


def test_chart__is_of_this_release() -> None:
    assert read(CHART / "Chart.yaml")["appVersion"] == settler.__version__


def test_probes__liveness_and_startup__never_ask_for_readiness() -> None:
    """A chain that is halted is not mended by restarts."""
    text = (CHART / "templates" / "deployment.yaml").read_text()
    for probe in ("startupProbe", "livenessProbe"):
        assert re.search(rf"{probe}:\n +httpGet: {{path: /livez, port: http}}", text), probe
    assert read(CHART / "values.yaml")["probes"]["readinessPath"] == "/livez"


@pytest.mark.parametrize("name", SETS)
def test_ingress__shows_nothing_of_the_machine_room(name: str) -> None:
    paths = values_of(name)["ingress"]["paths"]
    assert {"/v1", "/pay", "/static"} <= set(paths)
    assert not {path for path in paths if path == "/" or path.startswith(("/metrics", "/ops", "/livez", "/readyz"))}
