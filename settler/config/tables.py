"""The tables of the file, each field with its meaning, unit and default. Shape and ranges only.

What needs facts from elsewhere (the registry of chains and tokens) is resolved in `settler.config.chain`;
chain tables therefore have no required fields here."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from chains.address import parse_address
from chains.model import Address
from chains.registry import DECIMALS_MAX
from settler.config.values import (
    Listen,
    Network,
    parse_currency,
    parse_database_url,
    parse_finality,
    parse_floor,
    parse_listen,
    parse_networks,
    parse_otlp_endpoint,
    parse_rpc,
    parse_service_name,
    parse_start_block,
    parse_symbol,
    parse_tiers,
    parse_tolerance,
    parse_web_site,
    parse_worker,
    price_units,
    tolerance_units,
)
from settler.domain.deposits import QUARANTINE
from settler.domain.derivation import check_xpub, read_path
from settler.domain.drafting import MAX_EXPIRES_IN_S
from settler.domain.finality import FinalityPolicy, Tier
from settler.domain.settlement import LatePolicy

__all__ = [
    "ApiSettings",
    "ChainTable",
    "DatabaseSettings",
    "DepositSettings",
    "File",
    "InvoiceSettings",
    "PolicyTable",
    "RuntimeSettings",
    "TelemetrySettings",
    "TokenTable",
    "WebhookSettings",
]


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number; write the number itself")
    return value


@dataclass(frozen=True, slots=True)
class Between:
    """A number within bounds, both inclusive. A class, so that the reference of the settings can name them."""

    low: float
    high: float
    unit: str

    def __call__(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is out of range; give {self}")
        return value

    def __str__(self) -> str:
        return f"{self.low:,} to {self.high:,} {self.unit}".replace(",", "_")


def _between(low: float, high: float, unit: str) -> Between:
    return Between(low, high, unit)


def _address(text: Any) -> Address:
    if not isinstance(text, str):
        raise ValueError("is not text; write the checksummed address in quotes")
    return parse_address(text)


def _xpub(key: SecretStr) -> SecretStr:
    check_xpub(key.get_secret_value())
    return key


def _xpub_path(path: str) -> str:
    read_path(path)
    return path


def _oracle(text: Any) -> Any:
    return text if text == "chainalysis" else _address(text)


def _addresses(texts: Any) -> tuple[Address, ...]:
    if not isinstance(texts, list | tuple):
        raise ValueError("is no list; write checksummed addresses in brackets")
    return tuple(_address(text) for text in texts)


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )


class DatabaseSettings(_Table):
    url: Annotated[SecretStr, AfterValidator(parse_database_url)] = SecretStr("sqlite:///settler.db")
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://user@host/name`; may hold a
    password.
    """


class ApiSettings(_Table):
    listen: Annotated[Listen, BeforeValidator(parse_listen)] = Listen(host="127.0.0.1", port=8080)
    """Address and port of the API, `/metrics` and health. Loopback by default: opening it up is a
    decision.
    """
    auth: Literal["keys", "none"] = "keys"
    """`keys`: every call under `/v1` needs a key. `none` (only on loopback): for trying things out."""
    rate_limit_rps: Annotated[
        float, BeforeValidator(_not_bool), AfterValidator(_between(0, 100_000, "requests a second"))
    ] = 500.0
    """Requests a second of each API key in each process; more are answered 429. 0: as many as they like. 500: a backend
    that catches up is not slowed down, one that runs wild leaves room for others. Each address without a key has a
    fifth of it, for the pages. Without keys (`auth = "none"`) nobody is limited.
    """
    rate_limit_burst: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(1, 1_000_000, "requests"))] = (
        1_000
    )
    """Requests at once, for who has not asked for a while; of an address without a key a fifth."""
    max_connections: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(1, 100_000, "connections"))] = (
        1_000
    )
    """Connections in all. Of more, those that idle longest are closed, and new ones refused while none idles; `/livez`
    and `/readyz` are answered all the same. Fewer where the system allows fewer open files (`ulimit -n`). An open
    payment page holds one.
    """
    max_connections_per_address: Annotated[
        int, BeforeValidator(_not_bool), AfterValidator(_between(0, 100_000, "connections"))
    ] = 200
    """Connections of one address (of an IPv6 host: its /64). 0: as many as there may be in all. Loopback and
    `trusted_proxies` are not counted.
    """
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(parse_networks)] = ()
    """Networks of your reverse proxies, as `["10.0.0.0/8"]`: their `X-Forwarded-For` says who is counted. Default: none
    is believed, and everybody behind a proxy counts as one address.
    """


