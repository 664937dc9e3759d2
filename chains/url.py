"""RPC URLs: which are taken, and what of one may be told. Pure."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

_SOCKET_SCHEMES = frozenset({"ws", "wss"})
_SCHEMES = _SOCKET_SCHEMES | {"http", "https"}
_SECRET_CHARS = 6
"""Shorter parts of a path are words (`v2`, `rpc`), not keys."""


def checked_host(url: str) -> str:
    """The host of an `http(s)` or `ws(s)` URL. Raises `ValueError` without repeating the URL: it may hold a key."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("an RPC URL is malformed (host or port)") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            f"an RPC URL must be http:// or https://, ws:// or wss://, this one has scheme {parts.scheme[:12]!a}"
        )
    if not host:
        raise ValueError(f"an RPC URL names no host after {parts.scheme}://")
    return host


def is_socket(url: str) -> bool:
    """Whether it is a WebSocket's: such a URL takes requests, and can push heads (`chains.heads`)."""
    return urlsplit(url).scheme in _SOCKET_SCHEMES


class Scrubber:
    """Takes the URL, and every part of it that may be a key, out of texts. Some providers repeat them in errors."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        found = {url, parts.path, parts.query, parts.username or "", parts.password or ""}
        found.update(parts.path.split("/"))
        found.update(value for pair in parts.query.split("&") for value in pair.split("=", 1))
        found.update([unquote(part) for part in found])
        # longest first: a part of another must not leave the rest of it standing
        self._secrets = sorted((part for part in found if len(part) >= _SECRET_CHARS), key=len, reverse=True)

    def scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text
