"""Logs: one line an event, nothing secret in it, nothing that could forge another line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from settler import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(format_: logs.Format = "json", level: logs.Level = "info", stream: io.StringIO | None = None) -> io.StringIO:
    out = stream or io.StringIO()
    logs.configure(format_, level, out)
    return out


def one(out: io.StringIO) -> dict[str, Any]:
    (line,) = out.getvalue().splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_configure__json__is_one_line_an_event() -> None:
    out = logged()
    logs.get_logger("x").info("transfer.matched", chain="base", amount_base=2**255, final=True, reason=None)
    line = one(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "transfer.matched",
        "chain": "base",
        "amount_base": 2**255,
        "final": True,
        "reason": None,
    }


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO(), True), (Terminal(), False)])
def test_configure__auto__is_readable_on_a_terminal_only(stream: io.StringIO, is_json: bool) -> None:
    logged("auto", stream=stream)
    logs.get_logger("x").info("daemon.started", listen="127.0.0.1:8080")
    assert stream.getvalue().startswith("{") == is_json
    assert "daemon.started" in stream.getvalue()


def test_configure__level__is_kept() -> None:
    out = logged(level="warning")
    logs.get_logger("x").info("tick")
    assert out.getvalue() == ""


def test_configure__twice__writes_once() -> None:
    logged()
    out = logged()
    logs.get_logger("x").warning("tick")
    one(out)


def test_configure__a_logger_made_before__follows() -> None:
    log = logs.get_logger("early")
    out = logged()
    log.warning("tick")
    assert one(out)["event"] == "tick"


def test_libraries__are_logged_alike() -> None:
    out = logged()
    logging.getLogger("somelib").warning("could not reach %s", "https://u:p4ssw0rd@node.example:8545/v2/k3y?x=1")
    assert one(out)["event"] == "could not reach https://node.example:8545/…"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"url": "https://node.example/v2/k3y"}, {"url": "https://node.example/…"}),
        ({"url": "postgresql://u:p@db.example:5432/x"}, {"url": "postgresql://db.example:5432/…"}),
        ({"url": "http://127.0.0.1:8080"}, {"url": "http://127.0.0.1:8080"}),
        ({"url": "wss://[::1]:1/k3y"}, {"url": "wss://[::1]:1/…"}),
        ({"api_key": "k"}, {"api_key": "[redacted]"}),
        ({"webhook_secret": b"k"}, {"webhook_secret": "[redacted]"}),
        ({"headers": {"Authorization": "Bearer k"}}, {"headers": {"Authorization": "[redacted]"}}),
        ({"said": "Bearer abc.def"}, {"said": "[redacted]"}),
        ({"said": "key sk_" + "0a" * 32}, {"said": "key [redacted]"}),
        ({"said": "whsec_" + "A" * 44}, {"said": "[redacted]"}),
        ({"said": "host=h password=hunter2 user=u"}, {"said": "host=h [redacted] user=u"}),
        ({"token": "USDC", "keys": 3}, {"token": "USDC", "keys": 3}),
        ({"hash": b"\x01\xff"}, {"hash": "0x01ff"}),
        ({"list": ["https://a.example/k3y", 5]}, {"list": ["https://a.example/…", 5]}),
        ({"said": "a\nb\x1b[31m\u2028\u202e"}, {"said": "a\\nb\\x1b[31m\\u2028\\u202e"}),
    ],
)
def test_redact__values(given: dict[str, Any], written: dict[str, Any]) -> None:
    assert logs.redact(None, "", dict(given)) == written


def test_redact__long_text__is_cut() -> None:
    assert len(logs.redact_text("x" * 100_000)) == logs.MAX_VALUE_CHARS


def test_exception__keeps_its_lines_and_loses_its_secrets() -> None:
    out = logged()
    try:
        raise ValueError("https://node.example/k3y said\nlevel=info event=forged")
    except ValueError:
        logs.get_logger("x").exception("bug")
    trace = one(out)["exception"]
    assert "k3y" not in trace
    assert "Traceback" in trace
    assert all(line.startswith("  ") for line in trace.splitlines()[1:])


def test_console__an_injected_newline__forges_no_line() -> None:
    out = logged("console")
    logs.get_logger("x").info("seen", symbol="A\n2026-01-01 [info] forged")
    assert len(out.getvalue().splitlines()) == 1
