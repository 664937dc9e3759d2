"""The image, built by deploy/container/build.sh from the shipped Dockerfile, and run by podman as deploy/ runs it: no
root, nothing to write but /data and /tmp, no capability.

What it is built on is a stand-in (tests/support/containers.py): the official image cannot be had without a registry.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chains.model import Address
from settler import __version__, devchain
from settler.anvil import Anvil, find_anvil
from tests.support import containers
from tests.support.containers import IMAGE, ROOT, container, environment, inspected, logs_of, podman, run_once, tool
from tests.support.daemon import Api, ChainTable, TokenTable, due, pay_to, show, token_of, until, write_config

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

LIMIT_MB = 200
"""Of issue 7; megabytes of 10^6 bytes, as `podman images` and `docker images` count."""
USER = 10001
DRAIN_S = 10.0
"""runtime.drain_timeout_s, the default."""


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The image, built; the bill of materials that was made of it."""
    said = subprocess.run(
        [ROOT / "deploy/container/build.sh", IMAGE],
        env={
            **environment(),
            "CONTAINER_TOOL": "podman",
            "BASE_IMAGE": containers.python_base(),
            "BUILD_FLAGS": "--network=host",
            "SYFT": str(tool("syft")),
        },
        capture_output=True,
        text=True,
        timeout=containers.BUILD_S,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-4_000:]
    made: dict[str, Any] = json.loads((ROOT / "build" / f"settler-{__version__}.spdx.json").read_text())
    return made


@pytest.fixture(scope="module")
def image(bill: dict[str, Any]) -> str:
    return IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A chain, and what a container is told of it. It shares the host's network, for anvil listens on loopback."""

    node: Anvil
    folder: Path
    port: int

    def options(self, *more: str) -> list[str]:
        return [
            "--network=host",
            f"--env=SETTLER__API__LISTEN=127.0.0.1:{self.port}",
            f"--volume={self.folder / 'settler.toml'}:/etc/settler/settler.toml:ro",
            f"--volume={self.folder / 'data'}:/data",
            *more,
        ]


