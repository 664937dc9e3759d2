"""Column types that keep a value exactly, on SQLite and PostgreSQL alike.

    #                 PostgreSQL        SQLite
    # Uint256         NUMERIC(78, 0)    78 digits, zero-padded     (its own numbers are rounded above 2**63)
    # UtcDateTime     TIMESTAMPTZ       2026-01-31T23:59:59.000000Z
    # Sequence64      BIGINT            INTEGER                    (the only type that counts by itself there)

The SQLite forms have a fixed width, so that `<`, `=`, ORDER BY and a primary key mean the same
there. Adding up is not among it: see `settler.storage.sums`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, Numeric, String
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

from chains.model import UINT256_MAX

UINT256_DIGITS = len(str(UINT256_MAX))
"""78."""
TEXTS_KEPT = 4_096
"""Amounts whose text is remembered: a payment's own is written nine times."""
UTC_TEXT_CHARS = len("2026-01-31T23:59:59.000000Z")


class Uint256(TypeDecorator[int]):
    """An integer `0 .. 2**256 - 1`. Anything else raises `TypeError` or `ValueError`: a bug."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(UINT256_DIGITS))
        return dialect.type_descriptor(Numeric(UINT256_DIGITS, 0))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return uint256_text(value, is_padded=True) if dialect.name == "sqlite" else Decimal(_uint256(value))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], int | None]:
        return _read_uint256  # what SQLAlchemy would make of it, less two calls a value


class UtcDateTime(TypeDecorator[datetime]):
    """An aware point in time, read in UTC, to the microsecond. A naive one raises `ValueError`: a bug."""

    impl = TIMESTAMP
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(UTC_TEXT_CHARS))
        return dialect.type_descriptor(TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return utc_text(value) if dialect.name == "sqlite" else _utc(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        return _read_text_of_time if dialect.name == "sqlite" else _read_time


Sequence64 = BigInteger().with_variant(Integer(), "sqlite")
"""A key the database counts up. Its table says `sqlite_autoincrement=True`, or a number may come twice."""


@lru_cache(maxsize=TEXTS_KEPT, typed=True)
def uint256_text(value: object, *, is_padded: bool) -> str:
    """The digits of an amount, all 78 of them or no more than it has. Raises as `Uint256`."""
    checked = _uint256(value)
    return f"{checked:0{UINT256_DIGITS}d}" if is_padded else str(checked)


def utc_text(value: object) -> str:
    """A point in time as SQLite keeps it, and PostgreSQL reads it. Raises as `UtcDateTime`."""
    return _utc(value).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _read_uint256(value: Any) -> int | None:
    return None if value is None else int(value)


def _read_text_of_time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _read_time(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _uint256(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"an amount is an int of base units, not {type(value).__name__}: {value!r}")
    if not 0 <= value <= UINT256_MAX:
        raise ValueError(f"an amount is 0 .. 2**256 - 1, not {value}")
    return int(value)


def _utc(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"a time is a datetime, not {type(value).__name__}: {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"a time is aware, not naive: {value!r}")
    return value.astimezone(UTC)
