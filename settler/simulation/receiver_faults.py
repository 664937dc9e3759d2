"""What a webhook receiver, its name server or the way to it may do to us, by name.

What a receiver says with a 2xx it has processed: that is what the word means. All else says nothing about it: who
answers 502, garbage or not at all may have worked before.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from typing import TypeAlias

Part: TypeAlias = tuple[float, bytes]
"""Seconds to wait, then bytes to say."""

NAME_FAULTS = ("name does not resolve", "name server is silent", "DNS rebinding")
CONNECT_FAULTS = ("refuses connections", "connection hangs")
PRIVATE = (
    *("127.0.0.1", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.7", "0.0.0.1"),
    *("168.63.129.16", "::1", "::", "fd00::1", "fe80::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::a9fe:a9fe", "2002:7f00:1::1"),
)
"""Where nobody may be led: somebody listens at each, and whoever comes is a violation."""
REDIRECTED = "/redirected"
"""The path at a receiver that redirects lead to, and nothing else."""
HUGE_BYTES = 8_388_608
_PIECE = bytes(65_536)


class End(Enum):
    """After the last part, the receiver …"""

    CLOSES = "closes"
    RESETS = "resets"
    HANGS = "hangs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a receiver does with one request."""

    processes: bool
    think_s: float = 0.0
    """From the request's last byte to the processing, if any, and the beginning of the answer."""
    parts: Iterable[Part] = ()
    end: End = End.CLOSES
    code: int | None = None
    """The status that is answered; `None`: none, or none that can be read."""

    def __post_init__(self) -> None:
        assert self.processes or self.code is None or not 200 <= self.code <= 299, "a 2xx is given for what was taken"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may look at."""

    random: random.Random
    now: datetime
    think_s: float
    """As long as this receiver takes for this request when all is well."""
    others: Sequence[str]
    """`http://host` of all receivers."""


Fault: TypeAlias = Callable[[Scene], Plan]


def answer(code: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {code} {_PHRASES.get(code, 'Status')}", *headers]
    if code != 204:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


_PHRASES = {200: "OK", 204: "No Content", 302: "Found", 410: "Gone", 429: "Too Many Requests", 500: "Oops"}
_OK = b"HTTP/1.1 200 OK\r\n"


def well(scene: Scene) -> Plan:
    code = scene.random.choice((200, 200, 202, 204))
    body = b"thanks" if code == 200 else b""
    return Plan(processes=True, think_s=scene.think_s, parts=((0.0, answer(code, body=body)),), code=code)


def refused(scene: Scene) -> Plan:
    """What a receiver says to a webhook it cannot verify."""
    return _says(scene, 401)


def _says(scene: Scene, code: int, *headers: str, processes: bool = False) -> Plan:
    return Plan(processes=processes, think_s=scene.think_s, parts=((0.0, answer(code, *headers)),), code=code)


def _is_heads(scene: Scene) -> bool:
    return scene.random.random() < 0.5


def _times_out(scene: Scene) -> Plan:
    return Plan(processes=True, think_s=scene.think_s, end=End.HANGS)


def _resets_before(_scene: Scene) -> Plan:
    return Plan(processes=False, end=End.RESETS)


def _resets_after(scene: Scene) -> Plan:
    """At once, or in the middle of saying so."""
    parts = ((0.0, answer(200)[: scene.random.randrange(1, 16)]),) if _is_heads(scene) else ()
    return Plan(processes=True, think_s=scene.think_s, parts=parts, end=End.RESETS)


def _fails(scene: Scene) -> Plan:
    """A proxy says so of a receiver that may have worked."""
    return _says(scene, scene.random.choice((500, 502, 503, 504)), processes=_is_heads(scene))


def _declines(scene: Scene) -> Plan:
    return _says(scene, scene.random.choice((400, 401, 403, 404, 409, 422)))


def _is_busy(scene: Scene) -> Plan:
    wait_s = scene.random.randrange(1, 7_200)
    until = format_datetime(scene.now + timedelta(seconds=wait_s), usegmt=True)
    return _says(scene, 429, f"retry-after: {scene.random.choice((str(wait_s), until, 'later', '-5', '9' * 30))}")


def _is_gone(scene: Scene) -> Plan:
    return _says(scene, 410)


def _redirects(scene: Scene) -> Plan:
    """To a private address, or to a receiver: the one is refused at the connect, the other by not following alone."""
    if _is_heads(scene):
        place = scene.random.choice(scene.others) + REDIRECTED
    else:
        address = scene.random.choice((*PRIVATE, "localhost"))
        place = f"http://[{address}]/" if ":" in address else f"http://{address}/latest/meta-data/"
    return _says(scene, scene.random.choice((301, 302, 303, 307, 308)), f"location: {place}")


def _is_slow(scene: Scene) -> Plan:
    """Late, or drop by drop; too late for some senders, by which time it has worked all the same."""
    think_s = scene.random.uniform(0.5, 25.0)
    said = answer(200)
    if _is_heads(scene):
        return Plan(processes=True, think_s=think_s, parts=((0.0, said),), code=200)
    drip_s = scene.random.uniform(0.5, 2.0)  # ten of them
    drops = [(drip_s, said[at : at + 4]) for at in range(0, len(said), 4)]
    return Plan(processes=True, think_s=scene.think_s, parts=drops, code=200)


def _says_garbage(scene: Scene) -> Plan:
    said = scene.random.choice(
        (
            b"",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"<html>hello</html>\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            _OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            _OK + b"content-le",
            b"\x00" + scene.random.randbytes(200),
        )
    )
    return Plan(processes=_is_heads(scene), think_s=scene.think_s, parts=((0.0, said),))


def _misspells(scene: Scene) -> Plan:
    line = scene.random.choice((b"HTTP/1.1 banana", b"HTTP/9.9 200 OK", b"HTTP/1.1 2x0 OK", b"ICY 200 OK", b"200 OK"))
    said = line + b"\r\ncontent-length: 0\r\n\r\n"
    return Plan(processes=_is_heads(scene), think_s=scene.think_s, parts=((0.0, said),))


def _says_too_much(scene: Scene) -> Plan:
    """A body, or headers, of megabytes at once."""
    if _is_heads(scene):
        head = _OK + b"content-length: %d\r\n\r\n" % HUGE_BYTES
        parts = itertools.chain([(0.0, head)], itertools.repeat((0.0, _PIECE), HUGE_BYTES // len(_PIECE)))
        return Plan(processes=True, think_s=scene.think_s, parts=parts, code=200)
    header = (0.0, b"x: " + b"a" * 4_000 + b"\r\n")
    parts = itertools.chain([(0.0, _OK)], itertools.repeat(header, HUGE_BYTES // 4_096))
    return Plan(processes=True, think_s=scene.think_s, parts=parts)


def _never_ends(scene: Scene) -> Plan:
    first = (0.0, _OK + b"transfer-encoding: chunked\r\n\r\n")
    rest = (scene.random.choice((0.001, 0.3)), b"1000\r\n" + b"a" * 4_096 + b"\r\n")
    return Plan(processes=True, think_s=scene.think_s, parts=itertools.chain([first], itertools.repeat(rest)), code=200)


ANSWER_FAULTS: Mapping[str, Fault] = {
    "time-out after processing": _times_out,
    "reset before processing": _resets_before,
    "reset after processing": _resets_after,
    "receiver 5xx": _fails,
    "receiver 4xx": _declines,
    "receiver 429": _is_busy,
    "410 gone": _is_gone,
    "redirect": _redirects,
    "slow answer": _is_slow,
    "garbage answer": _says_garbage,
    "wrong status line": _misspells,
    "receiver huge answer": _says_too_much,
    "answers 200 with an endless body": _never_ends,
}

FAULTS = (*NAME_FAULTS, *CONNECT_FAULTS, *ANSWER_FAULTS)
"""All names there are."""
