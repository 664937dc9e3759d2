"""Amounts added up by the database, exactly: so that not every row has to come here for it.

    # PostgreSQL   sum(amount)                       NUMERIC, of any size
    # SQLite       six sums, of 13 digits each       its own integers hold 18, its other numbers round

What does not belong here: books, which are kept in Python (`settler.domain.ledger`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, cast, func

from settler.storage.types import UINT256_DIGITS

_DIGITS = 13
"""Of one part: sums of fewer than 900,000 rows fit 64 bits; SQLite refuses what does not."""
_PARTS = UINT256_DIGITS // _DIGITS

assert _PARTS * _DIGITS == UINT256_DIGITS, "parts that leave no digit out"


def added_up(amount: ColumnElement[Any], dialect: str) -> list[ColumnElement[Any]]:
    """Columns for a SELECT that groups: `total_of` makes the sum of their values. `amount`: a `Uint256`."""
    if dialect == "postgresql":
        return [func.sum(amount, type_=Numeric())]
    return [
        func.sum(cast(func.substr(amount, 1 + part * _DIGITS, _DIGITS), BigInteger), type_=BigInteger())
        for part in range(_PARTS)
    ]


def total_of(sums: Sequence[int | Decimal]) -> int:
    """The sum, from the columns of `added_up`."""
    total = 0
    for each in sums:
        total = total * 10**_DIGITS + int(each)
    return total
