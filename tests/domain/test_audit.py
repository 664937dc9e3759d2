"""The chain of the audit log, followed row by row: what is written fits, and each way of forging it shows where."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from settler.domain.audit import NOTHING, Action, Flaw, Head, Kept, action_hash, follow
from tests.domain.samples import T0


def written(count: int, *, before: Head = NOTHING, reason: str = "because") -> list[Kept]:
    """A chain as `storage.operator_actions.add` makes it."""
    rows: list[Kept] = []
    for seq in range(before.seq + 1, before.seq + count + 1):
        previous = rows[-1].hash if rows else before.hash
        action = Action(
            seq=seq,
            id=f"act_{seq}",
            at=T0 + timedelta(seconds=seq),
            who="cli:ada",
            action="transfer.assign",
            object_id=f"trf_{seq}",
            reason=reason,
            detail={"invoice_id": "inv_1"},
            previous_hash=previous,
        )
        rows.append(Kept(action=action, hash=action_hash(action)))
    return rows


def followed(rows: list[Kept]) -> Head | Flaw:
    head = NOTHING
    for row in rows:
        step = follow(head, row)
        if isinstance(step, Flaw):
            return step
        head = step
    return head


def changed(row: Kept, **fields: Any) -> Kept:
    return replace(row, action=replace(row.action, **fields))


def rehashed(row: Kept) -> Kept:
    return replace(row, hash=action_hash(row.action))


def test_follow__as_written__ends_at_the_newest() -> None:
    rows = written(5)
    assert followed([]) == NOTHING
    assert followed(rows) == Head(seq=5, hash=rows[-1].hash, before=rows[-2].hash)


@pytest.mark.parametrize(
    "fields",
    [
        {"who": "cli:eve"},
        {"reason": "becausf"},
        {"at": T0},
        {"detail": {"invoice_id": "inv_2"}},
        {"object_id": "trf_9"},
        {"action": "transfer.dismiss"},
        {"id": "act_9"},
        {"previous_hash": b"\x01" * 32},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_follow__any_field_changed__is_found_at_that_row(fields: dict[str, Any]) -> None:
    rows = written(4)
    rows[2] = changed(rows[2], **fields)
    found = followed(rows)
    assert isinstance(found, Flaw)
    assert (found.seq, "was changed" in found.detail) == (3, True)


def test_follow__changed_with_its_hash__breaks_at_the_next() -> None:
    rows = written(4)
    rows[2] = rehashed(changed(rows[2], who="cli:eve"))
    assert followed(rows) == Flaw(seq=4, detail="does not follow row 3: that one was replaced, or this one put in")
    assert isinstance(followed(rows[:3]), Head), "the newest row with a new hash: only a head kept elsewhere shows it"


def test_follow__rows_taken_out__names_the_first_missing() -> None:
    rows = written(6)
    assert followed([*rows[:2], *rows[3:]]) == Flaw(seq=3, detail="row 3 is missing")
    assert followed([rows[0], *rows[4:]]) == Flaw(seq=2, detail="rows 2 to 4 are missing")
    assert followed(rows[1:]) == Flaw(seq=1, detail="row 1 is missing")


def test_follow__taken_out_and_renumbered__is_found() -> None:
    rows = written(5)
    closed = [*rows[:2], *(changed(row, seq=row.action.seq - 1) for row in rows[3:])]
    found = followed(closed)
    assert isinstance(found, Flaw)
    assert (found.seq, "was written as row 4" in found.detail) == (3, True)


def test_follow__reordered__names_where_the_row_belongs() -> None:
    rows = written(5)
    swapped = [rows[0], changed(rows[3], seq=2), rows[2], changed(rows[1], seq=4), rows[4]]
    found = followed(swapped)
    assert isinstance(found, Flaw)
    assert (found.seq, "was written as row 4" in found.detail) == (2, True)


def test_follow__fork__is_told_from_a_replaced_row() -> None:
    rows = written(3)
    fork = rehashed(changed(rows[2], seq=4, previous_hash=rows[2].action.previous_hash))
    assert followed([*rows, fork]) == Flaw(seq=4, detail="forks the chain: it follows the same row as row 3 does")
    assert followed([*rows, rows[2]]) == Flaw(seq=3, detail="there is another row 3")


def test_follow__row_put_in__is_found() -> None:
    rows = written(3)
    forged = written(1, before=Head(seq=1, hash=b"\x05" * 32))
    assert followed([rows[0], *forged]) == Flaw(
        seq=2, detail="does not follow row 1: that one was replaced, or this one put in"
    )


def test_action_hash__is_fixed_for_good() -> None:
    """Stored hashes must be found right by every later release."""
    (row,) = written(1)
    assert row.hash.hex() == "fbd71c267c443b595c824e1a399e6b4c1171294d9d6fc3e88f7591fd1664d435"


def test_head__as_text__is_its_number_and_its_hash() -> None:
    assert str(NOTHING) == f"0:{NOTHING.hash.hex()}"
    head = followed(written(2))
    assert isinstance(head, Head)
    assert str(head) == f"2:{head.hash.hex()}"
