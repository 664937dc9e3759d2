"""Amounts: integers of base units inside, decimal strings at the edges, never a float (RULES.md section 5).

The only place that parses or prints an amount.
"""

from __future__ import annotations

import functools
import re

from chains.model import UINT256_MAX, BaseUnits
from settler.domain.errors import InvalidInput

_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,77})(?:\.([0-9]{1,77}))?")
_SHOWN_FRACTION_DIGITS = 2
"""Digits after the point that are always shown: `100.00`, as the currencies here are written."""
FINEST_SCALE = 18
"""Decimals in which amounts that belong to no token (limits in the configuration) are kept."""
SHOWN_KEPT = 4_096
"""Amounts whose text is remembered: a payment's is shown a dozen times while it is settled."""
BPS = 10_000
"""Basis points in one."""


def parse_amount(text: str, decimals: int, *, field: str) -> BaseUnits:
    """Reads `"100.25"` as base units of a token with `decimals`; exact or refused, never rounded.

    Plain decimal notation only: no sign, exponent, separator, space, NaN or infinity. Zero is read as 0;
    the caller decides whether it makes sense. Raises `InvalidInput` naming `field`, the value and the remedy.
    """
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise InvalidInput(field, f'{_shown(text)} is not an amount; write a plain decimal string like "100.00"')
    whole, fraction = found[1], (found[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise InvalidInput(
            field,
            f"{_shown(text)} has {len(fraction)} decimals; at most {decimals} can be paid with the chosen token",
        )
    amount = int(whole + fraction.ljust(decimals, "0"))
    if amount > UINT256_MAX:
        raise InvalidInput(field, f"{_shown(text)} is above what a token can hold (2**256 - 1 base units)")
    return BaseUnits(amount)


def parse_positive(text: str, decimals: int, *, field: str) -> BaseUnits:
    """`parse_amount`, and above zero."""
    amount = parse_amount(text, decimals, field=field)
    if amount == 0:
        raise InvalidInput(field, f'{_shown(text)} is zero; an amount must be above zero, like "0.01"')
    return amount


@functools.lru_cache(maxsize=SHOWN_KEPT)
def format_amount(amount: int, decimals: int) -> str:
    """Base units as a decimal string, exactly; at least two digits after the point where the token has them."""
    sign, digits = ("-", -amount) if amount < 0 else ("", amount)
    if decimals == 0:
        return f"{sign}{digits}"
    whole, fraction = divmod(digits, 10**decimals)
    shown = f"{fraction:0{decimals}d}".rstrip("0").ljust(min(_SHOWN_FRACTION_DIGITS, decimals), "0")
    return f"{sign}{whole}.{shown}"


def units_of(shown: str, decimals: int) -> int:
    """What `format_amount` wrote, as an integer again. For our own text alone: it checks nothing, and has no bounds."""
    whole, _, fraction = shown.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))


def rescale_exact(amount: int, decimals: int, scale: int) -> int:
    """Base units of a token with `decimals` as units of `scale`; exact: to a coarser scale only what is whole in it."""
    if scale >= decimals:
        return int(amount * 10 ** (scale - decimals))
    whole, rest = divmod(amount, 10 ** (decimals - scale))
    assert rest == 0, f"{amount} of {decimals} decimals cannot be told in {scale}"
    return int(whole)


def rescale_up(amount: int, scale: int, decimals: int) -> int:
    """Units of `scale` as base units of a token, rounded up where that is coarser: the least that covers the amount."""
    if scale < decimals:
        return int(amount * 10 ** (decimals - scale))
    return int(-(-amount // 10 ** (scale - decimals)))


def rescale_down(amount: int, scale: int) -> int:
    """Units of `FINEST_SCALE` as units of `scale`, rounded down."""
    return (
        int(amount // 10 ** (FINEST_SCALE - scale))
        if scale <= FINEST_SCALE
        else int(amount * 10 ** (scale - FINEST_SCALE))
    )


def tolerance(amount: int, *, bps: int, at_most: int) -> int:
    """What may be missing from `amount` (same unit), rounded down: the smaller of `bps` of it and `at_most`."""
    return min(amount * bps // BPS, at_most)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
