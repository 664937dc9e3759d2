"""Endpoints, deliveries and replays on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.domain.delivery import LoggedAttempt
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.webhook.sign import check_secret
from tests.cli.conftest import Shell

URL = "https://shop.example/hook"
NOBODY = "whe_01kjmma2g0ge4f94hcy47t12sp"

T = TypeVar("T")


def _in_database(settler: Shell, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async def opened() -> T:
        db = await Database.open(f"sqlite:///{settler.folder / 'settler.db'}")
        try:
            async with db.write() as conn:
                return await work(conn)
        finally:
            await db.dispose()

    return asyncio.run(opened())


def _delivered(settler: Shell) -> None:
    """All there is to send is sent, with an attempt each in the log."""

    async def work(conn: AsyncConnection) -> None:
        now = datetime.now(UTC)
        await webhooks.fan_out(conn, now, 100)
        for claim in await webhooks.claim_due(conn, now, per_endpoint=100, limit=100, lease_s=60):
            await webhooks.record_delivered(conn, claim, now, status_code=204)
            attempt = LoggedAttempt(delivery_id=claim.id, at=now, duration_ms=12, status_code=204, error=None)
            await webhooks.log_attempts(conn, [attempt])

    _in_database(settler, work)


def _add(settler: Shell, *args: str) -> Any:
    return settler("webhook", "endpoint", "add", URL, *args, "--json").json


def test_rotate__shows_the_new_secret_once_and_says_until_when_both_sign(settler: Shell) -> None:
    made = _add(settler)
    before = datetime.now(UTC)
    rotated = settler("webhook", "endpoint", "rotate", made["id"], "--overlap-s", "3600", "--json").json
    check_secret(rotated["secret"])
    assert rotated["secret"] != made["secret"]
    until = datetime.fromisoformat(rotated["previous_secret_until"])
    assert timedelta(0) <= until - before - timedelta(seconds=3600) < timedelta(minutes=5)
    people = settler("webhook", "endpoint", "rotate", made["id"], "--reason", "it leaked")
    assert "whsec_" in people.out
    assert people.err == "keep the secret: it is not shown again\n"
    shown = settler("webhook", "endpoint", "show", made["id"], "--json").json
    assert "secret" not in shown
    log = settler("audit", "list", "--json").json
    assert [(each["action"], each["reason"]) for each in log] == [
        ("webhook_endpoint.rotate_secret", "it leaked"),
        ("webhook_endpoint.rotate_secret", ""),
        ("webhook_endpoint.add", ""),
    ]
    assert rotated["secret"] not in repr(log)


def test_remove_and_enable__is_as_before(settler: Shell) -> None:
    made = _add(settler, "--type", "invoice.settled")
    removed = settler("webhook", "endpoint", "remove", made["id"], "--reason", "moved", "--json").json
    assert removed["disabled_reason"].endswith(": moved")
    assert settler("webhook", "endpoint", "rotate", made["id"]).errors == [
        f"id: {made['id']} is disabled, nothing is signed for it; enable it first"
    ]
    enabled = settler("webhook", "endpoint", "enable", made["id"], "--json").json
    assert enabled == {name: value for name, value in made.items() if name != "secret"}
    again = settler("webhook", "endpoint", "enable", made["id"])
    assert (again.code, again.errors) == (2, [f"id: {made['id']} is enabled already"])


def test_unknown_endpoint_or_delivery__is_one_line(settler: Shell) -> None:
    for verb in ("show", "remove", "enable", "rotate"):
        ran = settler("webhook", "endpoint", verb, NOBODY)
        assert ran.code == 2
        assert len(ran.errors) == 1
        assert NOBODY in ran.errors[0]
    for verb in ("show", "retry"):
        ran = settler("webhook", "delivery", verb, "dlv_01kjmma2g0ge4f94hcy47t12sp")
        assert (ran.code, len(ran.errors)) == (2, 1)


def test_delivery__listed_filtered_and_shown_with_its_attempts(settler: Shell) -> None:
    endpoint = _add(settler)["id"]
    settler.create("order-1")
    _delivered(settler)
    (delivery,) = settler("webhook", "delivery", "list", "--json").json
    assert (delivery["status"], delivery["event_type"], delivery["endpoint_id"]) == (
        "delivered",
        "invoice.created",
        endpoint,
    )
    for option, value in (
        ("--endpoint", endpoint),
        ("--event", delivery["event_id"]),
        ("--type", "invoice.created"),
        ("--status", "delivered"),
    ):
        assert settler("webhook", "delivery", "list", option, value, "--json").json == [delivery]
    for option, value in (
        ("--endpoint", NOBODY),
        ("--type", "invoice.settled"),
        ("--status", "dead"),
        ("--before", delivery["id"]),
    ):
        assert settler("webhook", "delivery", "list", option, value, "--json").json == []
    assert settler("webhook", "delivery", "list", "--status", "lost").code == 2
    shown = settler("webhook", "delivery", "show", delivery["id"], "--json").json
    (attempt,) = shown.pop("attempt_log")
    assert shown == delivery
    assert (attempt["duration_ms"], attempt["status_code"], attempt["error"]) == (12, 204, None)
    assert "attempt_log[0]" in settler("webhook", "delivery", "show", delivery["id"]).out
    retried = settler("webhook", "delivery", "retry", delivery["id"], "--json").json
    assert (retried["status"], retried["attempts"]) == ("pending", 0)


def test_replay__of_a_range_and_to_an_endpoint_added_later(settler: Shell) -> None:
    _add(settler)
    for number in range(3):
        settler.create(f"order-{number}")
    _delivered(settler)
    late = _add(settler)["id"]
    assert settler("webhook", "replay", "--dead", "--json").json["replayed"] == 0
    assert settler("webhook", "replay", "--to", "2020-01-01", "--json").json["replayed"] == 0
    people = settler("webhook", "replay", "--from", "2020-01-01")
    assert (people.code, people.err) == (0, "")
    assert people.out.splitlines() == [
        "replay: 3 of 3 deliveries; 3 due again, 0 made",
        "3 deliveries due again, 0 made",
    ]
    made = settler("webhook", "replay", "--endpoint", late, "--json").json
    assert (made["replayed"], made["created"], made["endpoint_id"], made["dead_only"]) == (0, 3, late, False)
    assert len(settler("webhook", "delivery", "list", "--status", "pending", "--json").json) == 6


def test_replay__pieces__add_up(settler: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("settler.cli.deliveries.PIECE", 2)
    for number in range(5):
        settler.create(f"order-{number}")
    late = _add(settler)["id"]
    assert settler("webhook", "replay", "--endpoint", late, "--json").json["created"] == 5
    _delivered(settler)
    assert settler("webhook", "replay", "--json").json["replayed"] == 5


def test_replay__wrong_usage__is_one_line(settler: Shell) -> None:
    for args in (
        ("--from", "yesterday"),
        ("--from", "2026-02-01", "--to", "2026-01-01"),
        ("--endpoint", "whe_1"),
        ("--endpoint", NOBODY),
    ):
        ran = settler("webhook", "replay", *args)
        assert (ran.code, len(ran.errors)) == (2, 1), args
