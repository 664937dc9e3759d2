"""An operator's word: who decides, why, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from settler.domain.records import Settlement

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who decides, why and when: what the audit log keeps."""

    who: str
    reason: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Generic[T]):
    """What a decision made of its object, and the settlements it led to."""

    value: T
    settled: tuple[Settlement, ...]
