"""Programs that start at once: a process that has everything imported, and forks.

    bred = start(["run", "-c", "settler.toml"], stderr=write_end)
    bred.send_signal(signal.SIGKILL)
    await bred.wait()

`settler` takes most of a second to import, and tests start it hundreds of times. What is born here is a process of its
own that runs `settler.cli.main` with its own arguments, environment, directory and output, and ends as any other: by
itself, or by the signal it is sent. Only the importing was done before. That the installed program starts by itself is
for those tests to show that run it (`daemon.program`).

Module `main` is called instead of the program's if one is named: a test's own, that ends up there.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PROGRAM = "settler.cli"
PRELOADED = (
    "settler.runtime.supervisor",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic.command",
    "chains.web3_provider",
    "uvloop",
    "encodings.idna",
)
"""What commands load, beside the modules of `settler.cli` itself. web3 alone takes a second."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Bred:
    """A process that was forked, as its owner holds it: what `subprocess` calls Popen."""

    def __init__(self, pid: int, life: int) -> None:
        """`life`: the reading end of a pipe that is written to by nobody and closed when the process ends."""
        self.pid = pid
        self.returncode: int | None = None
        """Negative for a signal. Known once it was waited for."""
        self._life = life

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        if self.returncode is None:  # else its number may be another's by now
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit code, once it has ended. For one task."""
        if self.returncode is None:
            ended, loop = asyncio.Event(), asyncio.get_running_loop()
            loop.add_reader(self._life, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._life)
        return self._reaped()

    def wait_at_most(self, seconds: float) -> int:
        """As `wait`, blocking. Raises `TimeoutError` when it takes longer."""
        if self.returncode is None and not select.select([self._life], [], [], seconds)[0]:
            raise TimeoutError(f"process {self.pid} still runs after {seconds:g} s")
        return self._reaped()

    def _reaped(self) -> int:
        if self.returncode is None:
            self.returncode = _nursery().ask({"wait": self.pid})
            os.close(self._life)
        return self.returncode


def start(
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdout: int | IO[Any] = subprocess.DEVNULL,
    stderr: int | IO[Any] = subprocess.DEVNULL,
    main: str = PROGRAM,
) -> Bred:
    """Starts `main` with `args`; it reads nothing. `stdout` and `stderr`: where they go; the caller closes his ends."""
    request = {"args": list(args), "env": dict(env), "cwd": str(cwd or Path.cwd()), "main": main}
    ours, theirs = os.pipe()
    try:
        with Path(os.devnull).open("r+b", buffering=0) as nothing:
            ends = [nothing if end == subprocess.DEVNULL else end for end in (nothing, stdout, stderr)]
            fds = [end if isinstance(end, int) else end.fileno() for end in ends]
            return Bred(_nursery().ask(request, [*fds, theirs]), ours)
    finally:
        os.close(theirs)


class _Nursery:
    """The process that forks. Ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def ask(self, request: Mapping[str, Any], fds: Sequence[int] = ()) -> int:
        with self._lock:  # commands are run in threads too
            message = json.dumps(request).encode()
            socket.send_fds(self._ours, [len(message).to_bytes(4)], fds)
            self._ours.sendall(message)
            answer = self._ours.recv(4)
        assert answer, "the process that forks has ended"
        return int.from_bytes(answer, signed=True)

    def end(self) -> None:
        self._ours.close()
        self._process.wait()


@functools.cache
def _nursery() -> _Nursery:
    """One a test process, made when it is first wanted."""
    made = _Nursery()
    atexit.register(made.end)
    return made


# -- in the other process ----------------------------------------------------------------------------------------------


def serve(fd: int) -> None:
    """Forks as asked until nobody is there to ask. Returns never in itself; in a child, when its program has ended."""
    atexit.register(_leave)  # called last
    cli = importlib.import_module(PROGRAM)
    for name in (*PRELOADED, *(f"{PROGRAM}.{found.name}" for found in pkgutil.iter_modules(cli.__path__))):
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork takes no threads along"
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared
    with socket.socket(fileno=fd) as asked:
        while True:
            request, fds = _asked(asked)
            if "wait" in request:
                _, status = os.waitpid(request["wait"], 0)
                asked.send(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
                continue
            pid = os.fork()
            if pid == 0:
                break
            asked.send(pid.to_bytes(4, signed=True))
            for each in fds:
                os.close(each)
    _become(request, fds)


def _asked(asked: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size, fds, _flags, _address = socket.recv_fds(asked, 4, 4)
    if not size:
        os._exit(0)
    message = asked.recv(int.from_bytes(size), socket.MSG_WAITALL)
    request: dict[str, Any] = json.loads(message)
    return request, fds


def _become(request: Mapping[str, Any], fds: Sequence[int]) -> None:
    if sys.platform == "linux":  # a killed test run leaves nothing behind
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, each in enumerate(fds[:3]):
        os.dup2(each, number)
        os.close(each)  # the fourth stays open as long as the process lives
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["settler", *request["args"]]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 -- as long as the process
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        encoding="utf-8", errors="backslashreplace", line_buffering=True,
    )  # fmt: skip
    _ending["code"] = importlib.import_module(request["main"]).main()


_ending = {"code": 1}
"""What a child ends with; what raised never says."""


def _leave() -> None:
    """Ends a child when all else has been called that is called at an end: taking every module apart takes long."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_ending["code"])
