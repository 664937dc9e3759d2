"""The operator's configuration: one TOML file, overridden by the environment, checked as a whole.

Promises: `load` returns settings that are valid by construction, or raises `ConfigError` with every problem
at once, each with its key, value and remedy; no secret (database password, path or key of an RPC URL) is in
an error or a repr; nothing is ignored: an unknown key, and a feature this version does not have, are errors.
Only this package reads the environment. What does not belong here: asking nodes or the database whether what
was configured is true (`settler check`)."""

from settler.config.chain import ChainSettings
from settler.config.errors import ConfigError, Problem
from settler.config.settings import Settings, anvil_program, load
from settler.config.tables import (
    ApiSettings,
    DatabaseSettings,
    InvoiceSettings,
    PolicyTable,
    RuntimeSettings,
    TelemetrySettings,
    WebhookSettings,
)

__all__ = [
    "ApiSettings",
    "ChainSettings",
    "ConfigError",
    "DatabaseSettings",
    "InvoiceSettings",
    "PolicyTable",
    "Problem",
    "RuntimeSettings",
    "Settings",
    "TelemetrySettings",
    "WebhookSettings",
    "anvil_program",
    "load",
]
