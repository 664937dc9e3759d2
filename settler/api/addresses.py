"""Who asks, as far as IP addresses tell. Pure: texts in, texts out.

Behind a reverse proxy every peer is the proxy. Its `X-Forwarded-For` is believed where the configuration names it
(`[api] trusted_proxies`), and nobody else's: anyone can write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = "unknown"
"""All whose address cannot be told, together."""
MAX_FORWARDED = 32
"""Addresses of an `X-Forwarded-For` that are looked at, from the right: longer chains of proxies are made up."""
IPV6_PREFIX = 64
"""What one customer has to himself at least: he can ask from 2**64 addresses."""


def caller_address(peer: str | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """The nearest address that is not a proxy of ours: the peer's, or what our proxies say was theirs. An IPv6 address
    stands for its /64.

    `forwarded`: the values of `X-Forwarded-For`, in order. Read from the right, where our own proxies write; what
    stands further left anybody may have made up.
    """
    address = parse(peer or "")
    hops = [hop for line in forwarded for hop in line.split(",")][-MAX_FORWARDED:]
    while hops and address is not None and is_in(address, proxies):
        before = parse(hops.pop())
        if before is None:
            break
        address = before
    return UNKNOWN if address is None else grouped(address)


def parse(text: str) -> Address | None:
    """The address in a peer's name or a header; `None`: there is none. IPv4 inside IPv6 is IPv4."""
    text = text.strip().partition("%")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def grouped(address: Address) -> str:
    """What is counted as one: an IPv4 address, an IPv6 /64."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, IPV6_PREFIX), strict=False))
