"""Containers without a registry: the shipped Dockerfile and compose file, run by podman on stand-ins for the images
they start from. `make test-system` installs what this needs.

The stand-in of the Python image is Debian's own bookworm with Debian's Python, made by mmdebstrap and kept in podman's
storage: the Dockerfile under test is built unchanged. Hosts and certificates are the machine's own, read when a test
runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from settler.anvil import find_anvil

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
STANDIN = ROOT / "tests" / "system" / "standin"
SUITE = "bookworm"
PREFIX = "localhost/settler-test"
ROOTFS = f"{PREFIX}/rootfs:{SUITE}"
IMAGE = f"{PREFIX}/settler:now"
"""The image under test."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_S = 900
"""A machine that has nothing yet downloads some 300 MB."""
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=512m")
"""As deploy/compose.yaml and the Helm chart run it."""

# runc and lower limits: podman's own defaults want more rights than a container that podman runs in may have.
_CONF = """\
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_NOISE = re.compile(r"^time=.*(systemd|healthcheck).*\n", re.MULTILINE)
"""podman without systemd says so at each start: it cannot set timers. Tests ask for health by themselves."""


class ContainerError(AssertionError):
    """A command of podman's failed."""


@functools.cache
def environment() -> Mapping[str, str]:
    """For podman and what drives it."""
    conf = Path(tempfile.mkdtemp(prefix="settler-containers-")) / "containers.conf"
    conf.write_text(_CONF)
    return {**os.environ, "CONTAINERS_CONF": str(conf)}


