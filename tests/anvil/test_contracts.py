"""The test contracts behave like those they stand for: which events, in which order, with how many topics, and what
moved. Nothing of settler is in here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from eth_utils.crypto import keccak

from chains.model import Address
from contracts_abi import TRANSFER_TOPIC
from settler.anvil import Anvil, AnvilCallError, find_anvil
from tests.anvil.contracts import (
    TOKEN,
    Authorization,
    Contract,
    EscrowPayment,
    Event,
    account,
    cancellation,
    deploy,
    deploy_behind,
    deploy_wallet,
    impersonate,
    upgrade,
)
from tests.support import evm
from tests.support.daemon import new_address

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = Address(bytes(20))
UNIT = 10**6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[Anvil]:
    """One for all: each test deploys what it needs."""
    async with Anvil(find_anvil(), no_mining=True) as running:
        yield running


def me(node: Anvil) -> Address:
    """Who sends where nobody else is named."""
    return evm.address_of(node.accounts[0])


async def funded(node: Anvil, name: str, *, by: Address | None = None) -> Contract:
    """A token of which its first user has 1,000."""
    token = await deploy(node, name, *TOKEN)
    await token.act("mint", by or me(node), 1_000 * UNIT)
    return token


def told(events: list[Event]) -> list[tuple[str, int]]:
    return [(e.name, e.topics) for e in events]


def moves(events: list[Event]) -> list[tuple[Address, Address, int]]:
    return [(e.args["from"], e.args["to"], e.args["value"]) for e in events if e.name == "Transfer"]


def raw_topics(receipt: Mapping[str, Any]) -> list[list[str]]:
    return [log["topics"] for log in receipt["logs"]]


# -- tokens that pay in their own way ----------------------------------------------------------------------------------


async def test_tether__returns_nothing__and_moves_the_money(node: Anvil) -> None:
    usdt, shop = await funded(node, "TetherLikeToken"), new_address()
    call = {"from": node.accounts[0].address, "to": "0x" + usdt.address.hex()}
    data = "0x" + usdt.call_data("transfer", shop, UNIT).hex()
    assert await node.rpc("eth_call", {**call, "data": data}, "latest") == "0x"
    receipt = await usdt.act("transfer", shop, UNIT)
    assert moves(usdt.events(receipt)) == [(me(node), shop, UNIT)]
    assert await usdt.read("balanceOf", shop) == UNIT


async def test_tether__fee_on__its_log_comes_first_and_the_payment_shows_what_was_received(node: Anvil) -> None:
    payer, shop = new_address(), new_address()
    await impersonate(node, payer)
    usdt = await funded(node, "TetherLikeToken", by=payer)
    params = usdt.events(await usdt.act("setParams", 100, UNIT))
    assert told(params) == [("Params", 1)]
    assert params[0].args == {"feeBasisPoints": 100, "maxFee": UNIT}

    one_percent = usdt.events(await usdt.act("transfer", shop, 50 * UNIT, by=payer))
    capped = usdt.events(await usdt.act("transfer", shop, 500 * UNIT, by=payer))
    await usdt.act("setParams", 0, 0)
    free = usdt.events(await usdt.act("transfer", shop, 50 * UNIT, by=payer))

    owner = await usdt.read("owner")
    assert moves(one_percent) == [(payer, owner, UNIT // 2), (payer, shop, 50 * UNIT - UNIT // 2)]
    assert moves(capped) == [(payer, owner, UNIT), (payer, shop, 499 * UNIT)]
    assert moves(free) == [(payer, shop, 50 * UNIT)]
    assert await usdt.read("balanceOf", shop) == 50 * UNIT - UNIT // 2 + 499 * UNIT + 50 * UNIT


async def test_tether__supply_freeze_and_wipe__leave_no_transfer(node: Anvil) -> None:
    usdt, thief = await funded(node, "TetherLikeToken"), new_address()
    await usdt.act("transfer", thief, 7 * UNIT)
    assert told(usdt.events(await usdt.act("issue", 5))) == [("Issue", 1)]
    assert told(usdt.events(await usdt.act("redeem", 5))) == [("Redeem", 1)]
    assert told(usdt.events(await usdt.act("addBlackList", thief))) == [("AddedBlackList", 1)]
    assert await usdt.read("isBlackListed", thief) is True
    wiped = usdt.events(await usdt.act("destroyBlackFunds", thief))
    assert told(wiped) == [("DestroyedBlackFunds", 1)]
    assert wiped[0].args == {"_blackListedUser": thief, "_balance": 7 * UNIT}
    assert await usdt.read("balanceOf", thief) == 0
    assert told(usdt.events(await usdt.act("removeBlackList", thief))) == [("RemovedBlackList", 1)]


async def test_tether__frozen_or_paused__pays_nobody(node: Anvil) -> None:
    usdt, shop = await funded(node, "TetherLikeToken"), new_address()
    await usdt.act("addBlackList", me(node))
    assert await fails(usdt, "transfer", shop, 1)
    await usdt.act("removeBlackList", me(node))
    assert told(usdt.events(await usdt.act("pause"))) == [("Pause", 1)]
    assert await usdt.read("paused") is True
    assert await fails(usdt, "transfer", shop, 1)
    assert told(usdt.events(await usdt.act("unpause"))) == [("Unpause", 1)]
    assert moves(usdt.events(await usdt.act("transfer", shop, 1))) == [(me(node), shop, 1)]


async def test_tether__deprecated__the_other_contract_emits_the_transfer(node: Anvil) -> None:
    usdt, newer, shop = await funded(node, "TetherLikeToken"), await funded(node, "BackingToken"), new_address()
    deprecated = usdt.events(await usdt.act("deprecate", newer.address))
    assert (told(deprecated), deprecated[0].args) == ([("Deprecate", 1)], {"newAddress": newer.address})
    receipt = await usdt.act("transfer", shop, UNIT)
    assert usdt.events(receipt) == []
    assert moves(newer.events(receipt)) == [(me(node), shop, UNIT)]


async def test_false_return__transaction_succeeds_and_nothing_moves(node: Anvil) -> None:
    token, shop = await funded(node, "FalseReturnToken"), new_address()
    receipt = await token.act("transfer", shop, 1_001 * UNIT)
    assert (receipt["status"], receipt["logs"]) == ("0x1", [])
    assert (await token.act("transferFrom", me(node), shop, 1))["logs"] == []
    assert await token.read("balanceOf", shop) == 0
    assert moves(token.events(await token.act("transfer", shop, UNIT))) == [(me(node), shop, UNIT)]


async def test_rebasing__balances_grow_without_a_transfer(node: Anvil) -> None:
    token, shop = await funded(node, "RebasingToken"), new_address()
    await token.act("transfer", shop, 100 * UNIT)
    receipt = await token.act("rebase", 10_100)
    assert moves(token.events(receipt)) == []
    assert await token.read("balanceOf", shop) == 101 * UNIT
    paid = token.events(await token.act("transfer", shop, 101 * UNIT))
    assert moves(paid) == [(me(node), shop, 101 * UNIT)], "the log says what was asked for"
    assert await token.read("balanceOf", shop) == 202 * UNIT


async def test_plain_token__anybody_may_send_nothing_in_anybodys_name(node: Anvil) -> None:
    token = Contract(node=node, name="TestStablecoin", address=await evm.deploy_token(node))
    victim, lookalike = new_address(), new_address()
    receipt = await token.act("transferFrom", victim, lookalike, 0)
    assert moves(token.events(receipt)) == [(victim, lookalike, 0)]


async def test_same_symbol__is_another_contract(node: Anvil) -> None:
    real, fake = await funded(node, "CircleLikeToken"), await funded(node, "BackingToken")
    assert real.address != fake.address
    assert [await t.read("symbol") for t in (real, fake)] == ["USDC", "USDC"]
    assert [await t.read("decimals") for t in (real, fake)] == [6, 6]


# -- signed payments ---------------------------------------------------------------------------------------------------


async def test_authorization__anybody_sends_it_in__used_stands_before_the_transfer(node: Anvil) -> None:
    payer, shop, nonce = account("payer"), new_address(), keccak(text="order 1")
    usdc = await funded(node, "CircleLikeToken", by=evm.address_of(payer))
    signed = Authorization(payer=payer, to=shop, value=5 * UNIT, nonce=nonce).arguments(usdc)
    receipt = await usdc.act("transferWithAuthorization", *signed)
    events = usdc.events(receipt)
    assert told(events) == [("AuthorizationUsed", 3), ("Transfer", 3)]
    assert events[0].args == {"authorizer": evm.address_of(payer), "nonce": nonce}
    assert moves(events) == [(evm.address_of(payer), shop, 5 * UNIT)]
    assert receipt["from"] == node.accounts[0].address.lower()
    assert await usdc.read("authorizationState", evm.address_of(payer), nonce) is True
    assert await fails(usdc, "transferWithAuthorization", *signed), "used once"


async def test_authorization__of_other_terms__is_refused(node: Anvil) -> None:
    payer, shop = account("payer"), new_address()
    usdc = await funded(node, "CircleLikeToken", by=evm.address_of(payer))
    good = Authorization(payer=payer, to=shop, value=5 * UNIT, nonce=keccak(text="order 2")).arguments(usdc)
    more = (*good[:2], 6 * UNIT, *good[3:])
    expired = Authorization(payer=payer, to=shop, value=1, nonce=bytes(32), valid_before=1).arguments(usdc)
    assert await fails(usdc, "transferWithAuthorization", *more)
    assert await fails(usdc, "transferWithAuthorization", *expired)
    assert await fails(usdc, "receiveWithAuthorization", *good), "another kind of signature, and another sender"
    assert moves(usdc.events(await usdc.act("transferWithAuthorization", *good))) != []


async def test_receive_with_authorization__by_the_payee_alone(node: Anvil) -> None:
    payer, shop = account("payer"), new_address()
    await impersonate(node, shop)
    usdc = await funded(node, "CircleLikeToken", by=evm.address_of(payer))
    kind = "ReceiveWithAuthorization"
    signed = Authorization(payer=payer, to=shop, value=UNIT, nonce=keccak(text="order 3"), kind=kind).arguments(usdc)
    assert await fails(usdc, "receiveWithAuthorization", *signed)
    events = usdc.events(await usdc.act("receiveWithAuthorization", *signed, by=shop))
    assert told(events) == [("AuthorizationUsed", 3), ("Transfer", 3)]


async def test_canceled_authorization__can_pay_no_more(node: Anvil) -> None:
    payer, nonce = account("payer"), keccak(text="order 4")
    usdc = await funded(node, "CircleLikeToken", by=evm.address_of(payer))
    events = usdc.events(await usdc.act("cancelAuthorization", *cancellation(payer, nonce, usdc)))
    assert told(events) == [("AuthorizationCanceled", 3)]
    assert events[0].args == {"authorizer": evm.address_of(payer), "nonce": nonce}
    signed = Authorization(payer=payer, to=new_address(), value=1, nonce=nonce).arguments(usdc)
    assert await fails(usdc, "transferWithAuthorization", *signed)


async def test_batch_of_authorizations__a_used_one_is_skipped__the_transaction_succeeds(node: Anvil) -> None:
    payer, shop = account("payer"), new_address()
    pyusd = await funded(node, "PaxosLikeToken", by=evm.address_of(payer))
    first, second = (
        Authorization(payer=payer, to=shop, value=UNIT, nonce=keccak(text=name)).in_batch(pyusd) for name in "ab"
    )
    assert told(pyusd.events(await pyusd.act("transferWithAuthorizationBatch", [first]))) == [
        ("AuthorizationUsed", 3),
        ("Transfer", 3),
    ]
    again = await pyusd.act("transferWithAuthorizationBatch", [first, second])
    assert told(pyusd.events(again)) == [("AuthorizationAlreadyUsed", 3), ("AuthorizationUsed", 3), ("Transfer", 3)]
    alone = await pyusd.act("transferWithAuthorizationBatch", [first])
    assert (alone["status"], told(pyusd.events(alone))) == ("0x1", [("AuthorizationAlreadyUsed", 3)])
    assert await pyusd.read("balanceOf", shop) == 2 * UNIT


# -- notes to the payee ------------------------------------------------------------------------------------------------


async def test_transfer_reference__stands_before_its_transfer(node: Anvil) -> None:
    token, shop, reference = await funded(node, "ReferenceToken"), new_address(), keccak(text="order 5")
    events = token.events(await token.act("transfer", shop, UNIT, reference))
    assert told(events) == [("TransferReference", 2), ("Transfer", 3)]
    assert events[0].args["loggedReference"] == reference
    await token.act("approve", me(node), UNIT)
    short = token.events(await token.act("transferFrom", me(node), shop, UNIT, b"order-6"))
    assert [e.args["loggedReference"] for e in short[:1]] == [b"order-6".ljust(32, b"\0")]
    long = token.events(await token.act("transfer", shop, UNIT, b"x" * 33))
    assert [e.args["loggedReference"] for e in long[:1]] == [keccak(b"x" * 33)]


async def test_transfer_with_memo__is_told_twice_and_moved_once(node: Anvil) -> None:
    token, shop, memo = await funded(node, "ReferenceToken"), new_address(), keccak(text="order 7")
    events = token.events(await token.act("transferWithMemo", shop, UNIT, memo))
    assert told(events) == [("Transfer", 3), ("TransferWithMemo", 4)]
    assert events[1].args == {"from": me(node), "to": shop, "amount": UNIT, "memo": memo}
    assert await token.read("balanceOf", shop) == UNIT


async def test_front_end__emits_the_same_transfer_once_more(node: Anvil) -> None:
    backing, shop = await funded(node, "BackingToken"), new_address()
    front = await deploy(node, "TokenFrontend", backing)
    receipt = await front.act("transfer", shop, UNIT)
    assert [log["address"] for log in receipt["logs"]] == ["0x" + c.address.hex() for c in (backing, front)]
    assert moves(backing.events(receipt)) == moves(front.events(receipt)) == [(me(node), shop, UNIT)]
    assert await front.read("balanceOf", shop) == await backing.read("balanceOf", shop) == UNIT


@pytest.mark.parametrize("name", ["CircleLikeToken", "TetherLikeToken"])
async def test_fee_proxy__emits_the_hash_of_the_reference_after_the_transfers(node: Anvil, name: str) -> None:
    """Takes a token that returns nothing as well."""
    token, proxy, shop, agent = await funded(node, name), await deploy(node, "ERC20FeeProxy"), *two()
    reference = bytes.fromhex("a0098add01acc736")
    await token.act("approve", proxy.address, 10 * UNIT)
    receipt = await proxy.act("transferFromWithReferenceAndFee", token, shop, 9 * UNIT, reference, UNIT, agent)
    assert moves(token.events(receipt)) == [(me(node), shop, 9 * UNIT), (me(node), agent, UNIT)]
    (label,) = proxy.events(receipt)
    assert (label.name, label.topics, label.index) == ("TransferWithReferenceAndFee", 2, 2)
    assert label.args == {
        "tokenAddress": token.address,
        "to": shop,
        "amount": 9 * UNIT,
        "paymentReference": keccak(reference),
        "feeAmount": UNIT,
        "feeAddress": agent,
    }
    free = await proxy.act("transferFromWithReferenceAndFee", token, shop, 0, reference, 0, NOBODY)
    assert len(free["logs"]) == 2


# -- escrow ------------------------------------------------------------------------------------------------------------


async def escrow_payment(node: Anvil, salt: int) -> tuple[Contract, Contract, EscrowPayment]:
    """An escrow, its token, and the terms of a payment of up to 100 that its payer has approved."""
    escrow, payer, (shop, agent) = await deploy(node, "CommerceEscrow"), new_address(), two()
    await impersonate(node, payer)
    token = await funded(node, "CircleLikeToken", by=payer)
    await token.act("approve", escrow.address, 100 * UNIT, by=payer)
    payment = EscrowPayment(
        operator=me(node),
        payer=payer,
        receiver=shop,
        token=token.address,
        max_amount=100 * UNIT,
        fee_receiver=agent,
        salt=salt,
    )
    assert await escrow.read("getHash", payment.info) == payment.hash(escrow)
    return escrow, token, payment


async def test_escrow__authorized_is_not_paid__captured_in_parts_is__fee_first(node: Anvil) -> None:
    escrow, token, payment = await escrow_payment(node, salt=1)
    hash_, agent = payment.hash(escrow), payment.fee_receiver
    authorized = await escrow.act("authorize", payment.info, 100 * UNIT)
    (intent, _) = escrow.events(authorized)
    store = await escrow.read("tokenStore", me(node))
    assert (intent.name, intent.topics, intent.args["paymentInfoHash"]) == ("PaymentAuthorized", 2, hash_)
    assert moves(token.events(authorized)) == [(payment.payer, store, 100 * UNIT)]
    assert await token.read("balanceOf", payment.receiver) == 0

    captured = await escrow.act("capture", payment.info, 60 * UNIT, 100, agent)
    (label,) = escrow.events(captured)
    assert (label.name, label.topics, label.index) == ("PaymentCaptured", 2, 0), "before any movement"
    assert label.args == {"paymentInfoHash": hash_, "amount": 60 * UNIT, "feeBps": 100, "feeReceiver": agent}
    net = 60 * UNIT - 60 * UNIT // 100
    assert moves(token.events(captured)) == [(store, agent, 60 * UNIT // 100), (store, payment.receiver, net)]
    await escrow.act("capture", payment.info, 40 * UNIT, 0, agent)
    assert await token.read("balanceOf", payment.receiver) == net + 40 * UNIT
    assert await fails(escrow, "capture", payment.info, 1, 0, agent), "nothing is left"


async def test_escrow__charged_at_once__and_refunded_out_of_the_operators_pocket(node: Anvil) -> None:
    escrow, token, payment = await escrow_payment(node, salt=2)
    charged = await escrow.act("charge", payment.info, 50 * UNIT, 0, payment.fee_receiver)
    label = escrow.events(charged)[0]
    assert (label.name, label.topics, label.index) == ("PaymentCharged", 2, 0), "before any movement"
    assert [(to, amount) for _, to, amount in moves(token.events(charged))][-1] == (payment.receiver, 50 * UNIT)
    await token.act("mint", me(node), 50 * UNIT)
    await token.act("approve", escrow.address, 50 * UNIT)
    refunded = await escrow.act("refund", payment.info, 20 * UNIT)
    assert told(escrow.events(refunded)) == [("PaymentRefunded", 2)]
    assert moves(token.events(refunded))[-1][1:] == (payment.payer, 20 * UNIT)
    assert await fails(escrow, "authorize", payment.info, 1), "collected once"


@pytest.mark.parametrize(("ending", "event"), [("void", "PaymentVoided"), ("reclaim", "PaymentReclaimed")])
async def test_escrow__authorization_ended__the_payer_has_the_money_back(node: Anvil, ending: str, event: str) -> None:
    escrow, token, payment = await escrow_payment(node, salt=3)
    expired = replace(payment, authorization_expiry=1)
    await escrow.act("authorize", expired.info, 10 * UNIT)
    ended = await escrow.act(ending, expired.info, by=me(node) if ending == "void" else expired.payer)
    assert told(escrow.events(ended)) == [(event, 2)]
    store = await escrow.read("tokenStore", me(node))
    assert moves(token.events(ended)) == [(store, expired.payer, 10 * UNIT)]


# -- accounts that are contracts ---------------------------------------------------------------------------------------


async def test_smart_account__a_relayer_sends__the_account_pays(node: Anvil) -> None:
    wallet = await deploy_wallet(node, account("owner"))
    token, shop = await funded(node, "CircleLikeToken", by=wallet.address), new_address()
    signed = await wallet.signed(token, "transfer", shop, UNIT)
    receipt = await wallet.account.act("execTransaction", *signed)
    assert moves(token.events(receipt)) == [(wallet.address, shop, UNIT)]
    assert told(wallet.account.events(receipt)) == [("ExecutionSuccess", 2)]
    assert receipt["from"] == node.accounts[0].address.lower()
    assert await fails(wallet.account, "execTransaction", *signed), "signed for another nonce"

    too_much = await wallet.signed(token, "transfer", shop, 10_000 * UNIT)
    failed = await wallet.account.act("execTransaction", *too_much)
    assert (failed["status"], told(wallet.account.events(failed))) == ("0x1", [("ExecutionFailure", 2)])
    assert token.events(failed) == []


async def test_bundle__one_operation_fails__the_other_pays(node: Anvil) -> None:
    entry = await deploy(node, "BundlerEntry")
    rich, poor = [await deploy_wallet(node, account(name), entry) for name in ("rich", "poor")]
    token, shop = await funded(node, "CircleLikeToken", by=rich.address), new_address()
    operations = [await wallet.operation(token, "transfer", shop, UNIT) for wallet in (poor, rich)]
    receipt = await entry.act("handleOps", operations)
    events = entry.events(receipt)
    assert told(events) == [("UserOperationEvent", 4)] * 2
    assert [(e.args["sender"], e.args["success"]) for e in events] == [(poor.address, False), (rich.address, True)]
    assert moves(token.events(receipt)) == [(rich.address, shop, UNIT)]


# -- what issuers can do -----------------------------------------------------------------------------------------------


async def test_circle__freeze_and_pause(node: Anvil) -> None:
    usdc, shop = await funded(node, "CircleLikeToken"), new_address()
    assert told(usdc.events(await usdc.act("blacklist", shop))) == [("Blacklisted", 2)]
    assert await usdc.read("isBlacklisted", shop) is True
    assert await fails(usdc, "transfer", shop, 1)
    assert told(usdc.events(await usdc.act("unBlacklist", shop))) == [("UnBlacklisted", 2)]
    assert told(usdc.events(await usdc.act("pause"))) == [("Pause", 1)]
    assert await usdc.read("paused") is True
    assert await fails(usdc, "transfer", shop, 1)
    assert told(usdc.events(await usdc.act("unpause"))) == [("Unpause", 1)]
    assert moves(usdc.events(await usdc.act("transfer", shop, 1))) == [(me(node), shop, 1)]


async def test_circle__mint_and_burn_stand_beside_their_transfers(node: Anvil) -> None:
    usdc, shop = await deploy(node, "CircleLikeToken", *TOKEN), new_address()
    minted = usdc.events(await usdc.act("mint", shop, UNIT))
    assert told(minted) == [("Mint", 3), ("Transfer", 3)]
    assert moves(minted) == [(NOBODY, shop, UNIT)]
    await impersonate(node, shop)
    burned = usdc.events(await usdc.act("burn", UNIT, by=shop))
    assert told(burned) == [("Burn", 2), ("Transfer", 3)]
    assert moves(burned) == [(shop, NOBODY, UNIT)]


@pytest.mark.parametrize(("proxy", "topics"), [("UpgradeableProxy", 2), ("CircleLikeProxy", 1)])
async def test_proxy__keeps_its_money_when_the_code_changes(node: Anvil, proxy: str, topics: int) -> None:
    first, second = [await deploy(node, name, *TOKEN) for name in ("CircleLikeToken", "PaxosLikeToken")]
    token, shop = await deploy_behind(node, proxy, first, *TOKEN), new_address()
    await token.act("mint", shop, UNIT)
    tx_hash = await upgrade(node, token, second)
    await evm.mine(node)
    (upgraded,) = token.events(await evm.wait_mined(node, tx_hash))
    assert (upgraded.name, upgraded.topics) == ("Upgraded", topics)
    assert upgraded.args == {"implementation": second.address}
    assert [await token.read(f, *a) for f, *a in (("symbol",), ("balanceOf", shop))] == ["USDC", UNIT]
    slot = {
        "UpgradeableProxy": "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc",  # EIP-1967
        "CircleLikeProxy": "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3",  # FiatTokenProxy
    }
    held = await node.rpc("eth_getStorageAt", "0x" + token.address.hex(), slot[proxy], "latest")
    assert bytes.fromhex(held[2:])[12:] == second.address


# -- what is no payment ------------------------------------------------------------------------------------------------


async def test_erc721__has_the_topic_of_erc20__and_one_more(node: Anvil) -> None:
    nft, shop = await deploy(node, "NonFungible", "USDC"), new_address()
    await nft.act("mint", me(node), 7)
    receipt = await nft.act("transferFrom", me(node), shop, 7)
    ((topic, _, _, token_id),) = raw_topics(receipt)
    assert (topic, int(token_id, 16)) == ("0x" + TRANSFER_TOPIC.hex(), 7)
    assert receipt["logs"][0]["data"] == "0x"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_odd_token__emits_any_log__nothing_moves(node: Anvil, count: int) -> None:
    token, shop = await funded(node, "OddToken"), new_address()
    topics = [TRANSFER_TOPIC, bytes(12) + me(node), bytes(12) + shop, keccak(text="fourth")][:count]
    receipt = await token.act("emitLog", topics, b"\1\2\3")
    assert raw_topics(receipt) == [["0x" + topic.hex() for topic in topics]]
    assert receipt["logs"][0]["data"] == "0x010203"
    assert await token.read("balanceOf", shop) == 0


# -- what is asked before money is believed ----------------------------------------------------------------------------


async def test_price_feed__answers_what_it_was_told__or_reverts(node: Anvil) -> None:
    feed = await deploy(node, "PriceFeed", "USDC / USD", 8, 99_990_000)
    head = await evm.head(node)
    assert await feed.read("decimals") == 8
    now = int(head.time.timestamp())
    assert await feed.read("latestRoundData") == (1, 99_990_000, now, now, 1)
    await feed.act("set", -5, now - 90_000)
    assert await feed.read("latestRoundData") == (2, -5, now - 90_000, now - 90_000, 2)
    await feed.act("setBroken", True)
    with pytest.raises(AnvilCallError):
        await feed.read("latestRoundData")


async def test_sanctions_list__knows_its_addresses__or_reverts(node: Anvil) -> None:
    oracle, (bad, good) = await deploy(node, "SanctionsList"), two()
    assert oracle.call_data("isSanctioned", bad)[:4].hex() == "df592f7d"
    added = oracle.events(await oracle.act("addToSanctionsList", [bad]))
    assert (told(added), added[0].args) == ([("SanctionedAddressesAdded", 1)], {"addrs": [bad]})
    assert [await oracle.read("isSanctioned", who) for who in (bad, good)] == [True, False]
    removed = oracle.events(await oracle.act("removeFromSanctionsList", [bad]))
    assert told(removed) == [("SanctionedAddressesRemoved", 1)]
    assert await oracle.read("isSanctioned", bad) is False
    await oracle.act("setBroken", True)
    with pytest.raises(AnvilCallError):
        await oracle.read("isSanctioned", good)


def two() -> tuple[Address, Address]:
    return new_address(), new_address()


async def fails(contract: Contract, function: str, *args: object) -> bool:
    """Whether a transaction of the first account is mined and reverted."""
    tx_hash = await contract.send(function, *args)
    await evm.mine(contract.node)
    receipt = await evm.receipt(contract.node, tx_hash)
    assert receipt is not None, "it was mined"
    return bool(receipt["status"] == "0x0" and receipt["logs"] == [])
