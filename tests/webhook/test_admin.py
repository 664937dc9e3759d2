"""What is decided about endpoints, with its trace in the audit log; and secrets that come and go. On both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from settler.domain.delivery import Endpoint
from settler.domain.errors import Conflict, NotFound
from settler.domain.operator import By
from settler.storage import operator_actions, webhook_admin, webhooks
from settler.storage.engine import Database
from settler.webhook.sign import new_secret
from tests.webhook.samples import NOW, OLD_SECRET, SECRET, added, an_endpoint, an_event

THIRD = new_secret(bytes(range(64, 96)))
DAY = timedelta(days=1)


def _by(at: datetime = NOW, reason: str = "") -> By:
    return By(who="tester", reason=reason, now=at)


async def _rotated(db: Database, secret: str, at: datetime = NOW, overlap_s: int = 86_400) -> Endpoint:
    async with db.write() as conn:
        return await webhook_admin.rotate(conn, an_endpoint().id, _by(at), new_secret=secret, overlap_s=overlap_s)


async def _told(db: Database) -> list[tuple[str, str]]:
    """Actions of the audit log with who, oldest first."""
    async with db.read() as conn:
        kept = await operator_actions.find(conn)
    return [(each.action.action, each.action.who) for each in reversed(kept)]


async def _pending(db: Database) -> set[str]:
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 100)
        return {d.event_id for d in await webhooks.find_deliveries(conn, limit=100)}


async def test_rotate__both_sign_for_the_overlap_then_one(db: Database) -> None:
    await added(db, an_endpoint(secret=OLD_SECRET))
    rotated = await _rotated(db, SECRET)
    assert rotated.previous_secret_until == NOW + DAY
    assert rotated.secrets(NOW + DAY - timedelta(seconds=1)) == (SECRET, OLD_SECRET)
    assert rotated.secrets(NOW + DAY) == (SECRET,)


async def test_rotate__again_within_the_overlap__the_oldest_is_gone(db: Database) -> None:
    await added(db, an_endpoint(secret=OLD_SECRET))
    await _rotated(db, SECRET)
    rotated = await _rotated(db, THIRD, NOW + timedelta(hours=1))
    assert rotated.secrets(NOW + timedelta(hours=1)) == (THIRD, SECRET)
    assert rotated.previous_secret_until == NOW + timedelta(hours=25)


async def test_rotate__without_overlap__ends_all_older_ones(db: Database) -> None:
    await added(db, an_endpoint(secret=OLD_SECRET))
    await _rotated(db, SECRET)
    rotated = await _rotated(db, THIRD, overlap_s=0)
    assert rotated.secrets(NOW) == (THIRD,)
    assert rotated.previous_secret is None


async def test_rotate__disabled_or_not_there__is_refused(db: Database) -> None:
    with pytest.raises(NotFound, match="no webhook endpoint"):
        await _rotated(db, SECRET)
    await added(db, an_endpoint())
    async with db.write() as conn:
        await webhook_admin.remove(conn, an_endpoint().id, _by())
    with pytest.raises(Conflict, match="enable it first"):
        await _rotated(db, THIRD)
    assert await _told(db) == [("webhook_endpoint.remove", "tester")]


async def test_forget_previous_secrets__those_that_sign_no_more__alone(db: Database) -> None:
    await added(db, an_endpoint(secret=OLD_SECRET), an_endpoint(2))
    await _rotated(db, SECRET)
    async with db.write() as conn:
        assert await webhooks.forget_previous_secrets(conn, NOW + DAY - timedelta(seconds=1)) == 0
        assert await webhooks.forget_previous_secrets(conn, NOW + DAY) == 1
        assert await webhooks.forget_previous_secrets(conn, NOW + DAY) == 0
        endpoint = await webhooks.get_endpoint(conn, an_endpoint().id)
    assert endpoint == an_endpoint(secret=SECRET)


async def test_changes__each_leave_one_line_in_the_audit_log_without_the_url(db: Database) -> None:
    endpoint = an_endpoint(url="https://shop.example/hook?key=s3cret-of-theirs")
    async with db.write() as conn:
        await webhook_admin.add(conn, endpoint, _by())
    await _rotated(db, THIRD)
    for change in (webhook_admin.remove, webhook_admin.remove, webhook_admin.enable):
        async with db.write() as conn:
            await change(conn, endpoint.id, _by(reason="why not"))
    verbs = ("add", "rotate_secret", "remove", "enable")
    assert await _told(db) == [(f"webhook_endpoint.{verb}", "tester") for verb in verbs]
    async with db.read() as conn:
        kept = [each.action for each in await operator_actions.find(conn)]
        assert (await operator_actions.verify(conn)).flaw is None
    assert {action.object_id for action in kept} == {endpoint.id}
    assert {action.detail["host"] for action in kept} == {"shop.example"}
    assert kept[0].detail["was"] == "removed by tester: why not"
    assert "s3cret" not in repr(kept)
    assert THIRD not in repr(kept)


async def test_enable__gets_what_comes_from_now_on(db: Database) -> None:
    await added(db, an_endpoint(), an_event(1))
    async with db.write() as conn:
        await webhooks.fan_out(conn, NOW, 100)
        await webhooks.disable_endpoint(conn, an_endpoint().id, NOW, reason="the endpoint answered 410 Gone")
    await added(db, an_event(2))  # while it was disabled; not fanned out before it is enabled
    async with db.write() as conn:
        enabled = await webhook_admin.enable(conn, an_endpoint().id, _by())
    assert enabled == an_endpoint()
    await added(db, an_event(3))
    assert await _pending(db) == {an_event(1).id, an_event(3).id}


async def test_enable__enabled_or_anothers__is_refused(db: Database) -> None:
    await added(db, an_endpoint(merchant="acme"))
    async with db.write() as conn:
        with pytest.raises(Conflict, match="enabled already"):
            await webhook_admin.enable(conn, an_endpoint().id, _by())
        with pytest.raises(NotFound):
            await webhook_admin.enable(conn, an_endpoint().id, _by(), merchant="other")
        with pytest.raises(NotFound):
            await webhook_admin.remove(conn, an_endpoint().id, _by(), merchant="other")
    assert await _told(db) == []


async def test_add_and_enable__too_many__are_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_admin, "MAX_ENDPOINTS", 2)
    await added(db, an_endpoint(1), an_endpoint(2))
    async with db.write() as conn:
        with pytest.raises(Conflict, match="2 endpoints already"):
            await webhook_admin.add(conn, an_endpoint(3), _by())
        await webhook_admin.remove(conn, an_endpoint(1).id, _by())
        await webhook_admin.add(conn, an_endpoint(3), _by())
        with pytest.raises(Conflict, match="2 endpoints already"):
            await webhook_admin.enable(conn, an_endpoint(1).id, _by())


async def test_add_and_enable__too_many_of_one_merchant__are_refused(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key bound to one merchant could add endpoints until nobody else could add any."""
    monkeypatch.setattr(webhook_admin, "MAX_ENDPOINTS_OF_ONE", 1)
    await added(db, an_endpoint(1, merchant="acme"))
    async with db.write() as conn:
        with pytest.raises(Conflict, match="merchant 'acme' has 1 endpoints already"):
            await webhook_admin.add(conn, an_endpoint(2, merchant="acme"), _by())
        await webhook_admin.remove(conn, an_endpoint(1).id, _by())
        await webhook_admin.add(conn, an_endpoint(2, merchant="acme"), _by())
        with pytest.raises(Conflict, match="merchant 'acme' has 1 endpoints already"):
            await webhook_admin.enable(conn, an_endpoint(1).id, _by())
        await webhook_admin.add(conn, an_endpoint(3, merchant="other"), _by())
        for number in (4, 5):
            await webhook_admin.add(conn, an_endpoint(number, merchant=None), _by())
