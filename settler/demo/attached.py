"""An anvil that somebody else started, spoken to as one of our own (`settler.devchain`). Never stopped by us."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from settler.anvil import CALL_TIMEOUT_S, Anvil, AnvilError


class AttachedAnvil(Anvil):
    """`async with AttachedAnvil("http://anvil:8545") as anvil:`. Raises `AnvilError` if nobody answers there."""

    def __init__(self, url: str) -> None:
        super().__init__(Path("anvil"))
        self._url = url

    @property
    def url(self) -> str:
        return self._url

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            headers={"content-type": "application/json"}, timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        )
        self._cleanup.push_async_callback(self._session.close)
        try:
            self.chain_id = int(await self.rpc("eth_chainId"), 16)
        except aiohttp.ClientError as error:
            raise AnvilError(f"no node answers at {self._url}: {error}") from error
