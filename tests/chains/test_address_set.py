"""A compact set is a set: held against Python's own, with addresses that begin alike or lie across one another."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains import address_set as module
from chains.address_set import LONG, SMALL_MAX, AddressSet, Gathering, address_set, between, cut, with_changes
from chains.model import Address

few_bytes = st.lists(st.sampled_from([0, 1, 255]), min_size=20, max_size=20).map(lambda b: Address(bytes(b)))
"""Many of them begin alike, are equal, and are found across the border of two others."""
addresses = st.one_of(few_bytes, st.binary(min_size=20, max_size=20).map(Address))
many = st.sets(addresses, max_size=60)


def compact(of: Iterable[Address]) -> AddressSet:
    """As large sets are kept, whatever the size."""
    gathering = Gathering(slices=4, expected=0)
    held = sorted(set(of))
    for number in range(4):
        gathering.add(b"".join(a for a in held if a[0] >> 6 == number))
    made = AddressSet(gathering._buckets, gathering._count, gathering._marks)
    assert sorted(gathering.done()) == held
    return made


def some(count: int, *, seed: int = 1, prefix: bytes = b"") -> list[Address]:
    draw = random.Random(seed)  # the same ones each time
    return [Address(prefix + draw.randbytes(20 - len(prefix))) for _ in range(count)]


@given(held=many, asked=st.lists(addresses, max_size=20))
def test_contains__any_address__as_a_plain_set(held: set[Address], asked: list[Address]) -> None:
    ours = compact(held)
    assert [a in ours for a in [*asked, *held]] == [a in held for a in [*asked, *held]]
    assert (len(ours), list(ours), ours == held, held == ours) == (len(held), sorted(held), True, True)


@given(held=many, shift=st.integers(1, 19))
def test_contains__what_lies_across_two_addresses__is_not_in_it(held: set[Address], shift: int) -> None:
    ours = compact(held)
    row = b"".join(sorted(held))
    across = [Address(row[at + shift : at + shift + 20]) for at in range(0, len(row) - 20, 20)]
    assert [a in ours for a in across] == [a in held for a in across]


@given(held=many, added=many, removed=many, twice=many)
def test_with_changes__any__is_what_a_plain_set_would_be_and_leaves_the_old_one(
    held: set[Address], added: set[Address], removed: set[Address], twice: set[Address]
) -> None:
    before = compact(held)
    after = with_changes(before, added=[*added, *twice, *added], removed=[*removed, *twice])
    assert set(after) == (held | added | twice) - removed - twice
    assert len(after) == len(set(after))
    assert list(before) == sorted(held)


@given(held=many, first=addresses, last=addresses)
def test_between__both_ends__are_in_it(held: set[Address], first: Address, last: Address) -> None:
    expected = sorted(a for a in held if first <= a <= last)
    assert between(compact(held), first, last) == between(frozenset(held), first, last) == expected


@given(held=many, other=many)
def test_operators__of_two_sets__are_those_of_plain_sets(held: set[Address], other: set[Address]) -> None:
    ours: Set[Address] = compact(held)
    assert (ours & other, ours | other, ours - other) == (held & other, held | other, held - other)
    assert (ours <= other, ours.isdisjoint(other)) == (held <= other, held.isdisjoint(other))


@pytest.mark.parametrize("count", [0, 1, SMALL_MAX, SMALL_MAX + 1, 30_000])
def test_address_set__of_a_size__holds_each_once(count: int) -> None:
    held = some(count)
    ours = address_set([*held, *held[:10]])
    assert isinstance(ours, AddressSet) is (count > SMALL_MAX)
    assert len(ours) == count
    assert all(a in ours for a in held)
    assert not any(a in ours for a in some(1_000, seed=2))


def test_address_set__something_else__is_refused() -> None:
    with pytest.raises(ValueError, match="19"):
        address_set([Address(bytes(19))])


def test_contains__bytes_of_another_length__are_not_in_it() -> None:
    held = some(SMALL_MAX + 1)
    ours = address_set(held)
    assert not any(part in ours for part in (held[0][:19], held[0] + b"\0", held[0][:4], held[0][:3], b""))


def test_with_changes__growing_from_nothing_and_back__is_the_same_set_throughout() -> None:
    """Buckets are cut in two on the way up, and small sets become plain ones on the way down."""
    held = some(40_000)
    ours = address_set([])
    for start in range(0, len(held), 1_000):
        ours = with_changes(ours, added=held[start : start + 1_000], removed=())
        assert len(ours) == start + 1_000
    assert ours == address_set(held)
    assert list(ours) == sorted(held)
    for start in range(0, len(held), 1_000):
        ours = with_changes(ours, added=(), removed=held[start : start + 1_000])
        assert not any(a in ours for a in held[: start + 1_000 : 97])
        assert all(a in ours for a in held[start + 1_000 :: 97])
    assert ours == frozenset()


def test_with_changes__nothing_new__is_the_very_set() -> None:
    held = some(SMALL_MAX + 1)
    for ours in (address_set(held), address_set(held[:5])):
        assert with_changes(ours, added=held[:3], removed=some(3, seed=2)) is ours


def test_with_changes__one_more__shares_the_other_buckets() -> None:
    before = address_set(some(50_000))
    after = with_changes(before, added=some(1, seed=2), removed=())
    assert isinstance(before, AddressSet)
    assert isinstance(after, AddressSet)
    changed = [one is not other for one, other in zip(before._buckets, after._buckets, strict=True)]
    assert sum(changed) == 1


def test_contains__all_begin_alike__is_searched_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes invoices names the addresses: a million of one prefix must not make every look-up slow."""
    held = some(20_000, prefix=b"\x11" * 12)
    ours = with_changes(address_set(held), added=some(10, seed=3, prefix=b"\x11" * 12), removed=held[:5])
    searched = 0
    place = module._place

    def counted(ascending: bytes, wanted: bytes, start: int = 0) -> int:
        nonlocal searched
        searched += 1
        return place(ascending, wanted, start)

    monkeypatch.setattr(module, "_place", counted)
    assert all(a in ours for a in held[5:1_000])
    assert not any(a in ours for a in [*held[:5], *some(100, seed=4, prefix=b"\x11" * 12)])
    assert 995 < searched <= 995 + 105
    assert len(held) > LONG


@pytest.mark.parametrize("count", [70_000, 100_000, 130_000])
def test_size__of_very_many__is_below_26_bytes_an_address(count: int) -> None:
    ours = address_set(some(count))
    assert isinstance(ours, AddressSet)
    buckets = ours._buckets
    assert sum(map(sys.getsizeof, buckets)) + sys.getsizeof(buckets) + sys.getsizeof(ours._marks) < 26 * count


def test_marks__of_very_many__rule_out_most_of_the_others() -> None:
    """Also of a set that grew to sixteen times its size one by one."""
    held = some(80_000)
    for ours in (address_set(held), with_changes(address_set(held[:5_000]), added=held[5_000:], removed=())):
        assert isinstance(ours, AddressSet)
        marked = sum(byte.bit_count() for byte in ours._marks) / (8 * len(ours._marks))
        assert 0.03 < marked < 0.1


def test_repr__of_many__is_short() -> None:
    assert repr(address_set(some(SMALL_MAX + 1))) == f"AddressSet({SMALL_MAX + 1} addresses)"


def test_cut__of_two__is_both() -> None:
    assert cut(bytes(20) + b"\1" * 20) == [bytes(20), b"\1" * 20]
