"""web3.py on top of `RpcProvider`: contract calls are then counted, timed, bounded and retried like everything else.

Importing web3 takes over a second: only `chains.tokens` imports this module, and only when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from web3 import AsyncWeb3
from web3.providers.async_base import AsyncBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chains.errors import ChainError, NodeInconsistent, Reverted
from chains.hex import to_hex
from chains.rpc import RpcProvider
from chains.wire import ANYTHING, TEXT

_CALL = "eth_call"
_REVERT_CODE = 3
"""What geth and anvil answer for a revert; web3 turns it into `ContractLogicError`."""


class Web3Provider(AsyncBaseProvider):
    """A web3 provider whose network is an `RpcProvider`. Network failures leave web3 as `ChainError`."""

    global_ccip_read_enabled = False
    """EIP-3668 lets a contract send its caller to any URL; nothing read here needs it."""

    def __init__(self, provider: RpcProvider) -> None:
        super().__init__()
        self._provider = provider

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            if method == _CALL:
                result: object = self._checked(await self._provider.call(method, _plain(params), TEXT))
            else:
                result = await self._provider.call(method, _plain(params), ANYTHING)
        except Reverted as error:
            return _response({"error": {"code": _REVERT_CODE, "message": f"execution reverted: {error}"}})
        return _response({"result": result})

    def _checked(self, answered: str) -> str:
        """web3 takes an answer for hex without a look, and what it raises where it is none is no `ChainError`."""
        try:
            bytes.fromhex(answered.removeprefix("0x"))
        except ValueError:
            raise NodeInconsistent(f"{self._provider.name}: eth_call answered no 0x hex") from None
        return answered

    async def is_connected(self, show_traceback: bool = False) -> bool:
        try:
            await self._provider.call("eth_chainId", [], ANYTHING)
        except ChainError:
            if show_traceback:
                raise
            return False
        return True


def connected(provider: RpcProvider) -> AsyncWeb3[Web3Provider]:
    """An `AsyncWeb3` without middleware: no hidden `eth_chainId` calls, no name service."""
    return AsyncWeb3(Web3Provider(provider), middleware=[], ens=None)


def _response(content: dict[str, object]) -> RPCResponse:
    return cast(RPCResponse, {"jsonrpc": "2.0", "id": 1, **content})


def _plain(value: Any) -> Any:
    """web3's own types as JSON has them: bytes are 0x hex (an encoder would say base64), mappings are objects."""
    if isinstance(value, bytes):
        return to_hex(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
