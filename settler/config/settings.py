"""`Settings`: the whole configuration, valid by construction, and `load`, the one way to get it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path as FilePath
from types import MappingProxyType

from settler.config import source
from settler.config.chain import ChainSettings, resolve
from settler.config.errors import ConfigError, Path, Problem
from settler.config.explain import read_tables
from settler.config.tables import (
    ApiSettings,
    DatabaseSettings,
    DepositSettings,
    File,
    InvoiceSettings,
    PolicyTable,
    RuntimeSettings,
    TelemetrySettings,
    WebhookSettings,
)
from settler.domain.deposits import DepositPolicy
from settler.domain.derivation import DepositKey, read_key
from settler.domain.drafting import Catalog, InvoiceDefaults
from settler.domain.settlement import InvoicePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    database: DatabaseSettings
    api: ApiSettings
    invoices: InvoiceSettings
    deposits: DepositSettings
    policy: PolicyTable
    webhooks: WebhookSettings
    runtime: RuntimeSettings
    telemetry: TelemetrySettings
    chains: Mapping[str, ChainSettings]
    """By name, in the order of the file; at least one."""

    @property
    def database_url(self) -> str:
        """With its password: for `Database.open` only."""
        return self.database.url.get_secret_value()

    def catalog(self) -> Catalog:
        """What invoices may offer."""
        return {name: chain.offer() for name, chain in self.chains.items()}

    def invoice_defaults(self) -> InvoiceDefaults:
        return InvoiceDefaults(expires_in_s=self.invoices.expires_in_s, monitoring_s=self.invoices.monitoring_s)

    def deposit_policy(self) -> DepositPolicy:
        """Where the addresses of invoices without `pay_to` come from."""
        return DepositPolicy(key=_deposit_key(self.deposits), quarantine=timedelta(seconds=self.deposits.quarantine_s))

    def invoice_policy(self) -> InvoicePolicy:
        return InvoicePolicy(
            underpayment_tolerance_bps=self.invoices.underpayment_tolerance_bps,
            underpayment_tolerance_max=self.invoices.tolerance_max,
            late=self.invoices.late,
        )


def load(path: FilePath | str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file with `SETTLER__…` variables of `environ` (default: this process's) laid over it.

    Raises `ConfigError` with everything that is wrong; `settler.cli` prints it and exits with 2.
    """
    read = source.read(FilePath(path), os.environ if environ is None else environ)
    if read.problems and not read.data:
        raise ConfigError(read.problems)
    file, refused = read_tables(read)
    problems = read.problems
    chains: dict[str, ChainSettings] = {}
    for name, table in file.chains.items():
        chain, wrong = resolve(name, table, file.policy, refused)
        problems += wrong
        if chain is not None:
            chains[name] = chain
    problems += _across(file, chains, refused)
    if problems:
        raise ConfigError(problems)
    return Settings(
        database=file.database,
        api=file.api,
        invoices=file.invoices,
        deposits=file.deposits,
        policy=file.policy,
        webhooks=file.webhooks,
        runtime=file.runtime,
        telemetry=file.telemetry,
        chains=MappingProxyType(chains),
    )


def anvil_program(environ: Mapping[str, str] | None = None) -> str | None:
    """The anvil that `settler demo` is to start, by SETTLER_ANVIL; `None`: the one beside this program."""
    return (os.environ if environ is None else environ).get("SETTLER_ANVIL") or None


def _across(file: File, chains: Mapping[str, ChainSettings], refused: set[Path]) -> list[Problem]:
    """What only several values together can have wrong."""
    problems = []
    if file.api.auth == "none" and not file.api.listen.is_loopback:
        problems.append(
            Problem(
                "api.auth",
                f'"none" would open the API to everybody who reaches {file.api.listen}; '
                'write "keys", or listen on 127.0.0.1',
            )
        )
    if file.telemetry.otlp_endpoint is not None and not _has_opentelemetry():
        problems.append(
            Problem(
                "telemetry.otlp_endpoint",
                "traces need OpenTelemetry, which is not installed; run pip install 'settler[otel]', or leave it out",
            )
        )
    if not file.chains and ("chains",) not in {path[:1] for path in refused}:
        problems.append(Problem("chains", "none is configured; add e.g. [chains.base] with rpc and tokens"))
    try:
        _deposit_key(file.deposits)
    except ValueError as error:  # of key and path together: each by itself was checked before
        problems.append(Problem("deposits.xpub", str(error)))
    return problems + _same_chain_twice(chains)


def _has_opentelemetry() -> bool:
    """Asked only where traces are configured: it imports a part of it."""
    try:
        return find_spec("opentelemetry.sdk.trace") is not None and find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:  # of the package it is in
        return False


_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def _deposit_key(deposits: DepositSettings) -> DepositKey | None:
    return None if deposits.xpub is None else read_key(deposits.xpub.get_secret_value(), deposits.xpub_path)


def _same_chain_twice(chains: Mapping[str, ChainSettings]) -> list[Problem]:
    problems = []
    first: dict[int, str] = {}
    for name, chain in chains.items():
        before = first.setdefault(chain.chain_id, name)
        if before != name:
            problems.append(
                Problem(f"chains.{name}.chain_id", f"{chain.chain_id} is chains.{before} already; keep one")
            )
    return problems
