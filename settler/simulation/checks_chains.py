"""I7, and I1, I3 and I8 of records: cursors and transfers against the chains as they are.

    #  begun            settled        final         head
    #  5 | 6 ....... 100 | 101 .. 104 | 105 ... 107      up to `settled` records and chain are equal, log by log

Whenever a settled height moves, everything it passed is compared at once: facts and cursor are one transaction.

A chain whose final blocks were replaced may have its cursor, and records, on those that are gone, until it halts: then
they are compared with those. As blocks are linked, a cursor on a block that is still there says that all below it are.
"""

from __future__ import annotations

from chains.model import Transfer
from settler.domain.invariants import Invariant, Violation
from settler.simulation.checks_blocks import Blocks, identity
from settler.simulation.checks_rows import Changes, Mirror, Row, identity_of
from settler.simulation.truth import ChainTruth, Truth


class ChainChecks:
    """What was seen of the chains' rows before."""

    def __init__(self, truth: Truth, mirror: Mirror, blocks: Blocks) -> None:
        self._truth = truth
        self._mirror = mirror
        self._blocks = blocks
        self._halted: set[int] = set()
        """Ids of chains that were halted at the look before."""
        self._halts: dict[str, int] = {}
        self._resumes: dict[str, int] = {}
        self._rewinds: dict[str, int] = {}
        """How often a cursor was seen to leave blocks that were replaced."""

    # -- at any moment -------------------------------------------------------------------------------------------------

    def step(self, changes: Changes) -> list[Violation]:
        found: list[Violation] = []
        for before, row in changes.of("chains"):
            if row.halted_at is None or before is None or before.halted_at != row.halted_at:
                self._halted.discard(row.chain_id)
        for before, row in changes.of("chains"):
            found += self._moved(before, row)
        for before, row in changes.of("transfers"):
            found += self._recorded(before, row)
        return found

    def end_look(self, changes: Changes) -> None:
        """What is halted now was so when the next look comes, unless that shows it moved."""
        self._halted |= {row.chain_id for _, row in changes.of("chains") if row.halted_at is not None}

    def _moved(self, before: Row | None, row: Row) -> list[Violation]:
        """One chain's row changed."""
        it = self._blocks.chains.get(row.chain_id)
        if it is None:
            return [_i7(row.name, f"chain id {row.chain_id} is not configured")]
        found = self._counted_halts(it, before, row)
        if row.settled_number is None:
            return [*found, _i7(it.name, "was read once, and has no cursor now")] if it.begun is not None else found
        if it.begun is None:
            it.begun = row.settled_number
        if before is None or before.settled_number is None:
            return [*found, *self._stands(it, row), *self._scanned(it, row)]
        if (before.settled_number, before.settled_hash) == (row.settled_number, row.settled_hash):
            return [*found, *self._scanned(it, row)]
        found += self._stands(it, row) + self._scanned(it, row)
        first = before.settled_number + 1
        was_undone = self._blocks.is_off(before) and not self._blocks.is_off(row)
        has_moved_back = row.settled_number < before.settled_number or (
            row.settled_number == before.settled_number and not self._blocks.is_off(row)
        )
        if was_undone or has_moved_back:
            self._rewinds[it.name] = self._rewinds.get(it.name, 0) + 1
            if not self._blocks.is_off(before):
                found.append(_i7(it.name, f"moved back from block {before.settled_number} to {row.settled_number}"))
            found += self._all_of(it, row)
            first = min((v.ancestor + 1 for v in it.violations), default=first)
        return found + self._passed(it, row, first=max(first, (it.begun or 0) + 1))

    def _counted_halts(self, it: ChainTruth, before: Row | None, row: Row) -> list[Violation]:
        was, is_ = (None if before is None else before.halted_at), row.halted_at
        if was is not None and is_ is None:
            self._resumes[it.name] = self._resumes.get(it.name, 0) + 1
        if is_ is None or is_ == was:
            return []
        halts = self._halts[it.name] = self._halts.get(it.name, 0) + 1
        if halts > len(it.violations):
            return [_i7(it.name, f"halted {halts} times, final blocks were replaced {len(it.violations)} times")]
        return []

    def _stands(self, it: ChainTruth, row: Row) -> list[Violation]:
        """The settled block is one that was final at some time, and is in the chain unless it was replaced."""
        number = row.settled_number
        block = self._blocks.block(it, number, row.settled_hash)
        if block is None:
            return [_i7(it.name, f"settled block {number} (0x{row.settled_hash.hex()}) was never a final one")]
        found = []
        if number > it.final_height:
            found.append(_i7(it.name, f"is settled up to block {number}, final was at most {it.final_height}"))
        if block.ref.time != row.settled_time:
            found.append(_i7(it.name, f"says of block {number} that it is of {row.settled_time}, not {block.ref.time}"))
        return found

    def _scanned(self, it: ChainTruth, row: Row) -> list[Violation]:
        if row.scanned_number is None or row.scanned_number < row.settled_number:
            return [_i7(it.name, f"is settled up to {row.settled_number}, scanned up to {row.scanned_number} only")]
        return []

    def _passed(self, it: ChainTruth, row: Row, *, first: int) -> list[Violation]:
        """What the cursor passed is recorded, and nothing of it is left undecided."""
        found = []
        for block in self._blocks.along(it, row, first):
            for t in block.transfers:
                if not self._blocks.is_due(it, block, t):
                    continue
                held = self._mirror.by_identity.get(identity(t))
                if held is None or held.status != "final" or not _is_at(held, t):
                    found.append(_i1(t, _said(held)))
        return found + self._undecided(it, row)

    def _undecided(self, it: ChainTruth, row: Row) -> list[Violation]:
        settled = row.settled_number
        return [
            _violation(Invariant.I1, t.id, f"is still detected in block {t.block_number}, settled is {settled}")
            for t in self._mirror.detected[it.id].values()
            if t.block_number <= settled
        ]

    def _recorded(self, before: Row | None, row: Row) -> list[Violation]:
        """One record changed."""
        it = self._blocks.chains.get(row.chain_id)
        if it is None:
            return [_violation(Invariant.I8, row.id, f"is of chain {row.chain_id}, which is not configured")]
        found = self._is_ours(it, row)
        cursor = self._mirror.tables["chains"].get(row.chain_id)
        settled = None if cursor is None else cursor.settled_number
        if settled is None:
            return [*found, _violation(Invariant.I1, row.id, "is recorded before the chain was begun")]
        if before is not None and identity_of(before) != identity_of(row):
            found.append(_violation(Invariant.I8, row.id, "became another transfer"))
        if row.status == "detected" and row.block_number <= settled:
            found.append(
                _violation(Invariant.I1, row.id, f"is detected in block {row.block_number}, settled is {settled}")
            )
        if row.status != "final":
            return found
        found += self._is_true(it, row)
        if row.block_number > settled:
            found.append(_i3(row.id, f"is final in block {row.block_number}, settled is {settled}"))
        was_final = before is not None and before.status == "final"
        if self.is_halted_since(row.chain_id) and not was_final:
            found.append(_i3(row.id, f"became final on {it.name}, which is halted"))
        if was_final and before is not None and not _is_same_place(before, row):
            found.append(_i3(row.id, f"was final in block {before.block_number}, and moved to {row.block_number}"))
        return found

    def _is_ours(self, it: ChainTruth, row: Row) -> list[Violation]:
        decimals = next((t.decimals for t in it.tokens if t.address == row.token), None)
        if decimals is None:
            return [_violation(Invariant.I8, row.id, f"is of 0x{row.token.hex()}, a token that is not configured")]
        found = []
        if decimals != row.decimals:
            found.append(_violation(Invariant.I8, row.id, f"has {row.decimals} decimals, its token {decimals}"))
        if not self._blocks.is_watched(row.recipient):
            found.append(_violation(Invariant.I8, row.id, f"went to 0x{row.recipient.hex()}, which nobody watches"))
        return found

    def _is_true(self, it: ChainTruth, row: Row) -> list[Violation]:
        """A final record says what a final block says."""
        block = self._blocks.block(it, row.block_number, row.block_hash)
        if block is None:
            where = f"block {row.block_number} (0x{row.block_hash.hex()[:8]}…)"
            return [_i3(row.id, f"is final in {where}, which never was a final block")]
        shown = next((t for t in block.transfers if identity(t) == identity_of(row)), None)
        if shown is None:
            return [_violation(Invariant.I8, row.id, f"is final, and block {row.block_number} has no such transfer")]
        if shown.log_index != row.log_index or block.ref.time != row.block_time:
            detail = (
                f"is log {row.log_index} of {row.block_time}, the chain has log {shown.log_index} of {block.ref.time}"
            )
            return [_violation(Invariant.I8, row.id, detail)]
        if row.block_number > it.final_height:
            return [_i3(row.id, f"is final in block {row.block_number}, final was at most {it.final_height}")]
        if row.block_hash in it.replaced and not self._is_off(it):
            return [_i3(row.id, f"is final in block {row.block_number}, which was replaced, and the chain goes on")]
        return []

    def _all_of(self, it: ChainTruth, row: Row) -> list[Violation]:
        """Every final record of a chain that halted or went back."""
        found = []
        for t in self._mirror.transfers_of[it.id].values():
            if t.status == "final":
                found += self._is_true(it, t)
                if t.block_number > row.settled_number:
                    found.append(_i3(t.id, f"is final in block {t.block_number}, settled is {row.settled_number}"))
        return found

    # -- at rest -------------------------------------------------------------------------------------------------------

    def rest(self, blocks: list[Row]) -> list[Violation]:
        found: list[Violation] = []
        rows = self._mirror.tables["chains"]
        for it in self._truth.chains.values():
            row = rows.get(it.id)
            if row is None or row.settled_number is None:
                found.append(_i7(it.name, "was never read"))
                continue
            found += self._caught_up(it, row)
            found += self._equal(it, row)
            for b in (b for b in blocks if b.chain_id == it.id):
                block = it.chain.block_at(b.number)
                if block is None or block.ref.hash != b.hash or block.ref.parent_hash != b.parent_hash:
                    found.append(_i7(it.name, f"holds a header of height {b.number} that is not the chain's"))
        return found

    def _caught_up(self, it: ChainTruth, row: Row) -> list[Violation]:
        """I7, and that the readings come to an end."""
        found = []
        if row.halted_at is not None:
            found.append(_i7(it.name, f"is halted at rest: {row.halt_reason}"))
        settled, scanned = it.chain.block_at(row.settled_number), it.chain.block_at(row.scanned_number)
        if settled is None or settled.ref.hash != row.settled_hash:
            found.append(_i7(it.name, f"is settled up to block {row.settled_number}, which is not in the chain"))
        if row.settled_number != it.final_height:
            found.append(_i7(it.name, f"is settled up to {row.settled_number}, final is {it.final_height}"))
        if scanned is None or scanned.ref.hash != row.scanned_hash:
            found.append(_i7(it.name, f"is scanned up to block {row.scanned_number}, which is not in the chain"))
        if row.scanned_number != it.chain.head.number:
            found.append(_i7(it.name, f"is scanned up to {row.scanned_number}, the head is {it.chain.head.number}"))
        resumed = sum(a.kind == "resume" and a.object_id == it.name for a in self._truth.actions)
        went_on = max(self._resumes.get(it.name, 0), self._rewinds.get(it.name, 0))
        if went_on > resumed:
            found.append(_i7(it.name, f"went on {went_on} times after a violation, was resumed {resumed} times"))
        return found

    def _equal(self, it: ChainTruth, row: Row) -> list[Violation]:
        """I1, both ways: none missing, none invented, each once, each where it is."""
        assert it.begun is not None, "a chain that was read has begun"
        due, true = set(), {}
        for block in self._blocks.along(it, row, it.begun + 1):
            for t in block.transfers:
                if self._blocks.is_wanted(it, t):
                    true[identity(t)] = t
                    if self._blocks.is_due(it, block, t):
                        due.add(identity(t))
        held = {identity_of(r): r for r in self._mirror.transfers_of[it.id].values()}
        found = [
            _i1(true[key], _said(record))
            for key in true
            if ((record := held.get(key)) is None and key in due)
            or (record is not None and (record.status != "final" or not _is_at(record, true[key])))
        ]
        for key, record in held.items():
            if record.status == "final" and key not in true:
                found.append(_violation(Invariant.I1, record.id, "is final, and not on the chain"))
            elif record.status == "detected" and not self._blocks.is_seen(it, record):
                found.append(_violation(Invariant.I8, record.id, "is detected at rest, and not on the chain"))
        return found + self._undecided(it, row)

    def _is_off(self, it: ChainTruth) -> bool:
        row = self._mirror.tables["chains"].get(it.id)
        return row is not None and self._blocks.is_off(row)

    def is_halted_since(self, chain_id: int) -> bool:
        """It is halted, and was so already at the look before."""
        return chain_id in self._halted


def _is_at(held: Row, t: Transfer) -> bool:
    return (held.block_number, held.block_hash, held.log_index) == (t.block_number, t.block_hash, t.log_index)


def _is_same_place(a: Row, b: Row) -> bool:
    return (a.block_hash, a.log_index) == (b.block_hash, b.log_index)


def _said(held: Row | None) -> str:
    if held is None:
        return "is not recorded"
    return f"is recorded as {held.id}, {held.status} in block {held.block_number} as log {held.log_index}"


def _violation(invariant: Invariant, subject: str, detail: str) -> Violation:
    return Violation(invariant=invariant, subject=subject, detail=detail)


def _i1(t: Transfer, detail: str) -> Violation:
    i = t.identity
    what = f"{i.amount} of 0x{i.token.hex()[:8]}… to 0x{i.recipient.hex()[:8]}…"
    place = f"chain {i.chain_id}, 0x{i.tx_hash.hex()[:16]}…:{t.log_index}"
    return _violation(Invariant.I1, place, f"{what} in block {t.block_number} {detail}")


def _i3(subject: str, detail: str) -> Violation:
    return _violation(Invariant.I3, subject, detail)


def _i7(subject: str, detail: str) -> Violation:
    return _violation(Invariant.I7, subject, detail)
