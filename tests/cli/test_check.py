"""`settler check`: each thing that may be wrong with a provider or a token is a row, and exit 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chains import registry
from chains.address import to_checksum
from chains.errors import MethodUnsupported, RangeTooWide, Rejected
from chains.evm import EvmReader
from chains.model import (
    Address,
    BlockNumber,
    BlockRef,
    BlockSpan,
    ChainId,
    LogQuery,
    SpanRead,
    Tag,
    Token,
    TokenFacts,
)
from chains.oracles import LATEST_ROUND_DATA
from chains.replies import Call
from chains.rpc import RpcProvider
from chains.simulated import SimFaults, SimulatedChain, SimulatedReader
from settler.cli.probing import findings
from settler.config import ChainSettings
from settler.config.chain import PriceFeedSettings
from settler.devchain import deploy_token, mine
from tests.cli.conftest import CONFIG, TOKEN, Shell
from tests.config.samples import BASE, PRIVATE, read

PRIVATE_ID = ChainId(424242)


@pytest.fixture
def acme(tmp_path: Path) -> ChainSettings:
    return read(tmp_path, PRIVATE).chains["private"]


@pytest.fixture
def chain(acme: ChainSettings) -> SimulatedChain:
    made = SimulatedChain(seed=1, chain_id=acme.chain_id)
    made.add_token(acme.tokens[0])
    made.mine_empty(300)
    return made


async def rows(settings: ChainSettings, reader: SimulatedReader, *, now: datetime | None = None) -> dict[str, str]:
    """`check` to `result: detail`."""
    at = now or reader.chain.head.time + timedelta(seconds=3)
    return {f.check: f"{f.result}: {f.detail}" for f in await findings(settings, reader, now=at)}


async def test_findings__all_well(acme: ChainSettings, chain: SimulatedChain) -> None:
    found = await rows(acme, SimulatedReader(chain))
    assert list(found) == ["chain id", "head", "tag safe", "tag finalized", "log range", "receipts", "token ACME"]
    assert found.pop("receipts").startswith("note: block 300 cannot be proven: how chain 424242 hashes its receipts")
    assert all(row.startswith("ok: ") for row in found.values())
    assert found["head"] == "ok: block 300, 3 s old"
    assert found["log range"] == "ok: 301 blocks in one eth_getLogs (all there are)"
    assert "ACME, 6 decimals, 0x5FbDB2315678afecb367f032d93F642f64180aa3" in found["token ACME"]


async def test_findings__provider_down__is_one_row_with_the_reason(acme: ChainSettings, chain: SimulatedChain) -> None:
    found = await rows(acme, SimulatedReader(chain, faults=SimFaults(is_down=True)))
    assert list(found) == ["rpc"]
    assert found["rpc"].startswith("wrong: ")


async def test_findings__wrong_chain__asks_nothing_more(acme: ChainSettings, chain: SimulatedChain) -> None:
    found = await rows(acme, SimulatedReader(chain, faults=SimFaults(wrong_chain_id=ChainId(1))))
    assert list(found) == ["chain id"]
    assert found["chain id"].startswith("wrong: the provider serves 1, configured is 424242")


async def test_findings__narrow_provider__reports_the_widest_range(acme: ChainSettings, chain: SimulatedChain) -> None:
    found = await rows(acme, SimulatedReader(chain, faults=SimFaults(max_span=120)))
    assert found["log range"] == "ok: 120 blocks in one eth_getLogs"


class Taciturn(SimulatedReader):
    """A node that refuses wide ranges without saying how wide they may be."""

    widest = 700

    async def read_span(self, span: BlockSpan, query: LogQuery, *, anchor: BlockNumber | None = None) -> SpanRead:
        if len(span) > self.widest:
            raise RangeTooWide("query exceeds limits")
        return await super().read_span(span, query, anchor=anchor)


@pytest.mark.parametrize(
    ("widest", "said"),
    [
        (700, "ok: 500 blocks in one eth_getLogs"),
        (1, "ok: 1 blocks in one eth_getLogs"),
        (0, "wrong: the provider answers eth_getLogs for no range at all; use another"),
    ],
)
async def test_findings__provider_that_names_no_limit__is_tried_down(
    acme: ChainSettings, chain: SimulatedChain, widest: int, said: str
) -> None:
    chain.mine_empty(1_000)
    reader = Taciturn(chain)
    reader.widest = widest
    assert (await rows(acme, reader))["log range"] == said


async def test_findings__no_tags__is_wrong_only_where_one_is_used(tmp_path: Path, chain: SimulatedChain) -> None:
    chain.set_finalized_lag(None)
    by_depth = read(tmp_path, PRIVATE).chains["private"]
    found = await rows(by_depth, SimulatedReader(chain))
    assert found["tag finalized"].startswith("note: not supported")
    by_tag = read(tmp_path, PRIVATE.replace("= 3", '= "finalized"')).chains["private"]
    found = await rows(by_tag, SimulatedReader(chain))
    assert found["tag finalized"].startswith("wrong: ")
    assert "choose another finality or provider" in found["tag finalized"]


class NoTags(SimulatedReader):
    """A node that refuses tags as such (older clients, some L2s)."""

    async def headers(self, wanted: Sequence[BlockNumber | Tag]) -> tuple[BlockRef | None, ...]:
        if Tag.SAFE in wanted or Tag.FINALIZED in wanted:
            raise MethodUnsupported("simulated: eth_getBlockByNumber: unknown block tag")
        return await super().headers(wanted)


async def test_findings__tags_refused__say_so(tmp_path: Path, chain: SimulatedChain) -> None:
    by_tag = read(tmp_path, PRIVATE.replace("= 3", '= "safe"')).chains["private"]
    found = await rows(by_tag, NoTags(chain))
    assert found["tag safe"].startswith("wrong: simulated: eth_getBlockByNumber: unknown block tag")
    assert found["tag finalized"].startswith("note: ")


class RevokedKey(RpcProvider):
    """A provider that refuses all it is asked."""

    async def batch_outcomes(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return [Rejected("node.example: invalid api key") for _ in calls]


async def test_headers__everything_refused__is_not_blamed_on_the_tag_latest(acme: ChainSettings) -> None:
    """A key revoked under a running daemon was told, and counted, as a node without the tag `latest`."""
    reader = EvmReader(RevokedKey("http://node.example"), chain_id=acme.chain_id)
    with pytest.raises(Rejected, match=r"^node\.example: invalid api key$"):
        await reader.headers([Tag.LATEST, Tag.SAFE])
    with pytest.raises(MethodUnsupported, match=r"^the tag safe is refused"):
        await reader.headers([Tag.SAFE])


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (TokenFacts(has_code=False, decimals=None, symbol=None), "wrong: there is no contract at 0x5FbDB2315678"),
        (TokenFacts(has_code=True, decimals=18, symbol="ACME"), "answers 18, configured are 6; correct it"),
        (TokenFacts(has_code=True, decimals=None, symbol=None), "answers no decimals()"),
        (TokenFacts(has_code=True, decimals=6, symbol="FAKE"), "calls itself 'FAKE', not 'ACME'"),
    ],
)
async def test_findings__token__is_held_against_its_contract(
    acme: ChainSettings, chain: SimulatedChain, facts: TokenFacts, said: str
) -> None:
    class Answers(SimulatedReader):
        async def token_facts(self, token: Address) -> TokenFacts:
            return facts

    assert said in (await rows(acme, Answers(chain)))["token ACME"]


async def test_findings__known_token_with_another_symbol__is_wrong(tmp_path: Path) -> None:
    base = read(tmp_path, BASE).chains["base"]
    usdc = registry.token(8453, "USDC")
    assert usdc is not None
    chain = SimulatedChain(seed=1, chain_id=base.chain_id)
    chain.add_token(Token(chain_id=usdc.chain_id, symbol="EVIL", address=usdc.address, decimals=6, currency="USD"))
    chain.mine_empty(200)
    assert (await rows(base, SimulatedReader(chain)))["token USDC"].startswith(
        "wrong: the contract at 0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913 calls itself 'EVIL'"
    )


async def test_findings__one_question_that_fails__does_not_stop_the_others(
    acme: ChainSettings, chain: SimulatedChain
) -> None:
    class Refuses(SimulatedReader):
        async def token_facts(self, token: Address) -> TokenFacts:
            raise Rejected("simulated: eth_call: plan does not include it")

    found = await rows(acme, Refuses(chain))
    assert found["token ACME"] == "wrong: simulated: eth_call: plan does not include it"
    assert found["log range"].startswith("ok: ")


async def test_findings__stale_head__is_wrong_on_a_chain_with_a_known_block_time(tmp_path: Path) -> None:
    base = read(tmp_path, BASE).chains["base"]
    chain = SimulatedChain(seed=1, chain_id=base.chain_id)
    chain.add_token(base.tokens[0])
    chain.mine_empty(200)
    later = chain.head.time + timedelta(hours=1)
    assert "the provider lags" in (await rows(base, SimulatedReader(chain), now=later))["head"]
    earlier = chain.head.time - timedelta(hours=1)
    assert "set this machine's clock" in (await rows(base, SimulatedReader(chain), now=earlier))["head"]


async def test_findings__start_above_the_head__is_wrong(tmp_path: Path, chain: SimulatedChain) -> None:
    late = read(tmp_path, PRIVATE.replace("finality = 3", "finality = 3\nstart_block = 5000")).chains["private"]
    assert (await rows(late, SimulatedReader(chain)))["start block"].startswith("wrong: 5000 is above the head 300")


def test_check__node_down__is_a_row_and_exit_1(settler: Shell) -> None:
    ran = settler("check")
    assert ran.code == 1
    header, row = ran.out.splitlines()
    assert header.split() == ["CHAIN", "PROVIDER", "CHECK", "RESULT", "DETAIL"]
    assert row.split()[:4] == ["local", "127.0.0.1", "rpc", "wrong"]
    assert ran.err == ""


@pytest.mark.anvil
def test_check__on_a_real_node(settler: Shell) -> None:
    import asyncio

    from settler.anvil import Anvil, find_anvil
    from settler.cli import main

    async def scene() -> None:
        async with Anvil(find_anvil()) as node:
            token = await deploy_token(node, "USDC", 6)
            await mine(node, 80)
            from chains.address import to_checksum

            text = CONFIG.replace("http://127.0.0.1:1/k3y-of-the-node", node.url).replace(TOKEN, to_checksum(token))
            (settler.folder / "settler.toml").write_text(text)
            assert await asyncio.to_thread(main, ["check"]) == 0
            (settler.folder / "settler.toml").write_text(text.replace("decimals = 6", "decimals = 8"))
            assert await asyncio.to_thread(main, ["check", "--json"]) == 1

    asyncio.run(scene())


FEED, ORACLE = Address(b"\xfe" * 20), Address(b"\x0a" * 20)


def with_feed(settings: ChainSettings) -> ChainSettings:
    feed = PriceFeedSettings(address=FEED, max_age_s=3_600)
    return replace(settings, price_feeds={settings.tokens[0].address: feed}, sanctions_oracle=ORACLE)


async def test_findings__feed_and_sanctions_list_that_answer__are_shown(
    acme: ChainSettings, chain: SimulatedChain
) -> None:
    updated_at = int(chain.head.time.timestamp())
    data = b"".join(n.to_bytes(32) for n in (1, 99_990_000, updated_at, updated_at, 1))
    chain.set_contract(FEED, lambda asked: data if asked == LATEST_ROUND_DATA else (8).to_bytes(32))
    chain.set_contract(ORACLE, lambda _: bytes(32))
    found = await rows(with_feed(acme), SimulatedReader(chain))
    assert found["price feed ACME"].startswith("ok: 0.9999, of 2026-01-01T")
    assert found["sanctions"] == f"ok: {to_checksum(ORACLE)}"


async def test_findings__feed_and_sanctions_list_that_do_not__would_hold_everything(
    acme: ChainSettings, chain: SimulatedChain
) -> None:
    found = await rows(with_feed(acme), SimulatedReader(chain))
    for check in ("price feed ACME", "sanctions"):
        assert found[check].startswith("wrong: ")
        assert "would be held" in found[check]