def podman(*args: str, may_fail: bool = False, timeout_s: float = 120) -> str:
    """What it says on stdout."""
    done = subprocess.run(
        ["podman", *args],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0 and not may_fail:
        raise ContainerError(f"podman {' '.join(args)}: {done.returncode}\n{_NOISE.sub('', done.stderr)[-4_000:]}")
    return done.stdout.strip()


def run_once(*args: str, options: Sequence[str] = (), image: str = IMAGE) -> tuple[int, str, str]:
    """A container to its end, hardened: exit code, stdout, stderr."""
    done = subprocess.run(
        ["podman", "run", "--rm", *HARDENED, *options, image, *args],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, _NOISE.sub("", done.stderr)


@contextmanager
def container(*args: str, options: Sequence[str] = (), image: str = IMAGE) -> Iterator[str]:
    """One that runs during the block; its id. Removed with its anonymous volumes."""
    id_ = podman("run", "--detach", *HARDENED, *options, image, *args)
    try:
        yield id_
    finally:
        podman("rm", "--force", "--time=0", "--volumes", id_, may_fail=True)


def inspected(id_: str) -> dict[str, Any]:
    (found,) = json.loads(podman("inspect", id_))
    return dict(found)


def logs_of(id_: str) -> str:
    """Both streams."""
    return subprocess.run(
        ["podman", "logs", id_],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def is_healthy(id_: str) -> bool:
    """What the image's own HEALTHCHECK says now."""
    return (
        subprocess.run(
            ["podman", "healthcheck", "run", id_], env=environment(), capture_output=True, check=False
        ).returncode
        == 0
    )


def exists(image: str) -> bool:
    return bool(podman("images", "--quiet", image, may_fail=True))


# -- images ------------------------------------------------------------------------------------------------------------


def python_base() -> str:
    """The stand-in of docker.io/library/python:3.11-slim-bookworm. Made once a machine: half a minute, or two."""
    image = _named("python", CERTIFICATES.read_bytes(), _pip_conf().encode())
    if not exists(image):
        with tempfile.TemporaryDirectory(prefix="settler-standin-") as folder:
            if not exists(ROOTFS):
                tar = Path(folder) / "rootfs.tar"
                packages = "python3,python3-venv,ca-certificates"
                subprocess.run(
                    [
                        "mmdebstrap",
                        "--quiet",
                        "--variant=minbase",
                        f"--include={packages}",
                        SUITE,
                        str(tar),
                        *_mirror(),
                    ],
                    check=True,
                    timeout=BUILD_S,
                    capture_output=True,
                )
                podman("import", str(tar), ROOTFS, timeout_s=BUILD_S)
            context = Path(folder) / "context"
            context.mkdir()
            (context / "Dockerfile").write_text(
                f"FROM {ROOTFS}\nCOPY ca-certificates.crt {CERTIFICATES}\nCOPY pip.conf /etc/pip.conf\n"
            )
            shutil.copy(CERTIFICATES, context)
            (context / "pip.conf").write_text(_pip_conf())
            podman("build", "--quiet", f"--tag={image}", str(context), timeout_s=BUILD_S)
    return image


def services_image() -> str:
    """PostgreSQL, Prometheus, Alertmanager and anvil, for compose.yaml. Made once a machine."""
    image = _named(
        "services",
        python_base().encode(),
        str(find_anvil().stat().st_size).encode(),
        *(file.read_bytes() for file in sorted(STANDIN.iterdir())),
    )
    if not exists(image):
        with tempfile.TemporaryDirectory(prefix="settler-standin-") as folder:
            context = Path(folder) / "context"
            shutil.copytree(STANDIN, context)
            shutil.copy(find_anvil(), context / "anvil")
            base = f"--build-arg=BASE={python_base()}"
            podman("build", "--quiet", "--network=host", base, f"--tag={image}", str(context), timeout_s=BUILD_S)
    return image


def _named(what: str, *contents: bytes) -> str:
    """A name that changes with what the image is made of."""
    return f"{PREFIX}/{what}:{hashlib.sha256(b''.join(contents)).hexdigest()[:12]}"


def _mirror() -> list[str]:
    """The machine's own, where it has one of Debian; else mmdebstrap's default."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    found = re.search(r"^URIs:\s*(\S+)", sources.read_text(), re.MULTILINE) if sources.exists() else None
    return [found[1]] if found else []


def _pip_conf() -> str:
    """What pip on this machine is told, where it says something of a package index."""
    lines = ["[global]", f"cert = {CERTIFICATES}"]
    for key in ("index-url", "proxy"):
        told = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{key}"], capture_output=True, text=True, check=False
        )
        if told.returncode == 0:
            lines.append(f"{key} = {told.stdout.strip()}")
    return "\n".join(lines) + "\n"


# -- compose -----------------------------------------------------------------------------------------------------------


def tool(name: str) -> Path:
    """A program of deploy/lint.lock."""
    found = ROOT / ".lint" / "bin" / name
    assert found.exists(), f"{found} is missing: run deploy/lint.sh install"
    return found


@asynccontextmanager
async def engine() -> AsyncIterator[str]:
    """The URL of podman's service, which Docker Compose takes for Docker's; health checks are run meanwhile."""
    with tempfile.TemporaryDirectory(prefix="settler-podman-") as folder:
        socket = Path(folder) / "podman.sock"
        service = await asyncio.create_subprocess_exec(
            "podman", "system", "service", "--time=0", f"unix://{socket}",
            env=environment(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        checking = asyncio.create_task(_check_health(), name="health checks")
        try:
            async with asyncio.timeout(30):
                while not socket.exists():  # noqa: ASYNC110 -- another process makes it
                    await asyncio.sleep(0.05)
            yield f"unix://{socket}"
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)
            with contextlib.suppress(ProcessLookupError):
                service.terminate()
            await service.wait()


async def _check_health() -> None:
    """What systemd's timers do elsewhere: runs each container's health check every second or so."""
    while True:
        names = await _said("podman", "ps", "--filter=label=com.docker.compose.project", "--format={{.ID}}")
        for name in names.split():
            await _said("podman", "healthcheck", "run", name)
        await asyncio.sleep(1)


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out.decode()
