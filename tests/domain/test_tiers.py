from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from settler.domain.finality import Depth, Tier, tier_of
from settler.domain.money import FINEST_SCALE

USD = 10**FINEST_SCALE
FIFTY = Tier(up_to=50 * USD, policy=Depth(blocks=2))
FIVE_THOUSAND = Tier(up_to=5_000 * USD, policy=Depth(blocks=12))
TIERS = (FIFTY, FIVE_THOUSAND)


def test_tier_of__the_lowest_that_takes_the_amount__and_none_above_all() -> None:
    def of(cents: int) -> Tier | None:
        return tier_of(TIERS, cents, 2)

    assert [of(1), of(50_00), of(50_01), of(5_000_00), of(5_000_01)] == [
        FIFTY, FIFTY, FIVE_THOUSAND, FIVE_THOUSAND, None,
    ]  # fmt: skip
    assert tier_of((), 1, 2) is None


@given(amount=st.integers(1, 10**12), scale=st.integers(0, 18))
def test_tier_of__in_any_scale__is_the_amount_that_counts(amount: int, scale: int) -> None:
    units = amount * 10 ** (FINEST_SCALE - scale)
    expected = FIFTY if units <= FIFTY.up_to else FIVE_THOUSAND if units <= FIVE_THOUSAND.up_to else None
    assert tier_of(TIERS, amount, scale) == expected
    assert tier_of(tuple(reversed(TIERS)), amount, scale) == expected
