"""A NATS credentials file (`nsc generate creds`): the user's JWT, and the seed of the key that signs for it.

Read here because the client leaves signing to a package that has no wheel. Pure but for `read`.
https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt, keys: https://github.com/nats-io/nkeys
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path

_MAX_BYTES = 64 << 10
"""A credentials file has two kilobytes; more is a wrong file."""
_PART = re.compile(r"-+BEGIN (NATS USER JWT|USER NKEY SEED)-+\s+(\S+)\s+-+END \1-+")
_SEED_BYTES = 36
"""Two of prefix, 32 of seed, two of CRC-16."""
_SEED_OF_USER = (18 << 3, 20 << 3)
"""Prefixes: `S`, a seed, and `U`, of a user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    jwt: str = field(repr=False)
    seed: bytes = field(repr=False)
    """32 bytes: an Ed25519 private key."""

    def sign(self, nonce: str) -> bytes:
        """Base64 of the signature, as the client sends it."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return base64.b64encode(Ed25519PrivateKey.from_private_bytes(self.seed).sign(nonce.encode()))


def read(file: Path) -> Credentials:
    """Raises `ValueError` saying what is wrong with the file, and nothing of what is in it."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES).decode("ascii")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no NATS credentials file") from None
    return parse(text, str(file))


def parse(text: str, name: str) -> Credentials:
    """`name`: of where it was read, for the error."""
    parts = {match[1]: match[2] for match in _PART.finditer(text)}
    if set(parts) != {"NATS USER JWT", "USER NKEY SEED"}:
        raise ValueError(f"{name} is no NATS credentials file: it holds no user JWT with its seed")
    return Credentials(jwt=parts["NATS USER JWT"], seed=_seed(parts["USER NKEY SEED"], name))


def _seed(text: str, name: str) -> bytes:
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) != _SEED_BYTES or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        raise ValueError(f"{name}: its seed is no key: it was cut off or changed")
    kinds = (raw[0] & 0xF8, (raw[0] & 7) << 5 | (raw[1] & 0xF8) >> 3)
    if kinds != _SEED_OF_USER:
        raise ValueError(f"{name}: its seed is not a user's")
    return raw[2:-2]
