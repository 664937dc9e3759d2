"""Deposit addresses: where an invoice is paid that names no address of its own. The words and the policy; pure.

How they are derived is in `derivation`, which one is free in `storage.deposits`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from chains.model import Address
from settler.domain.ids import InvoiceId

if TYPE_CHECKING:
    from settler.domain.derivation import DepositKey

QUARANTINE = timedelta(days=7)
"""How long a pool's address rests after its invoice is not monitored any more: a customer may still have the old
checkout page open, or the address in a wallet's address book. What comes in that time is nobody else's money.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositPolicy:
    """Where the addresses of invoices without `pay_to` come from, beside the pool in the database."""

    key: DepositKey | None = None
    """`None`: from the pool alone."""
    quarantine: timedelta = QUARANTINE


POOL_ONLY = DepositPolicy()


class Source(StrEnum):
    POOL = "pool"
    """Added by an operator; given out again."""
    DERIVED = "derived"
    """Made from an extended public key; given out once."""


class DepositState(StrEnum):
    FREE = "free"
    TAKEN = "taken"
    """An invoice has it that is not finished or still monitored; a derived one stays so."""
    QUARANTINED = "quarantined"
    """Rests until `free_from`."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositAddress:
    address: Address
    source: Source
    path: str | None
    """Steps below the extended public key and the index, e.g. `0/7`; `None` in the pool."""
    invoice_id: InvoiceId | None
    """The invoice it was given to last."""
    free_from: datetime
    """From when on the pool may give it to another."""
    state: DepositState
