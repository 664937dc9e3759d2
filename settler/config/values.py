"""Values of the file that are more than a number or a word. Each reader raises `ValueError` with value and
remedy.

A reader of a secret (database URL, RPC URL) never repeats it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from chains.model import Tag
from settler.domain.errors import InvalidInput
from settler.domain.finality import ByTag, Depth, FinalityPolicy, Tier
from settler.domain.money import FINEST_SCALE, parse_amount, parse_positive

MAX_DEPTH = 1_000_000
"""Blocks; months on the fastest chain."""
MAX_START_BLOCK = 2**63 - 1
MAX_TOLERANCE = 1_000
"""In the invoice's currency: a bound on what a slip of the keyboard can give away."""
_SHOWN_CHARS = 60
CHAIN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
"""It is a label of metrics and part of variables' names."""


def shown(value: object) -> str:
    """A value as an error may show it: short, and nothing of a URL but its host."""
    if isinstance(value, str) and ("://" in value or "@" in value):
        return "(a URL)"
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """An address to listen on."""

    host: str
    """An IP address or `localhost`; IPv6 without brackets."""
    port: int
    """0: any free one."""

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: Any) -> Listen:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`."""
    if isinstance(value, Listen):
        return value
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (_is_ip(bare) or bare == "localhost") and port.isascii() and port.isdecimal() and int(port) <= 65_535:
        return Listen(host=bare, port=int(port))
    raise ValueError(f'{shown(value)} is no address and port; write e.g. "127.0.0.1:8080"')


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(value: Any) -> tuple[Network, ...]:
    """`["10.0.0.0/8", "::1"]`"""
    if not isinstance(value, list | tuple):
        raise ValueError('is no list; write networks in brackets, like ["10.0.0.0/8"]')
    return tuple(_network(each) for each in value)


def _network(value: Any) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f'{shown(value)} is no network; write an address, or one like "10.0.0.0/8"') from None


def parse_otlp_endpoint(value: str | None) -> str | None:
    """A URL with its path. A key in it would be shown: it has a place of its own."""
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right, parts = False, urlsplit("")
    if not is_right or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError('is no URL of a collector; write one like "http://127.0.0.1:4318"')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "has more than host and path; a key of the collector goes into the variable OTEL_EXPORTER_OTLP_HEADERS"
        )
    return value if parts.path.strip("/") else value.rstrip("/") + "/v1/traces"


def parse_service_name(value: str) -> str:
    if not 1 <= len(value) <= 100 or not value.isprintable() or value != value.strip():
        raise ValueError(f"{shown(value)} is no name; give 1 to 100 printable characters")
    return value


def parse_worker(value: str | None) -> str | None:
    if value is not None and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value) is None:
        raise ValueError(f"{shown(value)} is no name of a worker; give up to 64 of A-Z a-z 0-9 . _ -")
    return value


def parse_database_url(value: SecretStr) -> SecretStr:
    """As the storage reads it; the message shows no more than its scheme."""
    from settler.storage.errors import InvalidDatabaseUrl
    from settler.storage.url import parse_url

    try:
        parse_url(value.get_secret_value())
    except InvalidDatabaseUrl as error:
        raise ValueError(str(error)) from None
    return value


def parse_rpc(value: Any) -> tuple[SecretStr, ...]:
    """One URL or a list of them: http(s), or ws(s), which takes requests and pushes heads."""
    from chains.url import checked_host

    urls = [value] if isinstance(value, str) else value
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise ValueError("is neither a URL in quotes nor a list of such")
    if not urls or not all(urls):
        raise ValueError("is empty; give the URL of the chain's provider")
    for url in urls:
        checked_host(url)
    return tuple(SecretStr(url) for url in urls)


def parse_web_site(value: str | None) -> str | None:
    """An http(s) URL to put paths after, without the slash at its end. Nothing else: it becomes a link on pages."""
    if value is None:
        return None
    parts = urlsplit(value)
    is_plain = value.isascii() and value.isprintable() and " " not in value and not (parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or not is_plain:
        raise ValueError("is no address of a web site; write one like https://basescan.org")
    return value.rstrip("/")


def parse_start_block(value: Any) -> Any:
    """`latest` or a number."""
    if value == "latest":
        return value
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_START_BLOCK:
        raise ValueError(f'{shown(value)} is no start; write "latest" or a block number')
    return number


FINALITY_FORMS = 'write "finalized", "safe", a number of blocks, or { tag = "finalized", min_depth = 50 }'


def parse_finality(value: Any) -> FinalityPolicy:
    if isinstance(value, (Depth, ByTag)):
        return value
    if isinstance(value, dict):
        return _tag_and_depth(value)
    number = _whole(value)
    if number is not None:
        return Depth(blocks=_depth(number, at_least=1))
    return ByTag(tag=_tag(value))


def _tag_and_depth(value: Mapping[str, Any]) -> ByTag:
    unknown = sorted(set(value) - {"tag", "min_depth"})
    if unknown or "tag" not in value:
        wrong = f"has an unknown key {unknown[0]!r}" if unknown else "has no tag"
        raise ValueError(f"{wrong}; {FINALITY_FORMS}")
    min_depth = _whole(value.get("min_depth", 0))
    if min_depth is None:
        raise ValueError(f"min_depth {shown(value['min_depth'])} is not a number of blocks; {FINALITY_FORMS}")
    return ByTag(tag=_tag(value["tag"]), min_depth=_depth(min_depth, at_least=0))


def _tag(value: Any) -> Tag:
    if value not in (Tag.FINALIZED.value, Tag.SAFE.value):
        raise ValueError(f"{shown(value)} is no finality; {FINALITY_FORMS}")
    return Tag(value)


def _depth(number: int, *, at_least: int) -> int:
    if not at_least <= number <= MAX_DEPTH:
        raise ValueError(
            f"{number} blocks are out of range; give {at_least} to {MAX_DEPTH}"
            + (": a block with none upon it is not final" if number == 0 else "")
        )
    return number


def _whole(value: Any) -> int | None:
    """An integer, also in digits (variables are text); `None` for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value, re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_tolerance(value: str) -> str:
    """A decimal string that `tolerance_units` reads."""
    if tolerance_units(value) > MAX_TOLERANCE * 10**FINEST_SCALE:
        raise ValueError(f'{shown(value)} is out of range; give "0" to "{MAX_TOLERANCE}" of the currency')
    return value


def tolerance_units(value: str) -> int:
    """Units of 10**-`FINEST_SCALE` of the currency."""
    try:
        return parse_amount(value, FINEST_SCALE, field="underpayment_tolerance_max")
    except InvalidInput as error:
        raise ValueError(error.problem) from None


def parse_floor(value: str) -> str:
    """A price that `price_units` reads."""
    if not 0 < price_units(value) <= 10**FINEST_SCALE:
        raise ValueError(f'{shown(value)} is out of range; give a price above "0" and at most "1", like "0.985"')
    return value


def price_units(value: str) -> int:
    """Units of 10**-`FINEST_SCALE` of the currency, for one token."""
    try:
        return parse_amount(value, FINEST_SCALE, field="depeg_floor")
    except InvalidInput as error:
        raise ValueError(error.problem) from None


TIER_FORM = 'write [{ up_to = "50", finality = 2 }, …]'


def parse_tiers(value: Any) -> tuple[Tier, ...]:
    """Amount tiers, each above the one before."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"is no list; {TIER_FORM}")
    tiers = tuple(_tier(each) for each in value)
    amounts = [t.up_to for t in tiers]
    if amounts != sorted(set(amounts)):
        raise ValueError("the amounts do not rise from tier to tier; put the smallest first, each amount once")
    depths = [t.policy.blocks for t in tiers if isinstance(t.policy, Depth)]
    if depths != sorted(depths):
        raise ValueError("a larger amount would settle sooner than a smaller one; let the depths rise with the amounts")
    return tiers


def _tier(value: Any) -> Tier:
    if isinstance(value, Tier):
        return value
    if not isinstance(value, dict) or set(value) != {"up_to", "finality"}:
        raise ValueError(f"a tier has up_to and finality, and nothing else; {TIER_FORM}")
    up_to = value["up_to"]
    if not isinstance(up_to, str):
        raise ValueError(f'up_to {shown(up_to)} is no text; write the amount in quotes, like "50"')
    try:
        units = parse_positive(up_to, FINEST_SCALE, field="up_to")
    except InvalidInput as error:
        raise ValueError(f"up_to: {error.problem}") from None
    return Tier(up_to=units, policy=parse_finality(value["finality"]))


def parse_symbol(value: str) -> str:
    if not re.fullmatch(r"[^\s\"'\\{}]{1,32}", value) or not value.isprintable():
        raise ValueError(f"{shown(value)} is no symbol; give 1 to 32 printable characters without spaces and quotes")
    return value


def parse_currency(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9]{1,11}", value, re.ASCII):
        raise ValueError(f'{shown(value)} is no currency; write its code in capitals, like "USD"')
    return value
