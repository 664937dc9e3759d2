"""How a chain hashes its headers and receipts: `chains/data/proof.toml`, checked when first read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from chains.model import ChainId
from chains.proof.errors import Unprovable

REMEDY = "update the program or chains/data/proof.toml, or read this chain without proofs"
"""What every `Unprovable` tells the operator."""


class FieldKind(StrEnum):
    HASH = "hash"
    ADDRESS = "address"
    BLOOM = "bloom"
    NONCE = "nonce"
    BYTES = "bytes"
    QUANTITY = "quantity"


class Status(StrEnum):
    VERIFIED = "verified"
    """Recorded blocks or the clients' own vectors pass, header and receipts."""
    UNVERIFIED = "unverified"
    """Written from the specification. Not less safe (a proof that passes is a proof), but payments may be held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderField:
    name: str
    """As JSON-RPC calls it."""
    kind: FieldKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All that chains differ in, as far as their proofs go."""

    family: str
    status: Status
    basis: str
    """What the status rests on."""
    header_fields: tuple[HeaderField, ...]
    """In the order they are hashed."""
    beside_header: frozenset[str]
    """What JSON-RPC answers beside the header's fields."""
    receipt_types: Mapping[int, tuple[str, ...]]
    """The fields after the four common ones, by receipt type; hashed where a receipt has all of them."""
    appends_synthetic: bool
    """Nodes may answer one receipt more than the trie has, at the end."""


def profile_of(chain_id: ChainId) -> Profile:
    """Raises `Unprovable` for a chain that is not in the data, or has no receipts trie."""
    raw = _file()
    chain = next((each for each in raw.chain if each.chain_id == chain_id), None)
    if chain is None:
        raise Unprovable(f"how chain {chain_id} hashes its receipts is not known: {REMEDY}")
    family = raw.families[chain.family]
    if family.reason is not None:
        raise Unprovable(f"chain {chain_id} has no receipts to prove: {family.reason}; read it without proofs")
    return Profile(
        family=family.name,
        status=chain.status,
        basis=chain.basis,
        header_fields=tuple(HeaderField(name=name, kind=kind) for name, kind in raw.header_fields),
        beside_header=frozenset(raw.beside_header),
        receipt_types={number: raw.tails[number] for number in family.receipt_types},
        appends_synthetic=family.appends_synthetic,
    )


def known_chains() -> tuple[ChainId, ...]:
    """Every chain the data says something of, also those without a trie."""
    return tuple(ChainId(chain.chain_id) for chain in _file().chain)


# -- the file ----------------------------------------------------------------------------------------------------------


class _ReceiptType(msgspec.Struct, forbid_unknown_fields=True):
    type: int
    name: str
    source: str
    tail: tuple[str, ...] = ()


class _Family(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    receipt_types: tuple[int, ...] = ()
    appends_synthetic: bool = False
    reason: str | None = None


class _Chain(msgspec.Struct, forbid_unknown_fields=True):
    chain_id: int
    family: str
    status: Status
    basis: str


class _File(msgspec.Struct, forbid_unknown_fields=True):
    header_fields: tuple[tuple[str, FieldKind], ...]
    beside_header: tuple[str, ...]
    receipt_type: tuple[_ReceiptType, ...]
    family: tuple[_Family, ...]
    chain: tuple[_Chain, ...]

    @property
    def families(self) -> dict[str, _Family]:
        return {each.name: each for each in self.family}

    @property
    def tails(self) -> dict[int, tuple[str, ...]]:
        return {each.type: each.tail for each in self.receipt_type}


@cache
def _file() -> _File:
    raw = msgspec.toml.decode((files("chains.data") / "proof.toml").read_bytes(), type=_File)
    for what, keys in (
        ("header field", [name for name, _ in raw.header_fields] + list(raw.beside_header)),
        ("receipt type", [each.type for each in raw.receipt_type]),
        ("family", [each.name for each in raw.family]),
        ("chain", [each.chain_id for each in raw.chain]),
    ):
        if len(set(keys)) != len(keys):
            raise ValueError(f"chains/data/proof.toml has a {what} twice")
    return raw
