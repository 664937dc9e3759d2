"""The reference of all settings, made from their own types, bounds, defaults and docstrings.

Promises: every setting that `settler.config.tables` knows is in it, with one example; the examples together are a
configuration that loads. `settler config reference` prints it, `docs/configuration.md` is that output.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from textwrap import fill
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from chains.model import Address
from settler.config.source import PREFIX
from settler.config.tables import Between, ChainTable, File, TokenTable
from settler.config.values import Listen, Network
from settler.domain.finality import FinalityPolicy, Tier

_XPUB = (
    "xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9xv5ski8PX9rL2dZXvgGDnw"
)
"""Of BIP-32's test vector 1: its private key is known to everybody."""
EXAMPLES: dict[str, str] = {
    "database.url": '"postgresql://settler@db.internal/settler"',
    "api.listen": '"127.0.0.1:8080"',
    "api.auth": '"keys"',
    "api.rate_limit_rps": "50",
    "api.rate_limit_burst": "100",
    "api.max_connections": "2000",
    "api.max_connections_per_address": "100",
    "api.trusted_proxies": '["10.0.0.0/8"]',
    "invoices.expires_in_s": "1800",
    "invoices.monitoring_s": "259200",
    "invoices.underpayment_tolerance_bps": "10",
    "invoices.underpayment_tolerance_max": '"0.50"',
    "invoices.late": '"accept"',
    "deposits.xpub": f'"{_XPUB}"',
    "deposits.xpub_path": '"0"',
    "deposits.quarantine_s": "604800",
    "policy.depeg_floor": '"0.985"',
    "webhooks.allow_private_addresses": "false",
    "runtime.drain_timeout_s": "10",
    "runtime.worker": '"settler-a"',
    "runtime.log_format": '"json"',
    "runtime.log_level": '"info"',
    "telemetry.otlp_endpoint": '"http://127.0.0.1:4318"',
    "telemetry.sample_ratio": "0.1",
    "telemetry.service_name": '"settler-eu"',
    "chains.NAME.chain_id": "8453",
    "chains.NAME.rpc": '["https://mainnet.base.org", "https://base-rpc.publicnode.com"]',
    "chains.NAME.rpc_max_rps": "20",
    "chains.NAME.rpc_max_in_flight": "8",
    "chains.NAME.rpc_hedge_after_s": "1.0",
    "chains.NAME.start_block": '"latest"',
    "chains.NAME.finality": '{ tag = "finalized", min_depth = 50 }',
    "chains.NAME.tiers": '[{ up_to = "50", finality = 2 }, { up_to = "5000", finality = "safe" }]',
    "chains.NAME.quorum": "2",
    "chains.NAME.proof": '"receipts"',
    "chains.NAME.sanctions_oracle": '"chainalysis"',
    "chains.NAME.request_proxies": '["0x1892196E80C4c17ea5100Da765Ab48c1fE2Fb814"]',
    "chains.NAME.payment_escrows": '["0xBdEA0D1bcC5966192B070Fdf62aB4EF5b4420cff"]',
    "chains.NAME.explorer": '"https://basescan.org"',
    "chains.NAME.poll_interval_s": "2.0",
    "chains.NAME.tokens": '["USDC", "USDT"]',
    "chains.NAME.token.SYMBOL.address": '"0x5FbDB2315678afecb367f032d93F642f64180aa3"',
    "chains.NAME.token.SYMBOL.decimals": "6",
    "chains.NAME.token.SYMBOL.currency": '"USD"',
    "chains.NAME.token.SYMBOL.price_feed": '"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"',
    "chains.NAME.token.SYMBOL.price_feed_max_age_s": "90000",
}
"""What one might write there, in TOML. By key, with NAME for a chain's and SYMBOL for a token's name."""