class InvoiceSettings(_Table):
    expires_in_s: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(1, MAX_EXPIRES_IN_S, "s"))] = 3_600
    """Seconds an invoice waits to be paid unless it says otherwise. An hour: a checkout, not a contract."""
    monitoring_s: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(0, MAX_EXPIRES_IN_S, "s"))] = (
        86_400
    )
    """Seconds after expiry in which late money is still recognised as this invoice's. A day: slow
    exchanges.
    """
    underpayment_tolerance_bps: Annotated[
        int, BeforeValidator(_not_bool), AfterValidator(_between(0, 1_000, "bps"))
    ] = 0
    """Basis points of the amount that may be missing. Bounded at a tenth: more is another price, not a
    tolerance.
    """
    underpayment_tolerance_max: Annotated[str, AfterValidator(parse_tolerance)] = "0"
    """What may be missing at most, in the invoice's currency; the smaller of the two counts. 0: the exact
    amount.
    """
    late: LatePolicy = LatePolicy.HOLD
    """Late money within `monitoring_s`: `hold` until an operator decides, or `accept`. Hold: prices may have
    moved.
    """

    @property
    def tolerance_max(self) -> int:
        """`underpayment_tolerance_max` in units of 10**-`FINEST_SCALE` of the currency."""
        return tolerance_units(self.underpayment_tolerance_max)


class DepositSettings(_Table):
    """Where invoices without `pay_to` are to be paid, beside the pool that `settler address add` fills."""

    xpub: Annotated[SecretStr, AfterValidator(_xpub)] | None = None
    """Extended public key (`xpub…`, BIP-32) of the account that addresses are derived from once the pool has none
    free. Never a private one. A secret all the same: who has it knows every address, and with the private key of one
    address the private keys of all. Default: the pool alone.
    """
    xpub_path: Annotated[str, AfterValidator(_xpub_path)] = "0"
    """Steps from the key to the addresses: `0` gives 0/0, 0/1 …, which a wallet shows as its receiving addresses if
    the key is that of m/44'/60'/0'. Empty: 0, 1, 2 … of the key itself. Counted from 0: an account whose addresses
    other programs gave out already wants a path of its own here.
    """
    quarantine_s: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(0, MAX_EXPIRES_IN_S, "s"))] = int(
        QUARANTINE.total_seconds()
    )
    """Seconds that an address of the pool rests after its invoice is not monitored any more, before another invoice
    gets it. A week: a customer may pay from an old checkout page or from an address book, and that is not the next
    customer's money.
    """


class PolicyTable(_Table):
    depeg_floor: Annotated[str, AfterValidator(parse_floor)] = "0.985"
    """Price of one token in its currency below which settlements in a token with a `price_feed` are held. 0.985: what
    stablecoins lost on a bad day and regained; below it somebody should look.
    """

    @property
    def floor(self) -> int:
        """`depeg_floor` in units of 10**-`FINEST_SCALE`."""
        return price_units(self.depeg_floor)


class WebhookSettings(_Table):
    allow_private_addresses: bool = False
    """Whether endpoints may resolve to private, loopback and link-local addresses. False: they would reach
    what only this host may reach (SSRF).
    """


class RuntimeSettings(_Table):
    drain_timeout_s: Annotated[float, BeforeValidator(_not_bool), AfterValidator(_between(0.1, 300, "s"))] = 10.0
    """Seconds a stop waits for ticks and requests under way before they are cancelled. 10: below the 30 that
    container schedulers allow; a cancelled tick is only read again.
    """
    worker: Annotated[str | None, AfterValidator(parse_worker)] = None
    """This process's name among the workers of one database, each of which needs another: it stands in the lease of
    each chain the worker leads, and a worker that starts has the chains back at once that it led under that name. Up to
    64 of A-Z a-z 0-9 . _ -. Default: the host's name, which tells containers and pods apart.
    """
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON lines elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged. `info`: ticks in which something happened; `debug`: every tick."""

    @property
    def worker_name(self) -> str:
        return self.worker if self.worker is not None else socket.gethostname()


class TelemetrySettings(_Table):
    """Traces for OpenTelemetry; `pip install 'settler[otel]'`. Off unless `otlp_endpoint` is given."""

    otlp_endpoint: Annotated[str | None, AfterValidator(parse_otlp_endpoint)] = None
    """URL of a collector that takes OTLP over HTTP (protobuf), as `http://127.0.0.1:4318`; `/v1/traces` is added where
    the URL has no path. A key for it goes into the variable OTEL_EXPORTER_OTLP_HEADERS, which the exporter reads.
    Default: no traces.
    """
    sample_ratio: Annotated[float, BeforeValidator(_not_bool), AfterValidator(_between(0, 1, "of all traces"))] = 1.0
    """The part of traces that is kept. Which, is decided by their ids, so that a payment's is kept as a whole, by every
    process. 1: a payment makes some ten spans.
    """
    service_name: Annotated[str, AfterValidator(parse_service_name)] = "settler"
    """`service.name` of the spans."""


class TokenTable(_Table):
    """A token given by the operator, by `address` and `decimals`; or, without both, more about one of the registry."""

    address: Annotated[Address | None, BeforeValidator(_address)] = None
    """EIP-55 checksummed: a typing error in another form cannot be seen."""
    decimals: Annotated[
        int | None, BeforeValidator(_not_bool), AfterValidator(_between(0, DECIMALS_MAX, "decimals"))
    ] = None
    """Of this contract on this chain; `settler check` and every start compare it with `decimals()`."""
    currency: Annotated[str, AfterValidator(parse_currency)] = "USD"
    """What one token stands for."""
    price_feed: Annotated[Address | None, BeforeValidator(_address)] = None
    """A Chainlink-like feed (`latestRoundData()`) of the token's price in its currency: below `policy.depeg_floor`,
    stale or silent, settlements are held. Default: no feed, the token is taken at par.
    """
    price_feed_max_age_s: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(60, 604_800, "s"))] = (
        90_000
    )
    """Older than this the feed's answer is none. 25 hours: stablecoin feeds are renewed daily at least."""


