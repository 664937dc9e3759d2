"""Defects of reading: from the bytes of one provider to what several agree on."""

from __future__ import annotations

from tests.simulation.defects_needs import (
    LIES,
    TAMPERING,
    has_depth,
    has_habit,
    has_liar,
    has_lone_provider,
    has_tag,
    has_tag_and_depth,
)
from tests.simulation.defects_planting import Stage, defect, edit


@defect(Stage.READ, has_lone_provider, faults=("duplicate logs",))
def counts_duplicates() -> None:
    """A log that a node answers twice is two payments."""
    edit(
        "chains.decode:_check_places",
        'raise NodeInconsistent(f"log {index} of a transaction in block {number} came twice")',
        "continue",
    )


@defect(Stage.READ, has_lone_provider, faults=("tampered block hash",))
def believes_the_hash_in_a_log() -> None:
    """The block a log says it is of is not held against that block's header."""
    edit(
        "chains.evm:EvmReader._blocks_of",
        "        if by_number[number].ref.hash != block_hash:\n",
        "        if False:\n",
    )


@defect(Stage.READ, has_habit("worthless token"))
def takes_any_contract() -> None:
    """Logs are asked of all contracts, and one that is not known counts as the first token: worthless ones pay."""
    edit("chains.evm_calls:logs_call", '"address": [to_hex(token) for token in sorted(query.tokens)],', "")
    edit(
        "chains.decode:_Known.add_spelling",
        "        if token is None:\n",
        "        token = token or next(iter(self._tokens.values()))\n        if token is None:\n",
    )


@defect(Stage.READ, faults=("reordered replies", "swapped ids"))
def matches_replies_by_position() -> None:
    """Replies of a batch are taken in the order they come in, whatever their ids."""
    edit(
        "chains.replies:read_batch",
        "    by_id = {reply.id: reply for reply in replies if reply.id is not None}\n",
        "    for at, reply in enumerate(replies):\n"
        "        reply.id = ids[at] if at < len(ids) else None\n"
        "    by_id = {reply.id: reply for reply in replies if reply.id is not None}\n",
    )


@defect(Stage.READ, faults=("range limit",))
def begins_a_piece_too_high() -> None:
    """Of a span that is read in pieces, the first block of each further piece is left out."""
    edit(
        "chains.spans:WindowedReader.read_span",
        "BlockNumber(last.number + 1)",
        "BlockNumber(min(last.number + 2, span.last))",
    )


@defect(Stage.READ)
def asks_logs_from_one_block_too_high() -> None:
    """The lower end of a span is taken for exclusive where it is asked for."""
    edit("chains.evm_calls:logs_call", "to_quantity(span.first)", "to_quantity(min(span.first + 1, span.last))")


@defect(Stage.READ, has_habit("in a batch with others", "twice in one transaction"))
def knows_one_payment_a_transaction() -> None:
    """Payments are keyed by their transaction: of a batch the first one counts."""
    edit(
        "chains.decode:_numbered",
        "        equal = found[3:]\n",
        "        equal = found[3:]\n"
        "        if any(each.identity.tx_hash == found.tx_hash for each in numbered):\n"
        "            continue\n",
    )


@defect(Stage.READ, has_habit("twice in one transaction"))
def takes_equal_logs_for_one() -> None:
    """Two equal transfers within one transaction are taken for the same log, told twice."""
    edit(
        "chains.decode:_numbered",
        "        ordinal = counts.get(equal, 0)\n",
        "        ordinal = counts.get(equal, 0)\n        if ordinal:\n            continue\n",
    )


@defect(Stage.AGREE, has_liar, faults=LIES)
def believes_the_first_answer() -> None:
    """Of the providers that must agree, one is asked."""
    edit("settler.stages.agreement:Agreement.__init__", "self._quorum = quorum", "self._quorum = 1")


@defect(Stage.AGREE, has_liar, faults=LIES)
def compares_hashes_alone() -> None:
    """Providers agree when they show the same blocks, whichever logs they answer."""
    edit(
        "chains.quorum:gist", "return (read.anchor, read.end, read.transfers, homes)", "return (read.anchor, read.end)"
    )


@defect(Stage.AGREE, has_liar, faults=TAMPERING)
def compares_only_how_many() -> None:
    """Providers agree when they show the same blocks and as many payments."""
    edit(
        "chains.quorum:gist",
        "return (read.anchor, read.end, read.transfers, homes)",
        "return (read.anchor, read.end, len(read.transfers), len(homes))",
    )


@defect(Stage.AGREE, has_liar, faults=("finalized ahead",))
def believes_the_highest_final_block() -> None:
    """The final height is the highest that anybody names, not what as many as the quorum have reached."""
    edit("settler.stages.looking:weigh", "number, name = heights[chain.quorum - 1]", "number, name = heights[0]")


@defect(Stage.AGREE, has_depth)
def is_final_one_block_early() -> None:
    """Off by one: a block counts as final when one too few stand on it."""
    edit("settler.domain.finality:final_height", "height = head - blocks", "height = head - blocks + 1")


@defect(Stage.AGREE, has_tag)
def trusts_the_head_over_the_tag() -> None:
    """Where a depth stands beside the tag, the depth alone decides; where none does, the head is final."""
    edit("settler.domain.finality:final_height", "height = min(tagged, head - min_depth)", "height = head - min_depth")


@defect(Stage.AGREE, has_tag_and_depth)
def ignores_the_depth_beside_the_tag() -> None:
    """A tag is believed at once, also where it is to be some blocks deep."""
    edit("settler.domain.finality:final_height", "height = min(tagged, head - min_depth)", "height = tagged")


@defect(Stage.AGREE, has_tag)
def asks_for_safe_instead_of_finalized() -> None:
    """What is safe passes for final."""
    edit("settler.stages.looking:look", "wanted.append(policy.tag)", "wanted.append(Tag.SAFE)")


@defect(Stage.AGREE, has_tag, faults=("finalized at head", "finalized above head"))
def believes_any_tag() -> None:
    """A tag that equals the head, or is above it, is no error."""
    edit("settler.stages.looking:_fault", "if not isinstance(chain.finality, ByTag):", "if chain:")
