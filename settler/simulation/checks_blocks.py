"""The blocks that rows name: those that are in a chain, and those that were final in it once and are gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chains.model import Transfer
from chains.simulated_chain import SimBlock
from settler.simulation.checks_money import Payment
from settler.simulation.checks_rows import Identity, Mirror, Row
from settler.simulation.truth import ChainTruth, Truth


class Blocks:
    """Of all chains of a world."""

    def __init__(self, truth: Truth, mirror: Mirror) -> None:
        self._truth = truth
        self._mirror = mirror
        self.chains = {c.id: c for c in truth.chains.values()}
        """By id."""
        self._newest: dict[int, datetime] = {}

    def look(self) -> None:
        """Takes note of how far the chains are."""
        for it in self.chains.values():
            head = it.chain.head.time
            if (newest := self._newest.get(it.id)) is None or head > newest:
                self._newest[it.id] = head

    def newest_time(self, chain_id: int) -> datetime | None:
        """Of the latest block there ever was, as far as looks saw it."""
        return self._newest.get(chain_id)

    # -- what rows name ------------------------------------------------------------------------------------------------

    def block(self, it: ChainTruth, number: int, hash_: bytes) -> SimBlock | None:
        """The block of that hash, in the chain or once final in it."""
        block = it.chain.block_at(number)
        if block is not None and block.ref.hash == hash_:
            return block
        gone = it.replaced.get(hash_)  # type: ignore[call-overload] # a row's bytes are a hash
        return gone if gone is not None and gone.ref.number == number else None

    def along(self, it: ChainTruth, row: Row, first: int) -> Iterator[SimBlock]:
        """From `first` up to the settled block, along the fork that this one is of; highest first."""
        number, hash_ = row.settled_number, row.settled_hash
        while number >= first:
            block = self.block(it, number, hash_)
            if block is None:
                return  # told of the cursor already
            yield block
            number, hash_ = number - 1, block.ref.parent_hash

    def payment(self, row: Row) -> Payment | None:
        """What a record (or a line of a settlement) stands for, by the block it names; `None`: there is no such log."""
        it = self.chains.get(row.chain_id)
        block = None if it is None else self.block(it, row.block_number, row.block_hash)
        if it is None or block is None:
            return None
        for t in block.transfers:
            if t.log_index == row.log_index and t.identity.tx_hash == row.tx_hash:
                decimals = next((k.decimals for k in it.tokens if k.address == t.identity.token), None)
                return None if decimals is None else Payment(transfer=t, decimals=decimals, time=block.ref.time)
        return None

    def is_seen(self, it: ChainTruth, row: Row) -> bool:
        """What a record says stands in a block of the chain."""
        block = it.chain.block_at(row.block_number)
        if block is None or block.ref.hash != row.block_hash:
            return False
        i = (row.chain_id, row.tx_hash, row.token, row.sender, row.recipient, row.amount, row.ordinal)
        return any(identity(t) == i for t in block.transfers)

    # -- what is to be recorded ----------------------------------------------------------------------------------------

    def is_wanted(self, it: ChainTruth, t: Transfer) -> bool:
        return self.is_watched(t.identity.recipient) and any(k.address == t.identity.token for k in it.tokens)

    def is_due(self, it: ChainTruth, block: SimBlock, t: Transfer) -> bool:
        """It was mined after its address had been watched. Block times are whole seconds, rounded down; what was mined
        in the second the invoice was made may have been read before.
        """
        since = self._truth.watched.get(t.identity.recipient)
        return since is not None and block.ref.time > since and self.is_wanted(it, t)

    def is_watched(self, address: bytes) -> bool:
        # an invoice that is being made is in the database before whoever asked for it is answered
        return address in self._truth.watched or address in self._mirror.pay_to

    # -- what was replaced ---------------------------------------------------------------------------------------------

    def is_replaced(self, row: Row) -> bool:
        """The block that a record or a line names was final once and is gone."""
        it = self.chains.get(row.chain_id)
        return it is not None and row.block_hash in it.replaced

    def is_off(self, row: Row) -> bool:
        """The cursor of a chain's row stands on a block that was replaced: the violation is not dealt with yet."""
        it = self.chains.get(row.chain_id)
        return it is not None and row.settled_hash in it.replaced

    def has_dealt_with_violations(self, row: Row) -> bool:
        """There were violations of finality, and the chain's cursor stands on a block that is in the chain."""
        it = self.chains.get(row.chain_id)
        return it is not None and bool(it.violations) and not self.is_off(row)


def identity(t: Transfer) -> Identity:
    i = t.identity
    return i.chain_id, i.tx_hash, i.token, i.sender, i.recipient, i.amount, i.ordinal