@asynccontextmanager
async def a_place(folder: Path) -> AsyncIterator[Place]:
    async with Anvil(find_anvil(), block_time_s=1) as node:
        token = await devchain.deploy_token(node)
        await devchain.mint(node, token, devchain.address_of(node.accounts[1]), 10**12)
        config = write_config(
            folder,
            ChainTable(rpc=node.url, tokens=[TokenTable(address=token)], finality=2),
            database="sqlite:////data/settler.db",
        )
        config.chmod(0o644)
        (folder / "data").mkdir()
        os.chown(folder / "data", USER, USER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield Place(node=node, folder=folder, port=port)


async def settled(place: Place, api: Api) -> dict[str, Any]:
    """A new invoice, paid and settled."""
    await api.is_ready()
    made = await api.create("25.00")
    await devchain.transfer(place.node, place.node.accounts[1], token_of(made), pay_to(made), due(made))
    return await api.reaches(made, "settled")


@asynccontextmanager
async def an_api(place: Place) -> AsyncIterator[Api]:
    address = f"http://127.0.0.1:{place.port}"
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                async with session.get(f"{address}/livez") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(answers, bool, what="the container's API to answer")
        yield Api(session, address)


def test_image__size__is_below_the_limit(image: str) -> None:
    """The whole of it: nothing below it is left out, since it starts from nothing (`FROM scratch`)."""
    size_mb = int(podman("image", "inspect", image, "--format={{.Size}}")) / 1e6
    show(f"image {size_mb:.1f} MB")
    assert size_mb < LIMIT_MB


def test_image__what_it_says_of_itself__is_what_schedulers_and_scanners_read(image: str) -> None:
    (found,) = json.loads(podman("image", "inspect", image))
    config = found["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["settler"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert "8080/tcp" in config["ExposedPorts"]
    assert found["Healthcheck"]["Test"][0] == "CMD", "no shell is needed to ask"
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.base.name"] == containers.python_base()
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    assert labels["dev.settler.sbom"] == "/usr/share/sbom/settler.spdx.json"


def test_image__files__no_shell_no_installer_nothing_set_uid_nothing_to_write(image: str, tmp_path: Path) -> None:
    id_ = podman("create", image)
    try:
        listing = subprocess.run(
            f"podman export {id_} | tar -tv --numeric-owner",
            shell=True,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    finally:
        podman("rm", id_)
    entries = [(line.split()[0], line.split()[1], line.split()[5]) for line in listing]
    names = {name.split("/")[-1] for _, _, name in entries}
    for absent in ("sh", "bash", "dash", "apt", "dpkg", "gcc", "ld", "pip", "pip3", "perl", "strip", "curl"):
        assert absent not in names, absent
    paths = [name for _, _, name in entries]
    assert not [p for p in paths if "/site-packages/pip/" in p or "/site-packages/setuptools/" in p]
    assert not [p for p in paths if "/tests/" in p], "tests are not shipped"
    assert not [name for mode, _, name in entries if "s" in mode[1:].lower()], "set-uid or set-gid"
    own = [name for _, owner, name in entries if owner == f"{USER}/{USER}"]
    assert own == ["data/"]
    assert [name for mode, _, name in entries if mode[8] == "w" and mode[0] != "l"] == ["tmp/"]


def test_image__bill_of_materials__lists_what_was_locked(image: str, bill: dict[str, Any]) -> None:
    listed = {(p["name"].lower(), p["versionInfo"]) for p in bill["packages"]}
    names = {name for name, _ in listed}
    assert ("settler", __version__) in listed
    assert {"python", "libc6", "libssl3", "libsqlite3-0"} <= names, "the base's own, by Debian's records"
    here = {
        (p["name"], p["version"])
        for p in json.loads(
            subprocess.run(
                [ROOT / ".venv/bin/python", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    }
    lock = (ROOT / "deploy/runtime.lock").read_text()
    locked = {tuple(line.split(" ")[0].split("==")) for line in lock.splitlines() if line[:1].isalnum()}
    ours = {(name, version) for name, version in locked if (name, version) in here}
    assert len(ours) > 60
    assert ours <= listed, ours - listed
    _, said, _ = run_once(
        "-c", "print(open('/usr/share/sbom/settler.spdx.json').read())", options=["--entrypoint=python"]
    )
    assert json.loads(said) == bill, "what lies beside the image lies in it"


def test_version__root_read_only_no_network__answers_quickly(image: str) -> None:
    began = time.monotonic()
    code, out, err = run_once("--version", options=["--network=none"])
    show(f"--version in {time.monotonic() - began:.2f} s")
    assert (code, out.strip(), err) == (0, f"settler {__version__}", "")


def test_interpreter__every_part_that_runs__is_there_and_compiled(image: str) -> None:
    """Compiled modules load with the libraries that were copied; nothing that is imported is compiled again."""
    code, out, err = run_once(
        "-c",
        "import bz2, ctypes, curses, lzma, readline, sqlite3, ssl, zlib, zoneinfo\n"
        "import aiohttp, msgspec, nats, psycopg, regex, sqlalchemy, uvloop, web3\n"
        "import opentelemetry.exporter.otlp.proto.http.trace_exporter, settler.runtime.supervisor, settler.cli\n"
        "import os, sys\n"
        "zoneinfo.ZoneInfo('Europe/Berlin'); assert psycopg.pq.__impl__ == 'binary'\n"
        "assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 50\n"
        "loose = [n for n, m in sys.modules.items() if getattr(m, '__cached__', None)\n"
        "         and not os.path.exists(m.__cached__)]\n"
        "assert not loose, loose\n"
        "print(os.getuid(), os.getgid(), os.getcwd())",
        options=["--network=none", "--entrypoint=python"],
    )
    assert (code, out.strip()) == (0, f"{USER} {USER} /etc/settler"), err


def test_no_configuration__says_what_is_missing_and_exits_2(image: str) -> None:
    code, _, err = run_once("run", options=["--network=none"])
    assert code == 2
    assert "settler.toml: cannot be read" in err
    assert "Traceback" not in err


async def test_run__a_payment__settles_within_256_mb_and_is_there_after_a_stop(image: str, tmp_path: Path) -> None:
    """Its whole life: migrate, check, run, a payment, SIGTERM, and again from the same volume."""
    async with a_place(tmp_path) as place:
        for command in ("migrate", "check"):
            code, out, err = run_once(command, options=place.options())
            assert code == 0, f"{command}: {out}{err}"
        with container(options=place.options("--memory=256m")) as id_:
            async with an_api(place) as api:
                await until(lambda: _healthy(id_), bool, what="the image's HEALTHCHECK to say healthy")
                invoice = await settled(place, api)
            process = inspected(id_)["State"]["Pid"]
            status = Path(f"/proc/{process}/status").read_text()
            assert f"Uid:\t{USER}\t{USER}" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            show(next(line for line in status.splitlines() if line.startswith("VmHWM")))
            began = time.monotonic()
            podman("stop", "--time=30", id_)
            took_s = time.monotonic() - began
            assert inspected(id_)["State"]["ExitCode"] == 0
            assert took_s < DRAIN_S + 5, "it drains, and is not killed"
            events = [json.loads(line) for line in logs_of(id_).splitlines() if line.startswith("{")]
            assert events[-1]["event"] == "daemon.stopped"
            assert events[-1]["drained"] is True
            show(f"SIGTERM to the end in {took_s:.2f} s")
        with container(options=place.options()) as again:
            async with an_api(place) as api:
                assert (await api.invoice(invoice))["status"] == "settled"
                assert inspected(again)["HostConfig"]["ReadonlyRootfs"] is True


async def _healthy(id_: str) -> bool:
    return containers.is_healthy(id_)


async def test_run__killed__is_started_again_and_goes_on(image: str, tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        with container(options=place.options("--restart=on-failure:3")) as id_:
            async with an_api(place) as api:
                first = await settled(place, api)
            killed = inspected(id_)["State"]["Pid"]
            os.kill(killed, signal.SIGKILL)
            await until(lambda: _running(id_, killed), bool, what="podman to start it again")
            async with an_api(place) as api:
                assert (await api.invoice(first))["status"] == "settled"
                await settled(place, api)
            assert inspected(id_)["RestartCount"] == 1


async def _running(id_: str, not_pid: int) -> bool:
    state = inspected(id_)["State"]
    return bool(state["Running"]) and state["Pid"] not in (0, not_pid)


def test_healthcheck__nobody_listens__says_so(image: str) -> None:
    code, out, _ = run_once("-I", "-S", "/opt/healthcheck.py", options=["--network=none", "--entrypoint=python"])
    assert code == 1
    assert "no answer at 0.0.0.0:8080" in out


def test_secret_from_a_file__is_used_and_shown_nowhere(image: str, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://settler:hunter2@127.0.0.1:1/settler")
    secret.chmod(0o644)
    config = write_config(
        tmp_path, ChainTable(rpc="http://127.0.0.1:1", tokens=[TokenTable(address=Address(b"\1" * 20))])
    )
    config.chmod(0o644)
    options = [
        f"--volume={config}:/etc/settler/settler.toml:ro",
        f"--volume={secret}:/run/secrets/url:ro",
        "--env=SETTLER__DATABASE__URL_FILE=/run/secrets/url",
        "--env=SETTLER__API__AUTH=keys",
    ]
    code, out, err = run_once("migrate", options=options)
    assert code == 1
    assert "127.0.0.1" in err
    assert "hunter2" not in out + err
