"""Chains as the API, the operator's page and the command line show them: rows, leaders, providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.views import chain_view
from settler.domain.views import Json
from settler.storage import chains, leases


async def chain_views(conn: AsyncConnection, providers: Sequence[Mapping[str, Any]] = ()) -> list[Json]:
    """All chains the database knows. `providers`: of all of them, each naming its `chain`."""
    leaders = await leases.holders(conn)
    return [
        chain_view(
            state,
            [provider for provider in providers if provider["chain"] == state.name],
            leader=leaders.get(state.chain_id),
        )
        for state in await chains.all_states(conn)
    ]
