"""How the customers of the running demo pay: a table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

UNIT = 10**6
"""One TUSD in base units."""
PATIENT_S = 3_600
"""An invoice's life, where nothing is to be seen of its end."""
SHORT_S = 45
"""That of one which is to expire before the eyes of who watches."""
PART_AFTER_S = 6.0
AGAIN_AFTER_S = 30.0
"""By then the first payment is settled."""


class Customer(StrEnum):
    EXACT = "exact"
    IN_PARTS = "in two parts"
    TOO_MUCH = "too much"
    TWICE = "twice"
    """The second payment comes after the settlement: suspense, `surplus`."""
    TOO_LITTLE = "too little"
    NEVER = "never"


TURNS = (
    *(Customer.EXACT, Customer.EXACT, Customer.IN_PARTS, Customer.EXACT, Customer.TOO_MUCH, Customer.EXACT),
    *(Customer.EXACT, Customer.IN_PARTS, Customer.EXACT, Customer.TWICE, Customer.EXACT, Customer.TOO_LITTLE),
    *(Customer.EXACT, Customer.EXACT, Customer.TOO_MUCH, Customer.EXACT, Customer.IN_PARTS, Customer.NEVER),
)
"""In turn: most people pay what they owe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    after_s: float
    """Seconds from the invoice."""
    amount_base: int


def parts(customer: Customer, due_base: int) -> list[Part]:
    """What a customer sends for an invoice, and when."""
    match customer:
        case Customer.EXACT:
            return [Part(after_s=0, amount_base=due_base)]
        case Customer.IN_PARTS:
            first = due_base * 2 // 5
            return [
                Part(after_s=0, amount_base=first),
                Part(after_s=PART_AFTER_S, amount_base=due_base - first),
            ]
        case Customer.TOO_MUCH:
            return [Part(after_s=0, amount_base=due_base + UNIT)]
        case Customer.TWICE:
            return [
                Part(after_s=0, amount_base=due_base),
                Part(after_s=AGAIN_AFTER_S, amount_base=due_base),
            ]
        case Customer.TOO_LITTLE:
            return [Part(after_s=0, amount_base=due_base // 2)]
        case Customer.NEVER:
            return []
        case _:
            assert_never(customer)


def expires_in_s(customer: Customer) -> int:
    return SHORT_S if customer in (Customer.TOO_LITTLE, Customer.NEVER) else PATIENT_S