class ChainTable(_Table):
    chain_id: Annotated[int | None, BeforeValidator(_not_bool), AfterValidator(_between(1, 2**53 - 1, ""))] = None
    """EIP-155 id. Left out for names of the registry."""
    rpc: Annotated[tuple[SecretStr, ...], BeforeValidator(parse_rpc)] = ()
    """URLs of the chain's providers, http(s) or ws(s), in order of preference. One over ws(s) also tells of new blocks,
    which only makes the daemon look sooner.
    """
    rpc_max_rps: Annotated[
        float | None, BeforeValidator(_not_bool), AfterValidator(_between(0.1, 10_000, "a second"))
    ] = None
    """JSON-RPC calls a second to each provider, those of a batch one by one. Default: unbounded; the providers' own
    limits are honoured either way.
    """
    rpc_max_in_flight: Annotated[int, BeforeValidator(_not_bool), AfterValidator(_between(1, 256, "requests"))] = 8
    """Requests under way to each provider at once. 8: below what free plans allow a second."""
    rpc_hedge_after_s: Annotated[float | None, BeforeValidator(_not_bool), AfterValidator(_between(0.05, 10, "s"))] = (
        None
    )
    """A request of the first reading that takes longer is asked of the next provider as well. Default: never, since it
    costs calls.
    """
    start_block: Annotated[int | Literal["latest"], BeforeValidator(parse_start_block)] = "latest"
    """First block ever read; `latest`: the head of the first start. Without meaning once the chain was
    read.
    """
    finality: Annotated[FinalityPolicy | None, BeforeValidator(parse_finality)] = None
    """`finalized`, `safe`, N blocks, or `{ tag, min_depth }`. Default: the registry's recommendation for the
    chain.
    """
    tiers: Annotated[tuple[Tier, ...], BeforeValidator(parse_tiers)] = ()
    """Invoices up to an amount that settle earlier: `[{ up_to = "50", finality = 2 }, …]`, in the invoice's currency.
    The risk is accepted: what the chain undoes gets a reversal, and the chain goes on. Default: none.
    """
    quorum: Annotated[int | None, BeforeValidator(_not_bool), AfterValidator(_between(1, 64, "providers"))] = None
    """Providers that must agree before anything settles. Default: 2, or 1 with a single provider."""
    proof: Literal["none", "receipts"] | None = None
    """`receipts`: each payment is proven against its block's hash before it settles. Default: `receipts` on main nets
    where recorded blocks were proven, else `none`.
    """
    sanctions_oracle: Annotated[Address | Literal["chainalysis"] | None, BeforeValidator(_oracle)] = None
    """A contract with `isSanctioned(address)` that is asked about every payer, or `chainalysis` for the known one of
    the chain: who is on its list, or while it does not answer, settlements are held. Its list trails the official ones.
    Default: nobody is asked.
    """
    request_proxies: Annotated[tuple[Address, ...] | None, BeforeValidator(_addresses)] = None
    """Request Network's ERC20FeeProxy: contracts whose payment references are believed. Default: the known one of the
    chain. Anyone may deploy one that says anything.
    """
    payment_escrows: Annotated[tuple[Address, ...] | None, BeforeValidator(_addresses)] = None
    """Base commerce-payments' AuthCaptureEscrow: contracts whose payment hashes are believed. Default: the known ones
    of the chain.
    """
    explorer: Annotated[str | None, AfterValidator(parse_web_site)] = None
    """A web site that shows a transaction of the chain at `/tx/0x…` below this address: payers and operators get links
    to it. Default: the known one of the chain.
    """
    poll_interval_s: Annotated[float | None, BeforeValidator(_not_bool), AfterValidator(_between(0.05, 60, "s"))] = None
    """Seconds between two looks at the head. Default: half a block, within 0.5 to 4; 2 where the block time
    is unknown.
    """
    tokens: tuple[str, ...] = ()
    """Symbols from the registry of this chain."""
    token: dict[Annotated[str, AfterValidator(parse_symbol)], TokenTable] = {}
    """Tokens given by the operator, by symbol. One given here goes before the registry's of that symbol."""


class File(_Table):
    database: DatabaseSettings = DatabaseSettings()
    api: ApiSettings = ApiSettings()
    invoices: InvoiceSettings = InvoiceSettings()
    deposits: DepositSettings = DepositSettings()
    policy: PolicyTable = PolicyTable()
    webhooks: WebhookSettings = WebhookSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    chains: dict[str, ChainTable] = {}
