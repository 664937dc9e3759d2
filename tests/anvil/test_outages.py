"""Nodes that are away, and chains that are none of each other's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from settler.anvil import Anvil, find_anvil
from tests.anvil.shop import FINALITY, POLL_S, UNIT, deploy_tokens, open_shop
from tests.support import evm
from tests.support.daemon import (
    Api,
    ChainTable,
    Json,
    Metrics,
    TokenTable,
    due,
    option,
    pay_to,
    running,
    write_config,
)
from tests.support.dump import audit
from tests.support.line import Line
from tests.support.rpc_proxy import RpcProxy

SECOND = 31338
"""Chain id of the other node."""


def is_up(metrics: Metrics, chain: str) -> float:
    return metrics.one("settler_rpc_provider_up", chain=chain)


async def settles(api: Api, node: Anvil, chain: str, token: TokenTable) -> Json:
    """An invoice of the chain is made, paid and settled."""
    invoice = await api.create("10.00", option(chain=chain))
    await evm.transfer(node, node.accounts[1], token.address, pay_to(invoice), due(invoice))
    await evm.mine(node, 1 + FINALITY)
    return await api.reaches(invoice, "settled")


async def test_node_down_at_start_and_later__is_said_and_survived(tmp_path: Path) -> None:
    async with Anvil(find_anvil(), no_mining=True) as node, Line(node.url, is_cut=True) as line:
        (token,) = await deploy_tokens(node, {"USDC": 6})
        config = write_config(
            tmp_path, ChainTable(rpc=line.url, tokens=[token], finality=FINALITY, poll_interval_s=POLL_S)
        )
        async with running(config) as daemon:
            api = daemon.api
            reasons = await api.refusals("no provider answers")
            why = "no provider answers (127.0.0.1: no good answer (transient))"
            assert reasons == [{"chain": "anvil", "reason": why}]
            assert is_up(await api.metrics(), "anvil") == 0
            assert (await api.get("/livez"))["status"] == "alive"
            early = await api.create("10.00")  # invoices can be made all the same

            await line.mend()

            await api.is_ready()
            assert is_up(await api.metrics(), "anvil") == 1
            await evm.transfer(node, node.accounts[1], token.address, pay_to(early), due(early))
            await evm.mine(node, 1 + FINALITY)
            await api.reaches(early, "settled")

            await line.cut()
            await api.refusals("no provider answers")
            meanwhile = await api.create("20.00")
            tx = await evm.transfer(node, node.accounts[1], token.address, pay_to(meanwhile), due(meanwhile))
            await evm.mine(node, 300)
            assert is_up(await api.metrics(), "anvil") == 0
            assert (await api.invoice(meanwhile))["status"] == "pending"

            await line.mend()

            settled = await api.reaches(meanwhile, "settled")
            assert settled["payments"][0]["tx_hash"] == "0x" + tx.hex(), "no block is skipped"
            await api.is_ready()
        assert [t["outcome"] for t in daemon.log.ticks("open", "watch") if t["outcome"] != "ok"]
    await audit(f"sqlite:///{tmp_path / 'settler.db'}")


async def test_node_that_lost_its_chain__is_a_violation__not_a_new_start(tmp_path: Path) -> None:
    """A development node restarted without its state, or a URL that leads elsewhere: blocks we settled are others."""
    async with Anvil(find_anvil(), no_mining=True) as node:
        async with open_shop(tmp_path, node=node) as shop:
            invoice = await shop.api.create("10.00")
            await shop.pay(invoice)
            await shop.finish()
            await shop.api.reaches(invoice, "settled")
            config = shop.config.read_text()
        old = node.url
    async with Anvil(find_anvil(), no_mining=True, timestamp=1_700_000_000) as other:
        await deploy_tokens(other, {"USDC": 6})
        await evm.mine(other, 50)
        shop.config.write_text(config.replace(old, other.url))
        async with running(shop.config) as daemon:
            await daemon.api.refusals("finality violation")
            await daemon.api.reaches(invoice, "reversed")
            assert (await daemon.api.chain())["halted"] is True


@pytest.mark.parametrize("trouble", ["dead", "silent", "nonsense"])
async def test_two_chains__one_in_trouble__the_other_settles(trouble: str, tmp_path: Path) -> None:
    async with (
        Anvil(find_anvil(), no_mining=True) as good,
        Anvil(find_anvil(), no_mining=True, chain_id=SECOND) as bad,
        Line(bad.url) as line,
        RpcProxy(line.url) as proxy,
    ):
        (token,) = await deploy_tokens(good, {"USDC": 6})
        (other,) = await deploy_tokens(bad, {"USDC": 6})
        config = write_config(
            tmp_path,
            ChainTable(name="good", rpc=good.url, tokens=[token], finality=FINALITY, poll_interval_s=POLL_S),
            ChainTable(
                name="bad", chain_id=SECOND, rpc=proxy.url, tokens=[other], finality=FINALITY, poll_interval_s=POLL_S
            ),
        )
        async with running(config) as daemon:
            api = daemon.api
            await api.is_ready()
            await settles(api, good, "good", token)
            await settles(api, bad, "bad", other)

            if trouble == "dead":
                await line.cut()
            elif trouble == "silent":
                proxy.be_silent()
            else:
                proxy.lie("eth_getBlockByNumber", lambda _params, _result: {"number": "nonsense"})
            both = await api.create("10.00", option(chain="good"), option(chain="bad"))
            await evm.transfer(bad, bad.accounts[1], other.address, pay_to(both, 1), 4 * UNIT)
            await evm.mine(bad, 1 + FINALITY)
            before = await api.chain("bad")
            await settles(api, good, "good", token)
            await settles(api, good, "good", token)
            after = await api.chain("bad")
            assert after["scanned"] == before["scanned"], "nothing is believed of a node in trouble"
            if trouble == "dead":
                why = "no provider answers (127.0.0.1: no good answer (transient))"
                assert await api.refusals("no provider") == [{"chain": "bad", "reason": why}]
                assert is_up(await api.metrics(), "good") == 1

            await line.mend() if trouble == "dead" else proxy.be_honest()

            await evm.transfer(good, good.accounts[1], token.address, pay_to(both, 0), 6 * UNIT)
            await evm.mine(good, 1 + FINALITY)
            settled = await api.reaches(both, "settled")
            assert sorted(p["chain"] for p in settled["payments"]) == ["bad", "good"], "parts of both chains add up"
            await api.is_ready()
    await audit(f"sqlite:///{tmp_path / 'settler.db'}")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("chain id", "serves chain id 31338, configured is 4242"),
        ("decimals", "answers 6, configured are 18"),
        ("symbol", "calls itself 'USDC', not 'USDT'"),
        ("no code", "there is no contract at"),
        ("tag", "that tag cannot be settled on"),
    ],
)
async def test_chain_that_is_not_as_configured__is_refused_by_name__the_other_goes_on(
    fault: str, said: str, tmp_path: Path
) -> None:
    async with (
        Anvil(find_anvil(), no_mining=True) as good,
        Anvil(find_anvil(), no_mining=True, chain_id=SECOND, slots_in_an_epoch=1) as bad,
        RpcProxy(bad.url) as proxy,
    ):
        (token,) = await deploy_tokens(good, {"USDC": 6})
        (other,) = await deploy_tokens(bad, {"USDC": 6})
        wrong = TokenTable(
            address=evm.address_of(bad.accounts[5]) if fault == "no code" else other.address,
            decimals=18 if fault == "decimals" else 6,
            symbol="USDT" if fault == "symbol" else "USDC",
        )
        if fault == "tag":
            proxy.lie("eth_getBlockByNumber", lambda params, result: None if params[0] == "finalized" else result)
        config = write_config(
            tmp_path,
            ChainTable(name="good", rpc=good.url, tokens=[token], finality=FINALITY, poll_interval_s=POLL_S),
            ChainTable(
                name="bad",
                chain_id=4242 if fault == "chain id" else SECOND,
                rpc=proxy.url,
                tokens=[wrong],
                finality="finalized",
                poll_interval_s=POLL_S,
            ),
        )
        async with running(config) as daemon:
            reasons = await daemon.api.refusals("refused: ")
            assert [r["chain"] for r in reasons if "refused: " in r["reason"] and said in r["reason"]] == ["bad"]
            await settles(daemon.api, good, "good", token)
            assert (await daemon.api.chain("bad"))["scanned"] is None
            metrics = await daemon.api.metrics()
            assert metrics.one("settler_stage_ticks_total", stage="open", chain="bad", outcome="refused") > 0
            assert metrics.total("settler_rpc_requests_total", chain="bad", method="eth_getLogs") == 0
            if fault == "tag":  # the other side is mended: no restart needed
                proxy.be_honest()
                await daemon.api.is_ready()
