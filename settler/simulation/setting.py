"""The configuration of a simulated world's daemon, as an operator would write it and read by the same code."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from chains.address import to_checksum
from chains.model import Address
from settler.config import Settings, load
from settler.domain.finality import ByTag, FinalityPolicy
from settler.simulation.plan import ChainPlan, Plan


def provider_hosts(chain: ChainPlan) -> Sequence[str]:
    return [f"{chain.name}-{n}.sim.example" for n in range(chain.providers)]


def settings_of(plan: Plan) -> Settings:
    """Raises `ConfigError` if the plan is no valid configuration: a bug of the plan."""
    text = "\n".join([_head(plan), *(_chain(chain) for chain in plan.chains)])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settler.toml"
        file.write_text(text)
        settings = load(file, {})
    # A file may not ask for such patience; it is what makes a year of a chain cheap.
    patient = {chain.name: replace(settings.chains[chain.name], poll_interval_s=chain.poll_s) for chain in plan.chains}
    return replace(settings, chains=MappingProxyType(patient))


def settings_for(settings: Settings, worker: str) -> Settings:
    """Those of one of several workers."""
    return replace(settings, runtime=settings.runtime.model_copy(update={"worker": worker}))


def _head(plan: Plan) -> str:
    return f"""
[database]
url = "sqlite:///simulated.db"
[api]
auth = "none"
[invoices]
late = "{plan.late}"
monitoring_s = {plan.customs.monitoring_s}
underpayment_tolerance_bps = {plan.tolerance_bps}
underpayment_tolerance_max = "{"1" if plan.tolerance_bps else "0"}"
[runtime]
drain_timeout_s = 5.0
"""


def _chain(chain: ChainPlan) -> str:
    urls = ", ".join(f'"http://{host}:8545/"' for host in provider_hosts(chain))
    tokens = "".join(
        f"""
[chains.{chain.name}.token.{token.symbol}]
address = "{to_checksum(Address(token.address))}"
decimals = {token.decimals}
"""
        for token in chain.tokens
    )
    return f"""
[chains.{chain.name}]
chain_id = {chain.chain_id}
rpc = [{urls}]
quorum = {chain.quorum}
finality = {_finality(chain.finality)}
proof = "{"receipts" if chain.proves else "none"}"
poll_interval_s = {min(60.0, chain.poll_s)}
{tokens}"""


def _finality(policy: FinalityPolicy) -> str:
    if isinstance(policy, ByTag):
        return f'{{ tag = "{policy.tag.value}", min_depth = {policy.min_depth} }}'
    return str(policy.blocks)
