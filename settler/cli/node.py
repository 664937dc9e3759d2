"""A node that a command is told to ask, beside or instead of the configured ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import USAGE, Failure

if TYPE_CHECKING:
    from chains.model import ChainId
    from chains.rpc import RpcProvider
    from chains.spans import WindowedReader

Rpc = Annotated[
    str | None, typer.Option("--rpc", help="URL of the node to ask; http, https, ws or wss.", metavar="URL")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    chain_id: ChainId
    """What it serves."""
    provider: RpcProvider
    reader: WindowedReader

    @property
    def name(self) -> str:
        """Its host, nothing of its path or key."""
        return self.provider.name


@asynccontextmanager
async def node_at(url: str, *, name: str | None = None) -> AsyncIterator[Node]:
    """The node at the URL, closed afterwards. Raises `Failure` for no such URL or no answer.

    `name`: of a configured provider; `None`: the URL was given with `--rpc`.
    """
    from chains.errors import ChainError
    from chains.evm import EvmReader
    from chains.model import ChainId
    from chains.rpc import RpcProvider
    from chains.spans import WindowedReader
    from settler.clock import SystemClock

    try:
        provider = RpcProvider(url, name=name)
    except ValueError as error:
        raise Failure(f"--rpc: {error}", code=USAGE) from error
    try:
        try:
            served = await EvmReader(provider, chain_id=ChainId(0)).chain_id()
        except ChainError as error:
            raise unreachable(provider.name, error, is_given=name is None) from error
        reader = WindowedReader(EvmReader(provider, chain_id=served), monotonic=SystemClock().monotonic)
        yield Node(chain_id=served, provider=provider, reader=reader)
    finally:
        await provider.close()


def unreachable(name: str, error: Exception, *, is_given: bool = True) -> Failure:
    """`is_given`: with `--rpc`."""
    whose, other = ("--rpc ", "give another") if is_given else ("", "give another with --rpc")
    return Failure(f"{whose}{name}: {error}; see that it runs, or {other}")
