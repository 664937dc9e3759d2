"""A header as the bytes its block hash is the hash of. Pure."""

from __future__ import annotations

from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_hash, read_quantity, to_hex
from chains.model import UINT256_MAX
from chains.proof import rlp
from chains.proof.errors import Unprovable
from chains.proof.keccak import keccak
from chains.proof.profile import REMEDY, FieldKind, HeaderField, Profile, Status
from chains.proof.wire import WireBlock

RECEIPTS_ROOT = 5
TRANSACTIONS_ROOT = 4
NUMBER = 8
TIMESTAMP = 11
LEAST_FIELDS = 15
"""A header of Frontier; each fork since has added at the end."""

_SIZES = {FieldKind.HASH: 32, FieldKind.ADDRESS: 20, FieldKind.BLOOM: 256, FieldKind.NONCE: 8}


def encode_header(block: WireBlock, block_hash: bytes, profile: Profile) -> bytes:
    """The encoding of the header that has this hash, from the block as JSON-RPC gives it.

    Fields that are not known matter only if the hash does not come out: what is hashed cannot be left out unnoticed,
    and what nodes add for their own use need not stop anything. Raises `Unprovable` naming them, or
    `NodeInconsistent`: the fields are not those of this block.
    """
    claimed = block.get("hash")
    if not isinstance(claimed, str) or read_hash(claimed, "block hash") != block_hash:
        raise NodeInconsistent(f"another block than {to_hex(block_hash)} was answered")
    encoded = rlp.encode_list(
        _encode(field, block.get(field.name), is_required=position < LEAST_FIELDS)
        for position, field in enumerate(profile.header_fields)
    )
    if keccak(encoded) != block_hash:
        raise _mismatch(block, block_hash, profile)
    return encoded


def _encode(field: HeaderField, value: object, *, is_required: bool) -> bytes:
    """One field, encoded; nothing at all for a later fork's field that is not there."""
    name = f"block {field.name}"
    if value is None and not is_required:
        return b""
    if not isinstance(value, str):
        raise NodeInconsistent(f"{name}: expected 0x hex, got {ascii(value)[:24]}")
    if field.kind is FieldKind.QUANTITY:
        return rlp.encode_int(read_quantity(value, name, maximum=UINT256_MAX))
    size = _SIZES.get(field.kind, len(value) // 2 - 1)
    return rlp.encode_bytes(read_bytes(value, name, size))


def _mismatch(block: WireBlock, block_hash: bytes, profile: Profile) -> Unprovable | NodeInconsistent:
    known = profile.beside_header.union(field.name for field in profile.header_fields)
    unknown = sorted(name for name in block if name not in known)
    what = f"the fields of block {to_hex(block_hash)} do not hash to its hash"
    if unknown:
        named = ", ".join(ascii(name[:40]) for name in unknown[:8])
        return Unprovable(
            f"{what}, and it has fields this program does not know, likely of a new fork: {named}; {REMEDY}"
        )
    if profile.status is Status.UNVERIFIED:
        return NodeInconsistent(
            f"{what}: the node altered one, or the {profile.family} profile is wrong ({profile.basis})"
        )
    return NodeInconsistent(f"{what}: the node altered one")
