"""What only a real node can show, and what we assume of anvil."""

from __future__ import annotations

import pytest

from chains.errors import BlockNotFound
from chains.evm import EvmReader
from chains.model import BlockNumber, BlockSpan, LogQuery
from chains.proof import profile_of, prove_block, verify
from chains.rpc import RpcProvider
from chains.wire import LOGS
from tests.conformance.worlds import CHAIN, NFT, SHOP, TOKEN, AnvilWorld, sent

pytestmark = pytest.mark.anvil

TO_SHOP = LogQuery(tokens=frozenset([TOKEN, NFT]), recipients=frozenset([SHOP]))


async def test_erc721__shares_the_topic__and_is_passed_over(anvil_world: AnvilWorld) -> None:
    await anvil_world.mine(await anvil_world.tx(sent(7, token=NFT)), await anvil_world.tx(sent(5)))
    span = BlockSpan(first=BlockNumber(1), last=BlockNumber(1))
    found = await anvil_world.provider.call(
        "eth_getLogs", [{"fromBlock": "0x1", "toBlock": "0x1", "address": "0x" + NFT.hex()}], LOGS
    )
    assert len([*found[0].topics]) == 4
    read = await anvil_world.reader.read_span(span, TO_SHOP)
    assert [each.identity.token for each in read.transfers] == [TOKEN]


async def test_assumption__logs_beyond_the_head__are_an_empty_list_without_an_error(anvil_world: AnvilWorld) -> None:
    """Why the header of the last block is asked in the same batch: the list alone looks as if nothing had been paid."""
    await anvil_world.mine(await anvil_world.tx(sent(5)))
    asked = {"fromBlock": "0x1", "toBlock": "0x9", "address": "0x" + TOKEN.hex()}
    logs = await anvil_world.provider.call("eth_getLogs", [asked], LOGS)
    assert len(logs) == 1
    with pytest.raises(BlockNotFound):
        await anvil_world.reader.read_span(BlockSpan(first=BlockNumber(1), last=BlockNumber(9)), TO_SHOP)


async def test_token_facts__contract_without_the_functions__are_none(anvil_world: AnvilWorld) -> None:
    facts = await anvil_world.reader.token_facts(TOKEN)
    assert (facts.has_code, facts.decimals, facts.symbol) == (True, None, None)


async def test_two_readers__of_one_node__agree(anvil_world: AnvilWorld) -> None:
    await anvil_world.mine(await anvil_world.tx(sent(5), sent(6)))
    other = EvmReader(RpcProvider(anvil_world.provider._url), chain_id=await anvil_world.reader.chain_id())
    span = BlockSpan(first=BlockNumber(0), last=BlockNumber(1))
    assert await other.read_span(span, TO_SHOP) == await anvil_world.reader.read_span(span, TO_SHOP)
    await other.close()


async def test_token_facts__test_stablecoin__says_what_it_was_deployed_with(anvil_world: AnvilWorld) -> None:
    address = await anvil_world.deploy_stablecoin(name="Test Dollar", symbol="TUSD", decimals=6)
    facts = await anvil_world.reader.token_facts(address)
    assert (facts.has_code, facts.decimals, facts.symbol) == (True, 6, "TUSD")


async def test_proof_material__proves_a_payment(anvil_world: AnvilWorld) -> None:
    await anvil_world.mine(await anvil_world.tx(sent(5), sent(5)), await anvil_world.tx(sent(6)))
    read = await anvil_world.reader.read_span(BlockSpan(first=BlockNumber(1), last=BlockNumber(1)), TO_SHOP)
    anvil_world.counted.calls.clear()
    block, receipts = await anvil_world.reader.proof_material(read.end.hash)
    assert anvil_world.counted.calls == {"eth_getBlockByHash": 1, "eth_getBlockReceipts": 1}
    proven = prove_block(block, receipts, block_hash=read.end.hash, profile=profile_of(CHAIN))
    assert len(read.transfers) == 3
    for transfer in read.transfers:
        verify(proven.prove(transfer), transfer)


async def test_proof_material__block_of_a_fork_that_is_gone__is_not_found(anvil_world: AnvilWorld) -> None:
    await anvil_world.mine_empty(2)
    (gone,) = await anvil_world.reader.headers([BlockNumber(2)])
    assert gone is not None
    await anvil_world.undo(1)
    with pytest.raises(BlockNotFound):
        await anvil_world.reader.proof_material(gone.hash)
