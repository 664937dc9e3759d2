"""What a token's announcements, and the answers of feeds and lists, say against a payment. Pure (RULES.md section 4).

Nobody who does not answer is taken for yes: what cannot be told is said against the payment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from chains.model import Address, Announcement, AnnouncementKind, Price
from settler.domain.money import FINEST_SCALE, format_amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """An announcement as it is kept."""

    announcement: Announcement
    is_accepted: bool
    """An operator looked at it and trusts the token as it is now."""


def against_token(risks: Iterable[Risk], pay_to: Address) -> str | None:
    """Why money of this token at this address is not to be relied on; `None` if nothing is known against it.

    `risks`: the token's, in any order. A pause ends with an unpause, a freeze with its end; that other code runs, or
    another contract takes its place, ends with an operator's acceptance.
    """
    paused: Announcement | None = None
    replaced: Announcement | None = None
    blocked: Announcement | None = None
    for risk in sorted(risks, key=lambda r: (r.announcement.block_number, r.announcement.log_index)):
        a = risk.announcement
        match a.kind:
            case AnnouncementKind.PAUSED:
                paused = None if risk.is_accepted else a
            case AnnouncementKind.UNPAUSED:
                paused = None
            case AnnouncementKind.UPGRADED | AnnouncementKind.DEPRECATED:
                replaced = None if risk.is_accepted else a
            case AnnouncementKind.BLOCKED:
                if a.subject == pay_to:
                    blocked = None if risk.is_accepted else a
            case AnnouncementKind.UNBLOCKED:
                if a.subject == pay_to:
                    blocked = None
            case _:
                assert_never(a.kind)
    if paused is not None:
        return f"the token was paused in block {paused.block_number}"
    if blocked is not None:
        return f"the token froze the receiving address in block {blocked.block_number}"
    if replaced is not None:
        to = "" if replaced.subject is None else f" to 0x{replaced.subject.hex()}"
        return f"the token was {replaced.kind}{to} in block {replaced.block_number}, and nobody accepted that yet"
    return None


def against_price(price: Price | None, *, floor: int, max_age: timedelta, now: datetime) -> str | None:
    """Why the token is not to be taken at par; `None` if its feed says that it is.

    `floor`: in 10**-`FINEST_SCALE` of the currency for one token; a price at the floor is high enough. `now`: the
    chain's time.
    """
    if price is None:
        return "the price feed does not answer"
    if now - price.updated_at > max_age:
        return f"the price feed is stale: it was updated at {price.updated_at.isoformat()}"
    if price.answer <= 0:
        return f"the price feed is broken: it answers {price.answer}"
    if price.answer * 10**FINEST_SCALE < floor * 10**price.decimals:
        shown = format_amount(price.answer, price.decimals)
        return f"the price is {shown}, below the floor of {format_amount(floor, FINEST_SCALE)}"
    return None


def against_payer(is_sanctioned: bool | None) -> str | None:
    """Why money of this payer is not to be taken; `None` if the list does not have him."""
    if is_sanctioned is None:
        return "the sanctions list does not answer"
    return "the payer is on the sanctions list" if is_sanctioned else None
