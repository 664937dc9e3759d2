"""What a token's contract says of itself: contract calls, which web3 is best at. Not on the hot path.

A contract that reverts or answers nonsense is a fact (`None`); a node that cannot be reached is an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from chains.address import to_checksum
from chains.errors import NodeInconsistent
from chains.model import Address, BlockNumber, TokenFacts
from chains.rpc import RpcProvider
from chains.wire import TEXT

T = TypeVar("T")

SYMBOL_CHARS_MAX = 32
"""The longest known is 12; a contract may answer megabytes."""

PARALLEL_BALANCES = 50
"""Asked side by side; how many of them are under way at once the provider bounds (`chains.rpc.MAX_IN_FLIGHT`)."""

_BYTES32_SYMBOL = [
    {
        "type": "function",
        "name": "symbol",
        "stateMutability": "view",
        "inputs": [],
        "outputs": [{"name": "", "type": "bytes32"}],
    }
]
"""How contracts older than the standard's `string` answer (MKR, SAI)."""


async def read_token_facts(provider: RpcProvider, token: Address) -> TokenFacts:
    """Code, decimals and symbol at the latest block. Raises `ChainError` when the node does not answer."""
    if not await _has_code(provider, token):
        return TokenFacts(has_code=False, decimals=None, symbol=None)
    from chains.web3_provider import connected  # importing web3 takes over a second
    from contracts_abi import abi

    eth = connected(provider).eth
    functions = eth.contract(address=to_checksum(token), abi=abi("erc20")).functions
    decimals = await _answer(functions.decimals().call())
    symbol = await _answer(functions.symbol().call())
    if symbol is None:
        old = eth.contract(address=to_checksum(token), abi=_BYTES32_SYMBOL).functions
        symbol = await _answer(old.symbol().call())
    return TokenFacts(
        has_code=True,
        decimals=decimals if isinstance(decimals, int) else None,
        symbol=readable_symbol(symbol),
    )


async def read_balances(
    provider: RpcProvider, token: Address, holders: Sequence[Address], *, at: BlockNumber
) -> tuple[int | None, ...]:
    """`balanceOf` of each holder at the end of a block, one call each; `None` where the contract answers none.

    Raises `ChainError` when the node does not answer, or has no state of that block.
    """
    from chains.web3_provider import connected
    from contracts_abi import abi

    functions = connected(provider).eth.contract(address=to_checksum(token), abi=abi("erc20")).functions
    found: list[int | None] = []
    for start in range(0, len(holders), PARALLEL_BALANCES):
        some = holders[start : start + PARALLEL_BALANCES]
        calls = [_answer(functions.balanceOf(to_checksum(holder)).call(block_identifier=at)) for holder in some]
        found += [each if isinstance(each, int) else None for each in await asyncio.gather(*calls)]
    return tuple(found)


def readable_symbol(answered: object) -> str | None:
    """A symbol fit for terminals and logs: unprintable characters escaped, at most `SYMBOL_CHARS_MAX` characters."""
    if isinstance(answered, bytes):
        answered = _bytes32_text(answered)
    if not isinstance(answered, str) or not answered:
        return None
    escaped = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in answered[:SYMBOL_CHARS_MAX]
    )
    return escaped[:SYMBOL_CHARS_MAX]


def _bytes32_text(word: bytes) -> str | None:
    """Text padded with zeros on the right; zeros before it are the layout of something else."""
    text = word.rstrip(b"\0")
    try:
        return None if b"\0" in text else text.decode("utf-8")
    except UnicodeDecodeError:
        return None


async def _has_code(provider: RpcProvider, token: Address) -> bool:
    code = await provider.call("eth_getCode", ["0x" + token.hex(), "latest"], TEXT)
    if not code.startswith("0x"):
        raise NodeInconsistent(f"{provider.name}: eth_getCode answered no 0x hex")
    return len(code) > len("0x")


async def _answer(call: Awaitable[T]) -> T | None:
    """`None` for a contract that reverts, has no such function, or answers in another shape."""
    from eth_abi.exceptions import DecodingError
    from web3.exceptions import Web3Exception

    try:
        return await call
    except (Web3Exception, DecodingError, UnicodeDecodeError, OverflowError):
        return None
