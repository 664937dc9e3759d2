"""`settler relay`: what is said of wrong usage, and how far a relay is. Handing on is tests/relay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from settler.stages import relay_nats
from settler.storage import relays
from settler.storage.engine import Database
from tests.cli.conftest import Shell

pytestmark = pytest.mark.slow
NATS = ("relay", "nats", "--once")
URL = ("--url", "nats://127.0.0.1:1")


async def _hand_on(shell: Shell, *, up_to: int) -> None:
    db = await Database.open(f"sqlite:///{shell.folder / 'settler.db'}")
    try:
        async with db.write() as conn:
            await relays.advance(conn, "warehouse", seen=0, to=up_to, now=datetime(2026, 3, 1, tzinfo=UTC))
    finally:
        await db.dispose()


def test_nats__without_its_client__names_the_remedy(bare_settler: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_nats, "is_installed", lambda: False)
    ran = bare_settler(*NATS, *URL)
    assert ran.code == 2
    assert ran.errors == ["NATS needs its client, which is not installed; run pip install 'settler[nats]'"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "--url: give the server"),
        ((*URL, "--url-file", "urls"), "--url: give the server"),
        (("--url-file", "nowhere"), "--url-file nowhere: cannot be read: No such file"),
        (("--url-file", "empty"), "--url-file empty: is empty"),
        (("--url", "http://127.0.0.1"), "--url: is no URL of a NATS server"),
        ((*URL, "--name", " x"), "--name ' x': give 1 to 64"),
        ((*URL, "--stream", "a.b"), "--stream 'a.b'"),
        ((*URL, "--subject", "s.*"), "--subject 's.*'"),
        ((*URL, "--creds", "nowhere"), "--creds: nowhere cannot be read"),
        ((*URL, "--tls-ca", "nowhere"), "--tls-ca nowhere: there is no such file"),
    ],
)
def test_nats__wrong_usage__is_a_line(bare_settler: Shell, words: tuple[str, ...], problem: str) -> None:
    (bare_settler.folder / "empty").write_text("\n")
    ran = bare_settler(*NATS, *words)
    assert ran.code == 2
    (error,) = ran.errors
    assert error.startswith(problem)


def test_status__no_relay_yet__says_so(settler: Shell) -> None:
    assert settler("relay", "status").err == "no relays\n"
    assert settler("relay", "status", "--json").json == []


def test_status__behind__is_counted_and_may_be_a_problem(settler: Shell) -> None:
    for reference in ("a", "b", "c"):
        settler.create(reference)
    settler("event", "list")  # which gives each its place
    asyncio.run(_hand_on(settler, up_to=1))
    (shown,) = settler("relay", "status", "--json").json
    assert (shown["name"], shown["position"], shown["behind"]) == ("warehouse", 1, 2)
    assert shown["oldest_waiting_at"].endswith("Z")
    assert settler("relay", "status", "--max-behind", "2").code == 0
    assert settler("relay", "status", "--max-behind", "1").code == 1


def test_forget__one_that_is_there__once(settler: Shell) -> None:
    asyncio.run(_hand_on(settler, up_to=7))
    assert settler("relay", "forget", "warehouse", "--reason", " ").errors == [
        "--reason is empty; say why, it is kept in the audit log"
    ]
    assert settler("relay", "forget", "warehouse", "--reason", "moved", "--json").json == {
        "name": "warehouse",
        "position": 7,
    }
    again = settler("relay", "forget", "warehouse", "--reason", "moved")
    assert (again.code, again.errors) == (2, ["there is no relay warehouse; see settler relay status"])
    (kept,) = settler("audit", "list", "--action", "relay.forget", "--json").json
    assert kept["reason"] == "moved"
