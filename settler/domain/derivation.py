"""Deposit addresses from an extended public key (BIP-32), watch-only. Pure.

    m/44'/60'/0'  ── xpub ──▶  path "0"  ──▶  0, 1, 2 …  the addresses
     the wallet's own, private   │    here, public from here on

An extended private key is refused wherever one could be given: who reads this process's memory can spend nothing.
Which index comes next is not known here (`storage.deposits`).
https://github.com/bitcoin/bips/blob/master/bip-0032.mediawiki
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from eth_keys.datatypes import PublicKey
from slip10 import SLIP10, InvalidInputError  # type: ignore[import-untyped]  # ships no types

from chains.model import Address

INDEX_END = 2**31
"""Indices from here on are hardened: they take the private key."""
MAX_STEPS = 8
"""More than any wallet has below an account."""

_MAX_DEPTH = 255
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_KEY_BYTES = 78
_CHECKSUM_BYTES = 4
_MAX_CHARS = 200
_PUBLIC = frozenset({0x0488B21E, 0x043587CF})
"""Version bytes of `xpub` and `tpub`."""
_PRIVATE = frozenset({0x0488ADE4, 0x04358394, 0x049D7878, 0x04B2430C, 0x0295B005, 0x02AA7A99, 0x044A4E28, 0x045F18BC})
"""`xprv` and `tprv`, and the variants of SLIP-132 (https://github.com/satoshilabs/slips/blob/master/slip-0132.md)."""

_LOOKS_PRIVATE = re.compile(r"[a-zA-Z]prv|(0x)?[0-9a-fA-F]{64}\Z|([a-z]+\s+){11,}[a-z]+\Z", re.ASCII)
"""Also with a typing error in it: `xprv…`, a raw key, the words of a seed."""
_IS_PRIVATE = (
    "is a private key, which can spend and which this program never holds; give the extended public key of the "
    "account (xpub…) instead, and if others can read this file, move the funds"
)
_REMEDY = "copy the account's extended public key (xpub…) from the wallet again"
_STEP = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_HARDENED = re.compile(r"[0-9]+['hH’]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositKey:
    """An extended public key with the steps below it: where addresses 0, 1, 2 … are derived."""

    id: str
    """Tells keys apart and gives nothing of them away; the same however the key was written."""
    path: str
    """Steps below the key: `0`, `0/5`, or empty."""
    _parent: SLIP10 = field(repr=False, compare=False)

    def address(self, index: int) -> Address:
        """The address at `path/index`."""
        assert 0 <= index < INDEX_END, f"{index} is no index that a public key can derive"
        public = PublicKey.from_compressed_bytes(self._parent.get_pubkey_from_path([index]))
        return Address(public.to_canonical_address())


def read_key(xpub: str, path: str) -> DepositKey:
    """Raises `ValueError`, which says what is wrong and what to do and shows nothing of the key."""
    key = _read_xpub(xpub)
    steps = read_path(path)
    if key.depth + len(steps) >= _MAX_DEPTH:
        raise ValueError(f"is {key.depth} steps below the master key already; give a key nearer to it")
    identity = hashlib.sha256(key.chaincode + key.pubkey).hexdigest()[:32]
    return DepositKey(id=identity, path=path, _parent=key.get_child_from_path(list(steps)))


def check_xpub(text: str) -> str:
    """The text, if it is an extended public key; raises `ValueError` as `read_key` does."""
    _read_xpub(text)
    return text


def read_path(text: str) -> tuple[int, ...]:
    """The steps of `0/5`; none of an empty text. Raises `ValueError`."""
    if not text:
        return ()
    steps = text.split("/")
    if len(steps) > MAX_STEPS:
        raise ValueError(f"has {len(steps)} steps; give at most {MAX_STEPS}")
    if any(_HARDENED.fullmatch(step) for step in steps):
        raise ValueError(
            "has a hardened step, which only a private key can take; "
            'export the xpub below it, and give the steps from there on, like "0"'
        )
    if not all(_STEP.fullmatch(step) and int(step) < INDEX_END for step in steps):
        raise ValueError(f'is no path; give numbers below {INDEX_END} with / between them, like "0", or ""')
    return tuple(int(step) for step in steps)


def _read_xpub(text: str) -> SLIP10:
    if _LOOKS_PRIVATE.match(text.strip()):
        raise ValueError(_IS_PRIVATE)
    raw = _from_base58(text)
    content, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    version = int.from_bytes(content[:4])
    if version in _PRIVATE or (len(content) == _KEY_BYTES and content[45] == 0):
        raise ValueError(_IS_PRIVATE)
    if len(content) != _KEY_BYTES:
        raise ValueError(f"is no extended public key: it has {len(text)} characters instead of 111; {_REMEDY}")
    if hashlib.sha256(hashlib.sha256(content).digest()).digest()[:_CHECKSUM_BYTES] != checksum:
        raise ValueError(f"has a wrong checksum, so a character of it is wrong or missing; {_REMEDY}")
    if version not in _PUBLIC:
        raise ValueError(f"is an extended key of another kind (version {version:#010x}); give one that begins xpub")
    try:
        # checks that the point is on the curve, and that a master key has no parent
        return SLIP10(
            content[13:45],
            pubkey=content[45:],
            fingerprint=content[5:9],
            depth=content[4],
            index=int.from_bytes(content[9:13]),
        )
    except InvalidInputError:
        raise ValueError(f"is no valid extended public key, though its checksum is right; {_REMEDY}") from None


def _from_base58(text: str) -> bytes:
    if not text or len(text) > _MAX_CHARS or any(char not in _BASE58 for char in text):
        raise ValueError(f"is no extended public key; {_REMEDY}")
    number = 0
    for char in text:
        number = number * 58 + _BASE58.index(char)
    return bytes(len(text) - len(text.lstrip("1"))) + number.to_bytes((number.bit_length() + 7) // 8)
