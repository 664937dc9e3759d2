"""Fixtures: a shop that is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import Shop, open_shop
from tests.support.rpc_proxy import RpcProxy


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop."""
    async with open_shop(tmp_path) as opened:
        yield opened


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[tuple[Shop, RpcProxy]]:
    """A shop, and what stands between its daemon and the node."""
    async with (
        Anvil(find_anvil(), no_mining=True) as node,
        RpcProxy(node.url) as proxy,
        open_shop(tmp_path, node=node, rpc=proxy.url) as opened,
    ):
        yield opened, proxy
