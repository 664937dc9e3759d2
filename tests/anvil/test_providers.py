"""Several providers of one chain: who must agree, who is left out, and what a settlement can show for it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chains.model import Address
from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import deploy_tokens
from tests.support import evm
from tests.support.daemon import Api, ChainTable, Json, due, pay_to, running, until, write_config
from tests.support.rpc_proxy import RpcProxy

FINALITY = 3


async def settle_one(api: Api, node: Anvil, token: Address) -> Json:
    """An invoice, paid, mined and settled."""
    invoice = await api.create("100.00")
    await evm.transfer(node, node.accounts[1], token, pay_to(invoice), due(invoice))
    await evm.mine(node, 1 + FINALITY)
    return await api.reaches(invoice, "settled")


async def providers(api: Api) -> dict[str, Json]:
    return {p["provider"]: p for p in (await api.chain())["providers"]}


@pytest.mark.parametrize("proof", ["receipts", "none"])
async def test_three_providers__two_agree__and_the_evidence_names_them(proof: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True))
        urls = [(await stack.enter_async_context(RpcProxy(node.url))).url for _ in range(3)]
        (token,) = await deploy_tokens(node, {"USDC": 6})
        config = write_config(tmp_path, ChainTable(rpc=urls, tokens=[token], finality=FINALITY, proof=proof))
        daemon = await stack.enter_async_context(running(config))
        invoice = await settle_one(daemon.api, node, token.address)
        assert set(await providers(daemon.api)) == {"127.0.0.1", "127.0.0.1#2", "127.0.0.1#3"}
        settlement = await daemon.api.settlement_of(invoice)
        assert settlement["policy"].pop("version").startswith("sha256:")
        assert settlement["policy"] == {"finality": {"anvil": "3"}, "quorum": {"anvil": 2}, "proof": {"anvil": proof}}
        evidence = await daemon.api.get(f"/v1/settlements/{settlement['id']}/evidence")
        (payment,) = evidence["payments"]
        assert len(payment["sources"]) == 2
        assert set(payment["sources"]) <= {"127.0.0.1", "127.0.0.1#2", "127.0.0.1#3"}
        assert payment["proof_failure"] is None
        assert (payment["proof"] is not None) == (proof == "receipts")


async def test_one_provider_of_another_chain__is_removed_by_name__the_rest_settle(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True))
        stranger = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True, chain_id=4242))
        proxies = [await stack.enter_async_context(RpcProxy(node.url)) for _ in range(2)]
        (token,) = await deploy_tokens(node, {"USDC": 6})
        urls = [stranger.url, *(proxy.url for proxy in proxies)]
        config = write_config(tmp_path, ChainTable(rpc=urls, tokens=[token], finality=FINALITY))
        daemon = await stack.enter_async_context(running(config))
        await settle_one(daemon.api, node, token.address)
        shown = (await providers(daemon.api))["127.0.0.1"]
        assert (shown["up"], shown["state"]) == (False, "removed")
        assert shown["reason"] == "it serves chain id 4242, configured is 31337"
        metrics = await daemon.api.metrics()
        assert metrics.total("settler_rpc_provider_up", chain="anvil", provider="127.0.0.1") == 0
        assert metrics.total("settler_rpc_provider_up", chain="anvil", provider="127.0.0.1#2") == 1


async def test_preferred_provider_silent__the_others_settle__and_it_is_used_again(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True))
        proxies = [await stack.enter_async_context(RpcProxy(node.url)) for _ in range(3)]
        (token,) = await deploy_tokens(node, {"USDC": 6})
        urls = [proxy.url for proxy in proxies]
        config = write_config(tmp_path, ChainTable(rpc=urls, tokens=[token], finality=FINALITY))
        daemon = await stack.enter_async_context(running(config))
        await settle_one(daemon.api, node, token.address)
        proxies[0].lie("eth_getBlockByNumber", lambda _params, _result: None)
        await settle_one(daemon.api, node, token.address)
        assert not (await providers(daemon.api))["127.0.0.1"]["up"]
        proxies[0].be_honest()
        await until(
            lambda: providers(daemon.api), lambda shown: shown["127.0.0.1"]["up"], what="the first provider to be back"
        )
        await settle_one(daemon.api, node, token.address)


async def test_too_few_left_to_agree__nothing_settles__until_they_are_back(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Anvil(find_anvil(), no_mining=True))
        proxies = [await stack.enter_async_context(RpcProxy(node.url)) for _ in range(2)]
        (token,) = await deploy_tokens(node, {"USDC": 6})
        urls = [proxy.url for proxy in proxies]
        config = write_config(tmp_path, ChainTable(rpc=urls, tokens=[token], finality=FINALITY))
        daemon = await stack.enter_async_context(running(config))
        api = daemon.api
        await settle_one(api, node, token.address)
        proxies[1].lie("eth_getBlockByNumber", lambda _params, _result: None)
        invoice = await api.create("100.00")
        await evm.transfer(node, node.accounts[1], token.address, pay_to(invoice), due(invoice))
        await evm.mine(node, 1 + FINALITY)
        await api.reaches(invoice, "processing")
        await until(
            api.metrics,
            lambda m: m.total("settler_stage_ticks_total", chain="anvil", stage="settle", outcome="quorum_lost") >= 1,
            what="the quorum to be missed",
        )
        assert (await api.invoice(invoice))["status"] == "processing"
        proxies[1].be_honest()
        await api.reaches(invoice, "settled")
