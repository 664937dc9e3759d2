"""`[telemetry]`, and the bounds of `[api]`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from ipaddress import ip_network
from pathlib import Path

import pytest

from settler.api.limits import NO_LIMITS
from settler.cli import main
from settler.clock import FakeClock
from settler.runtime.telemetry import bounds_of, limits_of
from tests.config.samples import BASE, problems, read

OTLP = '[telemetry]\notlp_endpoint = "http://127.0.0.1:4318"\n'


def test_load__without_the_tables__no_traces_and_sane_bounds(tmp_path: Path) -> None:
    settings = read(tmp_path, BASE)
    assert settings.telemetry.otlp_endpoint is None
    assert (settings.telemetry.sample_ratio, settings.telemetry.service_name) == (1.0, "settler")
    assert (settings.api.rate_limit_rps, settings.api.rate_limit_burst) == (500, 1_000)
    assert (settings.api.max_connections, settings.api.max_connections_per_address) == (1_000, 200)
    assert settings.api.trusted_proxies == ()


def test_load__bounds_of_the_api(tmp_path: Path) -> None:
    api = read(
        tmp_path,
        "[api]\nrate_limit_rps = 0\nrate_limit_burst = 1\nmax_connections = 5\nmax_connections_per_address = 0\n"
        'trusted_proxies = ["10.0.0.0/8", "::1"]\n' + BASE,
    ).api
    assert (api.rate_limit_rps, api.max_connections, api.max_connections_per_address) == (0, 5, 0)
    assert api.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1"))
    variable = {"SETTLER__API__TRUSTED_PROXIES": '["192.0.2.7"]'}
    assert read(tmp_path, BASE, variable).api.trusted_proxies == (ip_network("192.0.2.7"),)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example/", "https://otel.example/v1/traces"),
        ("https://otel.example/otlp/v1/traces", "https://otel.example/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_load__otlp_endpoint__has_its_path(tmp_path: Path, written: str, meant: str) -> None:
    assert read(tmp_path, OTLP.replace("http://127.0.0.1:4318", written) + BASE).telemetry.otlp_endpoint == meant


@pytest.mark.parametrize(
    ("table", "line", "says"),
    [
        ("telemetry", 'otlp_endpoint = "127.0.0.1:4318"', "is no URL of a collector"),
        ("telemetry", 'otlp_endpoint = "grpc://a.example"', "is no URL of a collector"),
        ("telemetry", 'otlp_endpoint = "http://"', "is no URL of a collector"),
        ("telemetry", 'otlp_endpoint = "http://a.example:99999"', "is no URL of a collector"),
        ("telemetry", 'otlp_endpoint = "http://a.example/\\n"', "is no URL of a collector"),
        ("telemetry", 'otlp_endpoint = "http://me:k3y@a.example"', "OTEL_EXPORTER_OTLP_HEADERS"),
        ("telemetry", 'otlp_endpoint = "http://a.example/?key=k3y"', "OTEL_EXPORTER_OTLP_HEADERS"),
        ("telemetry", "sample_ratio = 1.1", "give 0 to 1 of all traces"),
        ("telemetry", "sample_ratio = nan", "is out of range"),
        ("telemetry", "sample_ratio = true", "true is not a number"),
        ("telemetry", 'service_name = ""', "is no name"),
        ("telemetry", 'service_name = "a\\nb"', "is no name"),
        ("telemetry", "endpoint = 1", "did you mean otlp_endpoint?"),
        ("api", "rate_limit_rps = -1", "out of range"),
        ("api", "rate_limit_rps = nan", "out of range"),
        ("api", "rate_limit_burst = 0", "out of range"),
        ("api", "max_connections = 0", "out of range"),
        ("api", 'trusted_proxies = "10.0.0.0/8"', "is no list"),
        ("api", 'trusted_proxies = ["10.0.0.1/8"]', "is no network"),
        ("api", "trusted_proxies = [10]", "10 is no network"),
        ("api", 'trusted_proxies = ["proxy.example"]', "is no network"),
    ],
)
def test_load__wrong__is_named(tmp_path: Path, table: str, line: str, says: str) -> None:
    found = problems(tmp_path, f"[{table}]\n{line}\n{BASE}")
    assert list(found) == [f"{table}.{line.split(' ', maxsplit=1)[0]}"]
    (message,) = found.values()
    assert says in message
    assert "k3y" not in message


class Missing:
    """As though the extra `otel` were not installed."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
        return None


@pytest.fixture
def without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])


@pytest.mark.usefixtures("without_opentelemetry")
def test_load__traces_without_the_extra__says_how_to_install_it(tmp_path: Path) -> None:
    found = problems(tmp_path, OTLP + BASE)
    assert "pip install 'settler[otel]'" in found["telemetry.otlp_endpoint"]
    assert read(tmp_path, BASE).telemetry.otlp_endpoint is None


@pytest.mark.usefixtures("without_opentelemetry")
def test_run__traces_without_the_extra__exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settler.toml"
    file.write_text(OTLP + BASE)
    assert main(["run", "-c", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: telemetry.otlp_endpoint: ")
    assert "pip install 'settler[otel]'" in line


def test_limits__without_keys_nobody_is_limited__with_keys_as_configured(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    table = '[api]\nrate_limit_rps = 2\nrate_limit_burst = 3\nauth = "{}"\n'
    assert limits_of(read(tmp_path, table.format("none") + BASE).api, clock) is NO_LIMITS
    limits = limits_of(read(tmp_path, table.format("keys") + BASE).api, clock)
    assert [limits.keys.take("a") for _ in range(4)] == [None, None, None, 0.5]
    assert [limits.addresses.take("a") for _ in range(2)] == [None, 2.5], "strangers have a fifth of it"


def test_bounds__are_those_of_the_file(tmp_path: Path) -> None:
    table = '[api]\nmax_connections = 5\nmax_connections_per_address = 2\ntrusted_proxies = ["10.0.0.0/8"]\n'
    bounds = bounds_of(read(tmp_path, table + BASE).api)
    assert (bounds.max_connections, bounds.max_per_address) == (5, 2)
    assert tuple(bounds.proxies) == (ip_network("10.0.0.0/8"),)
