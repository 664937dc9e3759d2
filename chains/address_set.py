"""Very many addresses in little memory: an exact, immutable set of about 24 bytes an address. Pure.

    first bits of the address   0x0000   0x0001   0x0002   …          one bucket each
    bucket: one `bytes`         [20 B][20 B][20 B]…                    ascending, looked up with `find`
    marks: a bit for each of    0 1 0 0 0 1 1 0 0 0 0 1 0 0 …          0: no address begins so
    some more first bits

Most logs of a chain are to nobody we know: the marks tell so of nine in ten, and are small enough to be at hand where
the buckets are not. A changed set shares the buckets that did not change with the one it was made from, which stays as
it is: a query that is under way keeps its own. Small sets are plain frozensets, which are faster and of which there are
few.

What does not belong here: single addresses as people write them (`chains.address`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Set
from itertools import pairwise
from struct import Struct, error
from typing import cast

from chains.model import Address

SMALL_MAX = 20_000
"""Up to so many a frozenset is handed out: half a megabyte at most, and a look-up costs a third or less."""
BUCKET_AIM = 48
"""Addresses a bucket at most, on average, when it is made: `find` goes through a kilobyte in the time that it takes
memory to answer. Fewer would make the list of buckets longer, which each change copies."""
BUCKET_MAX = 96
"""On average, before all buckets are cut."""
MARKS = 12
"""At least, for each address when the marks are made: one in twelve or fewer look-ups goes on to a bucket in vain."""
LONG = 512
"""A bucket of more addresses is searched by halves: who may name addresses may give them all the same first bits."""

_WIDTH = 20
_PREFIX = Struct(">I")
_PREFIX_BITS = 8 * _PREFIX.size
_BITS_MAX = 24
"""Of the prefix, that tell a bucket: sixteen million of them."""
_EACH_PREFIX = Struct(f">I{_WIDTH - _PREFIX.size}x")
_BYTE = 256

_prefix = _PREFIX.unpack_from


def address_set(addresses: Iterable[Address]) -> Set[Address]:
    """The set of them: iterated once, not held as that many objects. Raises `ValueError` for what is no address."""
    parts = [bytearray() for _ in range(_BYTE)]
    for address in addresses:
        if len(address) != _WIDTH:
            raise ValueError(f"an address has {_WIDTH} bytes, not {len(address)}")
        parts[address[0]] += address
    gathering = Gathering(slices=_BYTE, expected=sum(map(len, parts)) // _WIDTH)
    for number, part in enumerate(parts):
        parts[number] = bytearray()  # or every address were held twice
        gathering.add(b"".join(sorted(set(cut(bytes(part))))))
    return gathering.done()


def with_changes(before: Set[Address], *, added: Iterable[Address], removed: Iterable[Address]) -> Set[Address]:
    """`before`, with the one and without the other (what is in both is out); `before` itself if that changes nothing.

    Costs a copy of the list of buckets, and of the buckets that change.
    """
    gone = frozenset(removed)
    fresh = frozenset(address for address in added if address not in before) - gone
    lost = frozenset(address for address in gone if address in before)
    if not fresh and not lost:
        return before
    if isinstance(before, AddressSet):
        return before.changed(fresh, lost)
    after = frozenset(before) - lost | fresh
    return after if len(after) <= SMALL_MAX else address_set(after)


def between(addresses: Set[Address], first: bytes, last: bytes) -> list[Address]:
    """Those of the addresses that are `first .. last`, both inclusive, ascending."""
    if isinstance(addresses, AddressSet):
        return addresses.between(first, last)
    return sorted(address for address in addresses if first <= address <= last)


class AddressSet(Set[Address]):
    """Made by `address_set`, `with_changes` and `Gathering`. Iterates in ascending order."""

    __slots__ = ("_buckets", "_count", "_mark_shift", "_marks", "_shift")

    def __init__(self, buckets: list[bytes], count: int, marks: bytearray) -> None:
        """`buckets`: 2**n of them, each ascending; the list is not changed after. `marks`: 2**m bytes, in which all of
        the addresses are marked; more may be, also after.
        """
        self._buckets = buckets
        self._count = count
        self._marks = marks
        self._mark_shift = _mark_shift(marks)
        self._shift = _PREFIX_BITS - (len(buckets).bit_length() - 1)

    def __contains__(self, address: bytes) -> bool:  # type: ignore[override]  # a check would cost a fifth of it
        """Exact. Of addresses only: any other `bytes` are not in it."""
        try:
            (prefix,) = _prefix(address)
        except error:  # it has not even one
            return False
        mark = prefix >> self._mark_shift
        if not self._marks[mark >> 3] >> (mark & 7) & 1:
            return False
        bucket = self._buckets[prefix >> self._shift]
        at = bucket.find(address)
        while at > 0 and at % _WIDTH:  # it begins within one address and ends within the next
            at = bucket.find(address, at + 1)
        return at >= 0 and len(address) == _WIDTH

    def __iter__(self) -> Iterator[Address]:
        for bucket in self._buckets:
            yield from cut(bucket)

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AddressSet) and len(other._buckets) == len(self._buckets):
            return self._buckets == other._buckets
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # every look-up by it would go through all addresses

    def __repr__(self) -> str:
        return f"AddressSet({self._count} addresses)"

    @classmethod
    def _from_iterable(cls, it: Iterable[Address]) -> Set[Address]:  # type: ignore[override]  # of addresses alone
        """What `&`, `|` and `-` make: a small result is no `AddressSet`."""
        return address_set(it)

    def changed(self, fresh: frozenset[Address], lost: frozenset[Address]) -> Set[Address]:
        """As `with_changes`; all of `fresh` are new, all of `lost` are here."""
        count = self._count + len(fresh) - len(lost)
        if count <= SMALL_MAX // 2:  # not at the bound itself: there each change would turn one kind into the other
            return frozenset(self) - lost | fresh
        touched: dict[int, set[bytes]] = {}
        for address in (*fresh, *lost):
            touched.setdefault(self._number(address), set()).add(address)
        buckets = self._buckets.copy()
        for number, addresses in touched.items():
            kept = set(cut(buckets[number])).symmetric_difference(addresses)
            buckets[number] = _bucket(b"".join(sorted(kept)))
        marks = self._marks
        _mark(marks, b"".join(fresh))  # one that the older sets see too: they look into a bucket in vain
        bits = before = len(buckets).bit_length() - 1
        while count > BUCKET_MAX << bits and bits < _BITS_MAX:
            bits += 1
        if bits > before:
            times = bits - before
            buckets = [
                part for number, whole in enumerate(buckets) for part in _divided(whole, number << times, times, bits)
            ]
            marks = _marks(count)
            for bucket in buckets:
                _mark(marks, bucket)
        return AddressSet(buckets, count, marks)

    def between(self, first: bytes, last: bytes) -> list[Address]:
        """As the function."""
        buckets = self._buckets[self._number(first) : self._number(last) + 1]
        return [address for bucket in buckets for address in cut(bucket) if first <= address <= last]

    def _number(self, address: bytes) -> int:
        number: int = _prefix(address)[0] >> self._shift
        return number


class Gathering:
    """Makes a set of slices of all addresses, given one after the other: no address is held twice meanwhile."""

    def __init__(self, *, slices: int, expected: int) -> None:
        """`slices`: how many there will be, a power of two; the n-th is of the addresses that begin with n.
        `expected`: of how many addresses, about.
        """
        self._slice_bits = slices.bit_length() - 1
        assert slices == 1 << self._slice_bits <= 1 << _BITS_MAX, "a power of two, told by the prefix"
        self._bits = min(_BITS_MAX, max(self._slice_bits, (expected // BUCKET_AIM).bit_length()))
        self._buckets: list[bytes] = []
        self._marks = _marks(expected)
        self._count = 0

    def add(self, ascending: bytes) -> None:
        """The next slice: its addresses one after the other, ascending, each once."""
        times = self._bits - self._slice_bits
        first = len(self._buckets)
        assert first < 1 << self._bits, "no more slices than were announced"
        self._buckets += _divided(ascending, first, times, self._bits)
        _mark(self._marks, ascending)
        self._count += len(ascending) // _WIDTH

    def done(self) -> Set[Address]:
        assert len(self._buckets) == 1 << self._bits, "as many slices as were announced"
        made = AddressSet(self._buckets, self._count, self._marks)
        return frozenset(made) if self._count <= SMALL_MAX else made


class _LongBucket(bytes):
    """A bucket through which `find` would take too long."""

    __slots__ = ()

    def find(self, address: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        """Where the address begins, and never a place within two of them."""
        at = _WIDTH * _place(self, address)
        return at if at >= start and self[at : at + _WIDTH] == address else -1


def _marks(count: int) -> bytearray:
    """None set, enough for so many addresses."""
    return bytearray(1 << min(_PREFIX_BITS - 3, max(0, (count * MARKS).bit_length() - 3)))


def _mark_shift(marks: bytearray) -> int:
    """What of a prefix tells no mark."""
    return _PREFIX_BITS + 1 - (8 * len(marks)).bit_length()


def _mark(marks: bytearray, addresses: bytes) -> None:
    shift = _mark_shift(marks)
    for (prefix,) in _EACH_PREFIX.iter_unpack(addresses):
        mark = prefix >> shift
        marks[mark >> 3] |= 1 << (mark & 7)


def _bucket(ascending: bytes) -> bytes:
    return _LongBucket(ascending) if len(ascending) > LONG * _WIDTH else ascending


def _divided(ascending: bytes, number: int, times: int, bits: int) -> list[bytes]:
    """What is cut in two `times` times: the buckets from `number` on, told by the first `bits` bits."""
    cuts = [0]
    for following in range(number + 1, number + (1 << times)):
        bound = _PREFIX.pack(following << (_PREFIX_BITS - bits))
        cuts.append(_WIDTH * _place(ascending, bound, cuts[-1] // _WIDTH))
    cuts.append(len(ascending))
    return [_bucket(ascending[start:end]) for start, end in pairwise(cuts)]


def _place(ascending: bytes, wanted: bytes, start: int = 0) -> int:
    """How many of the addresses are below `wanted`, of which `start` are known to be."""
    return bisect_left(
        range(len(ascending) // _WIDTH), wanted, start, key=lambda at: ascending[_WIDTH * at : _WIDTH * (at + 1)]
    )


def cut(addresses: bytes) -> list[Address]:
    """The addresses that stand in it one after the other."""
    return cast("list[Address]", [addresses[at : at + _WIDTH] for at in range(0, len(addresses), _WIDTH)])
