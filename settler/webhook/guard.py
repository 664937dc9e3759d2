"""Whom we may call: a webhook URL is a stranger's, and must not reach what only this machine can reach
(SSRF).

Two looks. `check_url` when an endpoint is added: for a clear error, no promise. `refusal` at each connect, on
the very address that is connected to: the promise, whatever the name resolves to by then. OWASP API7:2023;
Standard Webhooks, section SSRF.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from settler.domain.errors import InvalidInput

URL_CHARS = 2_048
"""More than any endpoint needs; what common servers accept."""

_DENIED_V4 = {
    # https://www.iana.org/assignments/iana-ipv4-special-registry
    IPv4Network("0.0.0.0/8"): "unspecified",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "cloud metadata",  # Azure's, a public address
    IPv4Network("169.254.0.0/16"): "link-local",  # 169.254.169.254: cloud metadata
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "reserved",
    IPv4Network("192.0.2.0/24"): "documentation",
    IPv4Network("192.88.99.0/24"): "6to4 relay",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "benchmarking",
    IPv4Network("198.51.100.0/24"): "documentation",
    IPv4Network("203.0.113.0/24"): "documentation",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_GLOBAL_V6 = IPv6Network("2000::/3")
"""All of IPv6 that is given out for use; what lies outside is refused unheard."""
_DENIED_V6 = {
    # https://www.iana.org/assignments/iana-ipv6-special-registry
    IPv6Network("2001::/23"): "reserved",  # Teredo (2001::/32), ORCHID: an IPv4 address or none inside
    IPv6Network("2001:db8::/32"): "documentation",
    IPv6Network("2002::/16"): "6to4",  # any IPv4 address inside
    IPv6Network("3fff::/20"): "documentation",
}
_OUTSIDE_V6 = {
    IPv6Network("::/128"): "unspecified",
    IPv6Network("::1/128"): "loopback",
    IPv6Network("fc00::/7"): "private",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("ff00::/8"): "multicast",
}
"""Names for what lies outside the global range."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address, where an IPv6-only network calls the IPv4 Internet."""


def refusal(address: str) -> str | None:
    """Why `address` (an IP address as `getaddrinfo` prints it) is not to be called, in a word; `None`: it may
    be.

    Raises `ValueError` when it is no IP address.
    """
    ip = ip_address(address.partition("%")[0])
    return _refusal_v4(ip) if isinstance(ip, IPv4Address) else _refusal_v6(ip)


def _refusal_v4(ip: IPv4Address) -> str | None:
    return next((word for network, word in _DENIED_V4.items() if ip in network), None)


def _refusal_v6(ip: IPv6Address) -> str | None:
    if ip.ipv4_mapped is not None:
        return _refusal_v4(ip.ipv4_mapped)
    if ip in _NAT64:
        return _refusal_v4(IPv4Address(int(ip) & 0xFFFF_FFFF))
    if ip in _GLOBAL_V6:
        return next((word for network, word in _DENIED_V6.items() if ip in network), None)
    return next((word for network, word in _OUTSIDE_V6.items() if ip in network), "reserved")


def check_url(url: str, *, allow_private: bool) -> str:
    """`url` as it is, if an endpoint may have it. Raises `InvalidInput` on field `url`.

    Resolves no name: what a name means today says nothing of tomorrow.
    """
    if len(url) > URL_CHARS:
        raise InvalidInput("url", f"is longer than {URL_CHARS} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InvalidInput(
            "url", "holds characters that a URL cannot; percent-encode them, and write hosts in punycode"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError as error:
        raise InvalidInput("url", f"is not a URL: {error}") from error
    if parts.scheme not in {"http", "https"}:
        has = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise InvalidInput("url", f"has {has}; it must begin with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url", "may not hold a user name or password; webhooks are signed instead")
    if not host or port == 0:
        raise InvalidInput("url", "names no host" if not host else "port 0 cannot be called")
    if parts.fragment:
        raise InvalidInput("url", "may not have a fragment (#…), which is never sent")
    word = None if allow_private else _refusal_of_host(host)
    if word is not None:
        raise InvalidInput("url", f"{host} is a {word} address; to allow such set [webhooks] allow_private_addresses")
    return url


def _refusal_of_host(host: str) -> str | None:
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return "loopback"  # RFC 6761
    try:
        return refusal(host)
    except ValueError:
        return None  # a name
