"""Operators, accounts and users of NATS as `nsc` makes them, for servers that ask for credentials.

https://github.com/nats-io/nkeys (keys), https://github.com/nats-io/jwt (claims).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}
STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def _text(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


@dataclass(frozen=True)
class Key:
    kind: int
    seed: bytes

    @property
    def name(self) -> str:
        """Its public half, as NATS writes it."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return _text(bytes([self.kind]) + public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def seed_text(self) -> str:
        return _text(bytes([18 << 3 | self.kind >> 5, (self.kind & 31) << 3]) + self.seed)

    def issue(self, subject: Key, name: str, claims: dict[str, Any]) -> str:
        """A JWT about `subject`, signed by this key."""
        body = {"iat": 1_700_000_000, "iss": self.name, "name": name, "sub": subject.name}
        body["nats"] = {**claims, "version": 2}
        body["jti"] = base64.b32encode(hashlib.sha256(json.dumps(body).encode()).digest()).decode().rstrip("=")
        signed = ".".join(_url(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
        return f"{signed}.{_url(Ed25519PrivateKey.from_private_bytes(self.seed).sign(signed.encode()))}"


def _url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


OF_OPERATOR, OF_SYSTEM, OF_ACCOUNT, OF_USER, STRANGER = (
    Key(kind, bytes([number]) * 32) for number, kind in enumerate((OPERATOR, ACCOUNT, ACCOUNT, USER, USER), 1)
)


def server_settings() -> str:
    """For a server that knows one account, which may use JetStream."""
    operator = OF_OPERATOR.issue(OF_OPERATOR, "op", {"type": "operator", "system_account": OF_SYSTEM.name})
    system = OF_OPERATOR.issue(OF_SYSTEM, "SYS", {"type": "account", "limits": UNLIMITED})
    account = OF_OPERATOR.issue(OF_ACCOUNT, "shop", {"type": "account", "limits": UNLIMITED | STORAGE})
    return (
        f"operator: {operator}\nsystem_account: {OF_SYSTEM.name}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {OF_SYSTEM.name}: {system}, {OF_ACCOUNT.name}: {account} }}\n"
    )


def credentials(key: Key = OF_USER) -> str:
    """The file of a user: the JWT is always `OF_USER`'s."""
    jwt = OF_ACCOUNT.issue(
        OF_USER, "relay", {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    )
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed_text}\n------END USER NKEY SEED------\n"
    )
