"""I6: each state change is told once, in order, with what the object is after it; nothing else is told; and each
endpoint gets each event.

    #  invoice   created ─▶ processing ─▶ settled ─▶ …      one event a status, versions growing
    #  transfer  detected ─▶ final ─▶ …                     one event a version; what moves no money: none
    #  feed      1, 2, 3 …                                  at rest every event has its place
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from settler.domain.delivery import MAX_ATTEMPTS
from settler.domain.invariants import Invariant, Violation
from settler.simulation.checks_ledger import moves_money
from settler.simulation.checks_rows import Changes, Mirror, Row, Rows
from settler.simulation.truth import EndpointTruth, Truth

ARROWS: dict[str, tuple[str, ...]] = {
    "": ("pending",),
    "pending": ("processing", "settled", "expired", "canceled"),
    "processing": ("pending", "expired", "settled"),
    "expired": ("processing", "settled"),
    "settled": ("reversed",),
    "reversed": ("settled",),
    "canceled": (),
}
"""What an invoice may become (RULES.md section 4)."""
TOLD_AS = {
    "invoice.created": "pending",
    "invoice.pending": "pending",
    "invoice.processing": "processing",
    "invoice.settled": "settled",
    "invoice.expired": "expired",
    "invoice.canceled": "canceled",
    "invoice.reversed": "reversed",
}
OF_KIND = {"invoice": "invoices", "payment": "transfers", "transfer": "transfers", "settlement": "settlements"}


class EventChecks:
    def __init__(self, truth: Truth, mirror: Mirror) -> None:
        self._truth = truth
        self._mirror = mirror

    # -- at any moment -------------------------------------------------------------------------------------------------

    def step(self, changes: Changes) -> list[Violation]:
        found: list[Violation] = []
        objects: dict[tuple[str, str], None] = {}
        for event in changes.new("events"):
            table = OF_KIND.get(event.type.partition(".")[0])
            row = None if table is None else self._mirror.tables[table].get(event.object_id)
            if table is None or row is None:
                found.append(_i6(event.object_id, f"{event.type} was told of it, and it is not there"))
                continue
            found += _says(event, table, row)
            objects[table, event.object_id] = None
        objects |= {(table, r.id): None for table in ("invoices", "settlements") for _, r in changes.of(table)}
        objects |= {("settlements", r.settlement_id): None for r in changes.new("reversals")}
        for table, id_ in objects:
            found += self._told(table, id_)
        for before, row in changes.of("transfers"):
            found += self._told_of_transfer(row) + self._told_of_change(before, row)
        return found

    def _told(self, table: str, id_: str) -> list[Violation]:
        match table:
            case "invoices":
                return self._told_of_invoice(id_)
            case "settlements":
                return self._told_of_settlement(id_)
            case _:
                return self._told_of_transfer(self._mirror.tables["transfers"][id_])

    def _told_of_invoice(self, id_: str) -> list[Violation]:
        row = self._mirror.tables["invoices"][id_]
        told = [e for e in self._mirror.told.get(id_, ()) if e.type in TOLD_AS]
        path = [TOLD_AS[e.type] for e in told]
        found = _in_order(id_, told, row.version)
        if not path or path[-1] != row.status:
            found.append(_i6(id_, f"is {row.status}, told was {' → '.join(path) or 'nothing'}"))
        wrong = [f"{a or 'nothing'} → {b}" for a, b in pairwise(["", *path]) if b not in ARROWS[a]]
        if wrong:
            found.append(_i6(id_, f"told was {', '.join(wrong)}"))
        return found

    def _told_of_settlement(self, id_: str) -> list[Violation]:
        if id_ not in self._mirror.tables["settlements"]:
            return [_i6(id_, "was reversed, and is not there")]
        told = [(e.type, e.version) for e in self._mirror.told.get(id_, ())]
        wanted = [("settlement.created", 1)]
        if id_ in self._mirror.reversed:
            wanted.append(("settlement.reversed", 2))
        return [] if told == wanted else [_i6(id_, f"told was {told}, it happened {wanted}")]

    def _told_of_transfer(self, row: Row) -> list[Violation]:
        told = self._mirror.told.get(row.id, [])
        if not moves_money(row):
            return [_i6(row.id, f"moves no money, and was told of {len(told)} times")] if told else []
        return _in_order(row.id, told, row.version)

    def _told_of_change(self, before: Row | None, row: Row) -> list[Violation]:
        """The newest version is told of, as what it is; but for what is silent (`_is_silent`)."""
        is_same = before is not None and before.version == row.version
        if not moves_money(row) or is_same or _is_silent(row) or row.id in self._mirror.refunds_of:
            return []
        wanted = "transfer.unmatched" if row.invoice_id is None else f"payment.{row.status}"
        told = self._mirror.told.get(row.id, [])
        if told and (told[-1].type, told[-1].version) == (wanted, row.version):
            return []
        last = f"{told[-1].type} of version {told[-1].version}" if told else "nothing"
        return [_i6(row.id, f"is at version {row.version}, which is {wanted}; told last was {last}")]

    def _told_of_each(self, row: Row) -> list[Violation]:
        """Each version was told of, where nothing silent can have happened to it."""
        told = self._mirror.told.get(row.id, [])
        if not moves_money(row) or len(told) == row.version:
            return []
        owners = {e.data["invoice_id"] for e in told} | {row.invoice_id}
        decided = {a.object_id for a in self._truth.actions}
        if row.id in decided or decided & owners:
            return []
        return [_i6(row.id, f"went through {row.version} versions, told was of {len(told)}")]

    # -- at rest -------------------------------------------------------------------------------------------------------

    def rest(self, rows: Rows) -> list[Violation]:
        found: list[Violation] = []
        for id_ in self._mirror.tables["invoices"]:
            found += self._told_of_invoice(id_)
        for id_ in self._mirror.tables["settlements"]:
            found += self._told_of_settlement(id_)
        for row in self._mirror.tables["transfers"].values():
            found += self._told_of_transfer(row) + self._told_of_each(row)
        return found + _placed(rows.events) + self._delivered(rows)

    def _delivered(self, rows: Rows) -> list[Violation]:
        found: list[Violation] = []
        known = {e.id for e in rows.events}
        disabled = {e.id for e in rows.webhook_endpoints if e.disabled_at is not None}
        to: dict[str, list[Row]] = {id_: [] for id_ in self._truth.endpoints}
        for d in rows.webhook_deliveries:
            if d.status == "pending" and d.endpoint_id in disabled and d.claimed_until is None:
                continue  # nothing is sent there
            if d.endpoint_id in to:
                to[d.endpoint_id].append(d)
            else:
                found.append(_i6(d.id, f"goes to {d.endpoint_id}, which nobody added"))
        for endpoint in self._truth.endpoints.values():
            if endpoint.id in disabled and not endpoint.was_disabled:
                found.append(_i6(endpoint.id, "is disabled, and never asked for it"))
            found += [
                _i6(endpoint.id, f"was told of {id_}, which is no event")
                for id_ in endpoint.processed
                if id_ not in known
            ]
            found += self._got_all(endpoint, to[endpoint.id], rows.events)
        return found

    def _got_all(self, endpoint: EndpointTruth, deliveries: list[Row], events: list[Row]) -> list[Violation]:
        found = []
        by_event = Counter(d.event_id for d in deliveries)
        status = {d.event_id: d for d in deliveries}
        for e in events:
            is_wanted = endpoint.merchant in (None, e.merchant) and (not endpoint.types or e.type in endpoint.types)
            if not is_wanted or e.seq <= endpoint.since_seq:
                if by_event[e.id]:
                    found.append(_i6(endpoint.id, f"is to get {e.type} of {e.object_id}, which is not for it"))
                continue
            if by_event[e.id] != 1:
                # while it was disabled nothing was made for it
                if by_event[e.id] or not endpoint.was_disabled:
                    found.append(_i6(endpoint.id, f"has {by_event[e.id]} deliveries of {e.id} ({e.type})"))
                continue
            found += self._arrived(endpoint, status[e.id])
        return found

    def _arrived(self, endpoint: EndpointTruth, d: Row) -> list[Violation]:
        took, refused = endpoint.processed[d.event_id], endpoint.refused[d.event_id]
        match d.status:
            case "delivered":
                return [] if took else [_i6(d.id, f"is delivered, and {endpoint.id} never got {d.event_id}")]
            case "dead":
                is_excused = endpoint.was_disabled or refused >= MAX_ATTEMPTS
                detail = f"was given up at {endpoint.id} after {d.attempts} attempts, {refused} were refused"
                return [] if is_excused else [_i6(d.id, detail)]
            case _:
                claimed = f", claimed until {d.claimed_until}" if d.claimed_until is not None else ""
                return [_i6(d.id, f"is {d.status} at rest after {d.attempts} attempts{claimed}")]


def _is_silent(row: Row) -> bool:
    """An operator dismissed it; or it is gone, and was taken off its invoice after that."""
    return row.allocation == "dismissed" or (row.status == "orphaned" and row.invoice_id is None and row.version > 1)


def _says(event: Row, table: str, row: Row) -> list[Violation]:
    """An event carries its object, as it was after the change."""
    found = []
    data = event.data
    if data["id"] != event.object_id or data["version"] != event.version:
        found.append(_i6(event.id, f"is of {event.object_id}, version {event.version}; it shows {data['id']}"))
    is_newest = table != "settlements" and event.version == row.version
    if is_newest and data["status"] != row.status:
        found.append(_i6(event.id, f"shows {event.object_id} as {data['status']}, it is {row.status}"))
    if event.type in TOLD_AS and data["status"] != TOLD_AS[event.type]:
        found.append(_i6(event.id, f"is {event.type}, and shows {data['status']}"))
    return found


def _in_order(id_: str, told: list[Row], newest: int) -> list[Violation]:
    """Versions grow from event to event, and none is above the object's own."""
    versions = [e.version for e in told]
    if all(a < b for a, b in pairwise([0, *versions, newest + 1])):
        return []
    return [_i6(id_, f"is at version {newest}, told was of versions {', '.join(map(str, versions))}")]


def _placed(events: list[Row]) -> list[Violation]:
    """At rest the feed has every event, each at its own place, without gaps; and the outbox is empty."""
    found = [_i6(e.id, "has no place in the feed at rest") for e in events if e.position is None]
    found += [_i6(e.id, "waits in the outbox at rest") for e in events if not e.is_fanned_out]
    places = sorted(e.position for e in events if e.position is not None)
    if places != list(range(1, len(places) + 1)):
        found.append(_i6("feed", f"has {len(places)} events, and its last place is {places[-1]}"))
    return found


def _i6(subject: str, detail: str) -> Violation:
    return Violation(invariant=Invariant.I6, subject=subject, detail=detail)
