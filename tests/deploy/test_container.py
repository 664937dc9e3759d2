"""deploy/Dockerfile and deploy/compose.yaml agree with the rest of the repository: what they name is there, and is what
settler takes. Read, not run: tests/system runs them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from chains.address import to_checksum
from settler.anvil import dev_accounts
from settler.config import load
from settler.demo import customers, traffic
from settler.demo.customers import Customer

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
SETTLERS = ("settler-a", "settler-b", "migrate", "demo")


def with_defaults(text: str) -> str:
    """`${NAME:-default}` as Compose reads it where the variable is not set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if line[:1].isalnum())


@pytest.mark.parametrize("lock", ["deploy/runtime.lock", "deploy/build.lock"])
def test_lock_of_the_image__pins__are_those_that_were_tested(lock: str) -> None:
    tested, shipped = pins("requirements.lock"), pins(lock)
    assert shipped
    assert shipped.items() <= tested.items(), f"run make lock: {shipped.items() - tested.items()}"


def test_lock_of_the_image__what_only_tests_need__is_not_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {
        group: {re.split(r"[<>=\[; ]", line)[0] for line in lines}
        for group, lines in {**project["optional-dependencies"], "": project["dependencies"]}.items()
    }
    shipped = set(pins("deploy/runtime.lock"))
    assert names[""] | names["otel"] | names["nats"] <= shipped
    assert not (names["dev"] - {"pyyaml"}) & shipped
    assert not names["parquet"] & shipped, "pyarrow alone is as large as all the rest"


def test_dockerfile__what_it_copies__is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    text = DOCKERFILE.replace("${LOCK}", re.findall(r"^ARG LOCK=(\S+)", DOCKERFILE, re.MULTILINE)[0])
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    assert len(copied) >= 8
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(Path(name).match(pattern) or Path(name).is_relative_to(pattern) for pattern in allowed), name


def test_dockerfile__every_package_of_the_project__is_copied() -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for package in {name.split(".")[0] for name in found}:
        assert f"COPY {package} {package}\n" in DOCKERFILE


def test_dockerfile__the_base__is_one_release_of_one_distribution_everywhere() -> None:
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+", base)
    assert with_defaults(COMPOSE["x-settler"]["build"]["args"]["BASE_IMAGE"]) == base


def test_compose__images__name_one_release_each() -> None:
    for name, service in SERVICES.items():
        image = with_defaults(service["image"])
        if name not in (*SETTLERS, "secrets"):
            assert re.fullmatch(r"[a-z.]+/[a-z/-]+:v?\d+\.\d+(\.\d+)?(-\w+)?", image), f"{name}: {image}"


def test_compose__what_is_mounted__is_there() -> None:
    mounted = [
        with_defaults(volume).split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])
    ]
    files = [name for name in mounted if name.startswith(".")]
    assert len(files) >= 8
    for name in files:
        assert (DEPLOY / name).exists(), name
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_compose__every_service__is_hardened_and_bounded() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["mem_limit"] and service["cpus"] and service["pids_limit"], name
        assert service["restart"] in ("unless-stopped", "no"), name
        assert "privileged" not in service
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is reached from this machine alone"


def test_compose__waiting__is_for_services_that_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, on in service.get("depends_on", {}).items():
            if on["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
            else:
                assert SERVICES[other]["restart"] == "no", f"{name} waits for {other} to end"


def test_compose__secrets__stand_in_no_variable() -> None:
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|URL", key):
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert value.startswith("/run/settler-secrets/"), f"{name}: {key}"


@pytest.mark.parametrize("service", SETTLERS)
def test_compose__settlers_configuration__is_taken_as_it_is(service: str, tmp_path: Path) -> None:
    """The mounted file, the compose file's variables and the image's own: real settings, all of them."""
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://settler:x@postgres/settler")
    environ = dict(re.findall(r"^(?:ENV|   ) (?:PATH=\S+ )?(SETTLER__\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
    assert environ == {"SETTLER__API__LISTEN": "0.0.0.0:8080"}
    environ |= {key: str(secret) for key in SERVICES[service]["environment"] if key.endswith("_FILE")}
    settings = load(DEPLOY / "compose" / "settler.toml", environ)
    assert settings.database_url == secret.read_text()
    assert settings.api.auth == "keys", "the API is reached from outside of the container"
    (volume,) = [v for v in SERVICES[service]["volumes"] if v.endswith("/etc/settler/settler.toml:ro")]
    assert with_defaults(volume).startswith("./compose/settler.toml:")


def test_compose__a_worker_that_is_stopped__may_drain() -> None:
    settings = load(DEPLOY / "compose" / "settler.toml", {})
    for name in ("settler-a", "settler-b"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > settings.runtime.drain_timeout_s
        assert SERVICES[name]["hostname"] == name, "its name in leases and logs"


def test_compose__prometheus__scrapes_every_worker() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {t for job in scraped for static in job["static_configs"] for t in static["targets"]}
    assert targets == {"settler-a:8080", "settler-b:8080"}


def test_demo__the_token__comes_to_the_address_that_is_configured() -> None:
    """CREATE of the first account's first transaction: keccak(rlp([sender, 0]))[12:]."""
    sender = bytes.fromhex(dev_accounts()[0].address[2:])
    first = to_checksum_address(keccak(b"\xd6\x94" + sender + b"\x80")[12:])
    settings = load(DEPLOY / "compose" / "settler.toml", {})
    (token,) = settings.chains[traffic.CHAIN].tokens
    assert (token.symbol, token.decimals, to_checksum(token.address)) == (traffic.TOKEN, traffic.DECIMALS, first)


def test_demo__reorgs__stay_above_what_is_final() -> None:
    configured = tomllib.loads((DEPLOY / "compose" / "settler.toml").read_text())
    assert configured["chains"][traffic.CHAIN]["finality"] > traffic.REORG_DEPTH


@pytest.mark.parametrize(
    ("customer", "sum_base", "count"),
    [
        (Customer.EXACT, 100, 1),
        (Customer.IN_PARTS, 100, 2),
        (Customer.TOO_MUCH, 100 + customers.UNIT, 1),
        (Customer.TWICE, 200, 2),
        (Customer.TOO_LITTLE, 50, 1),
        (Customer.NEVER, 0, 0),
    ],
)
def test_demo__a_customer__sends_what_its_name_says(customer: Customer, sum_base: int, count: int) -> None:
    sent = customers.parts(customer, 100)
    assert (sum(part.amount_base for part in sent), len(sent)) == (sum_base, count)
    assert [part.after_s for part in sent] == sorted(part.after_s for part in sent)
    assert customer in customers.TURNS


def test_demo__a_second_payment__comes_before_the_invoice_expires() -> None:
    for customer in Customer:
        for part in customers.parts(customer, 100):
            assert part.after_s < customers.expires_in_s(customer)
