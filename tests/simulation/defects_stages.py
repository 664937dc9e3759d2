"""Defects of the two readings: what is written when, what a fork takes back, what a violation of finality halts."""

from __future__ import annotations

from settler.storage import leases, schema
from tests.simulation.defects_needs import DATABASE, FORKS, has_liar, has_quick_looks
from tests.simulation.defects_planting import Stage, defect, edit, put


@defect(Stage.WATCH, faults=FORKS)
def needs_no_second_reading() -> None:
    """What the first reading sees is final: no stage reads it again."""
    edit("settler.stages.watch:Watch._commit", "status=TransferStatus.DETECTED", "status=TransferStatus.FINAL")


@defect(Stage.WATCH)
def caches_the_watched_addresses() -> None:
    """The watched addresses are read once a process; who is invoiced later is not seen."""
    for place in ("settler.stages.watch:Watch._read_span", "settler.stages.settle:Settle._begun"):
        edit(
            place,
            "watched = await self._watched.current()",
            "self.__dict__.setdefault('_cached', await self._watched.current())\n        watched = self._cached",
        )


@defect(Stage.WATCH)
def settle_reads_with_stale_addresses() -> None:
    """The second reading asks for the addresses that were watched when its process began."""
    edit(
        "settler.stages.settle:Settle._begun",
        "watched = await self._watched.current()",
        "self.__dict__.setdefault('_cached', await self._watched.current())\n        watched = self._cached",
    )


@defect(Stage.WATCH)
def follows_the_watched_addresses_one_too_far() -> None:
    """Of the addresses that are watched since the last look the first is passed over."""
    edit("settler.storage.watched:_followed", '"since": known.place.low', '"since": known.place.low + 1')


@defect(Stage.WATCH, faults=("kill -9", "restart"))
def begins_at_the_head_after_a_restart() -> None:
    """What was mined while no process ran is passed over."""
    edit("settler.stages.opening:open_chain", "    if state.is_started:\n        return\n", "")


@defect(Stage.SETTLE, faults=DATABASE)
def commits_the_cursor_before_the_facts() -> None:
    """The cursor moves in a transaction of its own, the facts follow in the next."""
    edit(
        "settler.stages.settle:Settle._commit",
        "            held = await self._held(conn, read)\n            shown",
        "        async with self._db.write() as conn:\n"
        "            held = await self._held(conn, read)\n            shown",
    )


@defect(Stage.SETTLE, faults=("transaction dropped", "transaction replaced"))
def leaves_what_a_fork_dropped() -> None:
    """A payment that the second reading does not show stays as the first one recorded it."""
    edit(
        "settler.stages.settle:Settle._commit",
        "missing=[t for t in held.within if not t.is_final]",
        "missing=[]",
    )


@defect(Stage.SETTLE, faults=FORKS)
def keeps_the_place_a_payment_had_before_the_fork() -> None:
    """A payment mined again in another block keeps the block it was seen in first."""
    edit(
        "settler.stages.recording:_placed",
        "        block_hash=found.block_hash,\n",
        "        block_hash=held.block_hash,\n",
    )


@defect(Stage.SETTLE, faults=FORKS)
def keeps_the_time_a_payment_had_before_the_fork() -> None:
    """A payment mined again in a later block keeps the time it had."""
    edit(
        "settler.stages.recording:_placed", "        block_time=block.time,\n", "        block_time=held.block_time,\n"
    )


@defect(Stage.SETTLE)
def drops_what_nobody_was_asked_for() -> None:
    """Money that matches no invoice is passed over in silence."""
    edit(
        "settler.stages.recording:record",
        "        (changed if record_.identity in known else fresh).append(record_)\n",
        "        if record_.identity in known or record_.invoice_id is not None:\n"
        "            (changed if record_.identity in known else fresh).append(record_)\n",
    )


@defect(Stage.SETTLE, has_quick_looks, faults=("two workers", "a worker stands still", "reorg past finality"))
def ignores_who_else_moved_the_cursor() -> None:
    """The fence of a chain's row is not looked at: what another worker wrote is written over."""
    edit(
        "settler.storage.chains:advance",
        "moved = [name for name in guard if getattr(current, name) != getattr(before, name)]",
        "moved = []",
    )


@defect(Stage.LEAD, faults=("lost lease",))
def ignores_the_fencing_number() -> None:
    """A worker that stood still while another took its chain over goes on where it was."""
    edit("settler.storage.leases:check", "if found != lease.fencing:", "if found is None:")


@defect(Stage.LEAD, faults=("lost lease",))
def takes_over_under_the_same_number() -> None:
    """Who takes a chain over does not count the leaders: the one before finds its own number, and goes on."""
    put("settler.storage.leases:_TAKE", leases._TAKE.values(fencing=schema.leases.c.fencing))
    edit("settler.storage.leases:take", "Lease(chain_id, seen.fencing + 1)", "Lease(chain_id, seen.fencing)")


@defect(Stage.SETTLE, has_liar, faults=("own fork",))
def believes_one_node_about_a_violation() -> None:
    """One sighting of another block at the settled height, by one provider, halts the chain."""
    put("settler.stages.settle:VIOLATION_SIGHTINGS", 1)
    edit(
        "settler.stages.looking:weigh",
        "    verdict = judge(shown, chain.quorum)\n",
        "    for name, hash_ in shown.items():\n"
        "        if hash_ != settled.hash:\n"
        "            return Replaced(by=(name,))\n"
        "    verdict = judge(shown, chain.quorum)\n",
    )


@defect(Stage.SETTLE, faults=("reorg past finality",))
def waits_out_a_violation() -> None:
    """Final blocks that were replaced are taken for a node's whim, for ever."""
    put("settler.stages.settle:VIOLATION_SIGHTINGS", 10**9)


@defect(Stage.SETTLE, faults=("reorg past finality",))
def goes_on_after_a_violation() -> None:
    """What was settled is taken back, and the chain settles on without anybody's word."""
    edit("settler.stages.halt:halt_chain", "            halted_at=now,\n            halt_reason=reason,\n", "")


@defect(Stage.SETTLE, faults=("reorg past finality",))
def reverses_nothing() -> None:
    """The chain halts, and settlements that rested on vanished blocks stay in force."""
    edit(
        "settler.stages.halt:halt_chain",
        "reversed_ = await settlements.in_force_on(conn, [t.id for t in vanished])",
        "reversed_ = []",
    )


@defect(Stage.SETTLE, faults=("reorg past finality",))
def settles_on_a_halted_chain() -> None:
    """The halt is noted, and the second reading goes on as before."""
    edit("settler.stages.settle:Settle.tick", "if state.is_halted:", "if False:")


@defect(Stage.SETTLE, faults=("reorg past finality",))
def forgets_to_go_back_to_the_ancestor() -> None:
    """After a violation the blocks that replaced the vanished ones are taken as read."""
    edit(
        "settler.stages.halt:halt_chain",
        "    ancestor = await _ancestor(state, pool, quorum, db)\n",
        "    ancestor = await _ancestor(state, pool, quorum, db)\n"
        "    (tip,) = await agreed_headers(pool, [state.settled_number], quorum=quorum)\n",
    )
    for what in ("number", "hash", "time"):
        edit("settler.stages.halt:halt_chain", f"settled_{what}=ancestor.{what}", f"settled_{what}=tip.{what}")
        edit("settler.stages.halt:halt_chain", f"scanned_{what}=ancestor.{what}", f"scanned_{what}=tip.{what}")