_WIDTH = 120
NAME, SYMBOL = "base", "ACME"
"""What stands for NAME and SYMBOL in the examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of the file."""

    key: str
    """`chains.NAME.rpc`"""
    type: str
    """In words, with the bounds: `whole number, 1 to 31_622_400 s`."""
    default: str | None
    """As one would write it; `None`: left out, which its meaning explains."""
    meaning: str
    """Its docstring, one line."""
    example: str
    """A value, in TOML."""
    variable: str
    """That sets it from the environment."""

    @property
    def assignment(self) -> str:
        """`rpc = ["https://…"]`, as it stands in its table."""
        return f"{self.key.rpartition('.')[2]} = {self.example}"

    def as_json(self) -> dict[str, str | None]:
        return {
            "key": self.key,
            "type": self.type,
            "default": self.default,
            "meaning": self.meaning,
            "example": self.example,
            "variable": self.variable,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of the file."""

    name: str
    """`chains.NAME`"""
    meaning: str
    settings: tuple[Setting, ...]


def sections() -> tuple[Section, ...]:
    """Every table, in the order of the code; those of chains come last."""
    plain = [
        _section(name, field.annotation)
        for name, field in File.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    return (*plain, _section("chains.NAME", ChainTable), _section("chains.NAME.token.SYMBOL", TokenTable))


def _section(name: str, model: Any) -> Section:
    return Section(
        name=name,
        meaning=_one_line(model.__doc__ or ""),
        settings=tuple(
            _setting(f"{name}.{key}", field) for key, field in model.model_fields.items() if not _is_table(field)
        ),
    )


def _is_table(field: FieldInfo) -> bool:
    """Whether it holds tables of their own (`chains.NAME.token`), which are sections."""
    return get_origin(field.annotation) is dict


def _setting(key: str, field: FieldInfo) -> Setting:
    bounds = [str(b) for b in _bounds(field.metadata)]
    default = _written(field.default)
    return Setting(
        key=key,
        type=", ".join([_type(field.annotation), *bounds]).rstrip(),
        default=default,
        meaning=_one_line(field.description or ""),
        example=EXAMPLES.get(key, default or '"…"'),  # one that lacks is for the tests to find, not for the user
        variable=PREFIX + "__".join(_named(key).split(".")).upper(),
    )


def _bounds(metadata: Sequence[Any]) -> Iterator[Between]:
    for each in metadata:
        if isinstance(each, AfterValidator) and isinstance(each.func, Between):
            yield each.func


def _type(annotation: Any) -> str:
    """In words. An annotation that is not known here is a bug: the reference would leave it unexplained."""
    if annotation == FinalityPolicy:
        return '`"finalized"`, `"safe"`, a number of blocks, or `{ tag = "…", min_depth = N }`'
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if FinalityPolicy.__args__ == tuple(a for a in inner if a is not type(None)):
            return _type(FinalityPolicy)
        if set(inner) == set(Network.__args__):
            return "network, as `10.0.0.0/8`"
        return " or ".join(dict.fromkeys(_type(a) for a in inner if a is not type(None)))
    if origin is Literal:
        return " or ".join(f'`"{word}"`' for word in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f'`"{each.value}"`' for each in annotation)
    return _WORDS[annotation]


_WORDS = {
    str: "text",
    SecretStr: "text (a secret: never shown)",
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    Listen: "address and port",
    Address: "checksummed address",
    Tier: "`{ up_to, finality }`",
}


def _written(value: Any) -> str | None:
    match value:
        case None:
            return None
        case SecretStr():
            return f'"{value.get_secret_value()}"'
        case bool():
            return str(value).lower()
        case Enum():
            return f'"{value.value}"'
        case int() | float():
            return str(value)
        case tuple():
            return "[" + ", ".join(str(_written(each)) for each in value) + "]"
        case _:
            return f'"{value}"'


def _named(key: str) -> str:
    return key.replace("NAME", NAME).replace("SYMBOL", SYMBOL)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def example_file() -> str:
    """A configuration with every setting in it, each as in its example."""
    tables = []
    for section in sections():
        lines = [f"[{_named(section.name)}]", *(each.assignment for each in section.settings)]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


_HEAD = f"""\
# Configuration

<!-- Made by `settler config reference > docs/configuration.md`: the text is in settler/config/tables.py. -->

One TOML file, `settler.toml` unless `-c FILE` names another. What is left out has its default; only a chain with `rpc`
and `tokens` has to be there. A key that is not known, a value out of its bounds and a contradiction are errors, all
reported at once, each with its key. `settler check -c settler.toml` then asks the nodes whether it is true.

**Environment.** A variable `{PREFIX}TABLE__KEY` goes before the file; the name of each stands below. With `_FILE`
behind it (`{PREFIX}DATABASE__URL_FILE=/run/secrets/db`) the value is read from that file: for secrets. Lists and
tables are written as in TOML. A chain's name is written in capitals, `-` as `_`; a token's symbol as it is.

**Secrets** (the database's password, the path and query of a provider's URL, the extended public key) are in no log,
error or JSON output.

Keys and addresses below are examples, known to everybody: use your own. The smallest file that runs:

```toml
[chains.base]
rpc = ["https://mainnet.base.org", "https://base-rpc.publicnode.com"]
tokens = ["USDC"]
```
"""


def markdown() -> str:
    """The whole page, `docs/configuration.md`."""
    parts = [_HEAD, "## All settings\n"]
    parts.append(
        "\n".join(
            f"- [`[{s.name}]`](#{_anchor(s.name)}): "
            + " · ".join(f"[{each.key.rpartition('.')[2]}](#{_anchor(each.key)})" for each in s.settings)
            for s in sections()
        )
        + "\n"
    )
    for section in sections():
        parts.append(f"## `[{section.name}]`\n")
        if section.meaning:
            parts.append(fill(section.meaning, _WIDTH) + "\n")
        parts += [_shown(each) for each in section.settings]
    return "\n".join(parts)


def _shown(setting: Setting) -> str:
    default = "" if setting.default is None else f"; default `{setting.default}`"
    return (
        f"### `{setting.key}`\n\n{fill(setting.meaning, _WIDTH)}\n\n"
        f"- {setting.type}{default}\n"
        f"- e.g. `{setting.assignment}`\n"
        f"- from the environment: `{setting.variable}`\n"
    )


def _anchor(heading: str) -> str:
    """As GitHub makes it of a heading: lower case, without punctuation."""
    return "".join(c for c in heading.lower() if c.isalnum() or c in "_-")
