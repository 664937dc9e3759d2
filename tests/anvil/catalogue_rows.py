"""The catalogue: what attackers, issuers, wallets and mistakes do on chain that a matcher sees, a row each, and what
must come of it. How a row is played: `catalogue_world`.

`C` is a hazard of the catalogue of attacks and accidents, `E` a rule of the matcher about events, `R` a section of
RULES.md. Rows need nothing but matching by `address` and by `amount`.
"""

from __future__ import annotations

from eth_utils.crypto import keccak

from chains.model import Address
from contracts_abi import TRANSFER_TOPIC
from settler.domain.invoices import Match
from tests.anvil.catalogue_world import SHORT_S, Ask, Came, Case, Owed, Row, Shelf
from tests.anvil.contracts import (
    GAS,
    Contract,
    EscrowPayment,
    account,
    cancellation,
    deploy,
    deploy_wallet,
    impersonate,
)
from tests.support import evm
from tests.support.daemon import new_address

SYSTEM = Address(bytes.fromhex("ff" * 19 + "fe"))
"""Who will tell of moved ether, with logs like a token's: https://eips.ethereum.org/EIPS/eip-7708"""
SHELF = Shelf(
    tokens={
        "USDC": ("CircleLikeToken", 6),
        "PYUSD": ("PaxosLikeToken", 6),
        "USDT": ("TetherLikeToken", 6),
        "USDF": ("TetherLikeToken", 6),  # whose fee is switched on
        "NOTE": ("ReferenceToken", 6),
        "EURE": ("BackingToken", 6),
        "DAI": ("BackingToken", 18),
        "REB": ("RebasingToken", 6),
        "OLD": ("FalseReturnToken", 6),
        "ODD": ("OddToken", 6),
        "NFT": ("NonFungible", 0),
    },
    reconciled=("USDC", "USDT", "REB", "NFT"),
)
SETTLED = Owed(status="settled", received="100.00", settled="100.00")
UNPAID = Owed(status="pending")


# -- plain payments ----------------------------------------------------------------------------------------------------


async def pays(case: Case) -> None:
    await case.pay("100")


async def pays_40(case: Case) -> None:
    await case.pay("40")


async def pays_60(case: Case) -> None:
    await case.pay("60")


async def pays_dust(case: Case) -> None:
    await case.pay(1)


async def pays_too_much(case: Case) -> None:
    await case.pay("101.5")


async def pays_in_two_parts(case: Case) -> None:
    await case.pay("40")
    await case.pay("60")


async def pays_euros(case: Case) -> None:
    await case.pay("100", token="EURE")


async def pays_with_six_decimals_where_18_are_due(case: Case) -> None:
    await case.pay(100 * 10**6, token="DAI")


async def pays_with_18_decimals(case: Case) -> None:
    await case.pay("100", token="DAI")


async def pays_60_in_one_and_40_in_another(case: Case) -> None:
    await case.pay("60")
    await case.pay("40", token="DAI")


# -- what is no payment ------------------------------------------------------------------------------------------------


def transfer_topics(sender: Address, recipient: Address) -> list[bytes]:
    return [TRANSFER_TOPIC, bytes(12) + sender, bytes(12) + recipient]


async def emits_a_transfer_that_is_none(case: Case) -> None:
    amount = case.units("100").to_bytes(32)
    await case.send(case.contract("forger"), "emitLog", transfer_topics(case.me, case.to()), amount)


async def emits_logs_of_every_other_form(case: Case) -> None:
    """Of a configured token: Transfers with one, two and four topics."""
    topics, amount = transfer_topics(case.me, case.to()), case.units("100").to_bytes(32)
    odd = case.contract("ODD")
    await case.send(odd, "emitLog", topics[:1], topics[1] + topics[2] + amount)
    await case.send(odd, "emitLog", topics[:2], topics[2] + amount)
    await case.send(odd, "emitLog", [*topics, amount], b"")
    await case.send(odd, "emitLog", [*topics, bytes(32)], amount)


async def emits_ether_as_a_token(case: Case) -> None:
    """EIP-7708's system address, played by a contract put there."""
    node = case.market.node
    code = await node.rpc("eth_getCode", "0x" + case.contract("forger").address.hex(), "latest")
    await node.rpc("anvil_setCode", "0x" + SYSTEM.hex(), code)
    system = Contract(node=node, name="OddToken", address=SYSTEM)
    await case.send(system, "emitLog", transfer_topics(case.me, case.to()), case.units("100").to_bytes(32))


async def sends_a_collectible(case: Case) -> None:
    nft = case.contract("NFT")
    token_id = int.from_bytes(keccak(text=case.row.name)[:4])
    await case.send(nft, "mint", case.me, token_id)
    await case.send(nft, "transferFrom", case.me, case.to(), token_id)


async def pays_counterfeits(case: Case) -> None:
    counterfeit = case.contract("counterfeit")
    await case.send(counterfeit, "mint", case.me, case.units("100"))
    await case.send(counterfeit, "transfer", case.to(), case.units("100"))


async def is_told_false(case: Case) -> None:
    await case.send(case.contract("OLD"), "transfer", case.to(), case.units("100", "OLD"))


async def lacks_the_money(case: Case) -> None:
    await case.send(case.contract("USDC"), "transfer", case.to(), case.units("100"), succeeds=False)


async def is_poisoned(case: Case) -> None:
    """A stranger moves nothing, in the payer's name."""
    await case.send(case.contract("USDC"), "transferFrom", case.me, case.to(), 0, by=await case.stranger())


async def is_poisoned_and_pays(case: Case) -> None:
    await is_poisoned(case)
    await case.mine()
    await pays(case)


async def sends_to_itself(case: Case) -> None:
    """The recipient has ten, and sends them from itself to itself."""
    await case.pay("10")
    await case.mine()
    await impersonate(case.market.node, case.to())
    case.payers |= {case.me, case.to()}
    await case.send(case.contract("USDC"), "transfer", case.to(), case.units("10"), by=case.to())


async def pays_the_guard(case: Case) -> None:
    """Tempo's receive policies: the transaction succeeds, and the money goes to another."""
    await case.pay("100", to=new_address())


# -- tokens that pay in their own way ----------------------------------------------------------------------------------


async def pays_less_its_fee(case: Case) -> None:
    await case.send(case.contract("USDF"), "setParams", 100, 10**12)
    await case.pay("100", token="USDF")


async def pays_its_fee_too(case: Case) -> None:
    await case.send(case.contract("USDF"), "setParams", 100, 10**12)
    await case.pay(101_010_102, token="USDF")  # 100 after a fee of 1 %, rounded up


async def pays_in_a_token_that_returns_nothing(case: Case) -> None:
    await case.pay("100", token="USDT")


async def pays_through_a_deprecated_token(case: Case) -> None:
    """Its successor, which is not configured, moves the money and says so."""
    old = await deploy_deprecated(case)
    await case.send(case.contract("successor"), "mint", case.me, case.units("100"))
    await case.send(old, "transfer", case.to(), case.units("100"))


async def deploy_deprecated(case: Case) -> Contract:
    """The configured USDF is taken: rows with a fee are done before, in phase 0."""
    old = case.contract("USDF")
    await case.send(old, "deprecate", case.contract("successor").address)
    return old


async def pays_in_a_rebasing_token(case: Case) -> None:
    await case.pay("100", token="REB")


async def grows(case: Case) -> None:
    await case.send(case.contract("REB"), "rebase", 10_100)


async def is_frozen(case: Case) -> None:
    await case.send(case.contract("USDC"), "blacklist", case.to())


async def is_wiped(case: Case) -> None:
    usdt = case.contract("USDT")
    await case.send(usdt, "addBlackList", case.to())
    await case.send(usdt, "destroyBlackFunds", case.to())


# -- one movement, told twice ------------------------------------------------------------------------------------------


async def pays_with_a_memo(case: Case) -> None:
    note = await case.fill("NOTE")
    await case.send(note, "transferWithMemo", case.to(), case.units("100"), keccak(text="of nobody"))


async def pays_with_a_reference_of_nobody(case: Case) -> None:
    note = await case.fill("NOTE")
    await case.send(note, "transfer", case.to(), case.units("100"), keccak(text="of nobody"))


async def pays_through_the_front(case: Case) -> None:
    euros = await case.fill("EURE")
    front = await deploy(case.market.node, "TokenFrontend", euros)
    await case.send(front, "transfer", case.to(), case.units("100"))


# -- money that comes from nobody, or by another's hand ----------------------------------------------------------------


async def is_minted(case: Case) -> None:
    """A bridge's way to pay: CCTP, USDT0."""
    case.payers.add(Address(bytes(20)))
    await case.send(case.contract("USDC"), "mint", case.to(), case.units("100"), by=await case.stranger())


async def is_minted_less_a_fee(case: Case) -> None:
    """CCTP V2 fast: the fee is a second mint, to another."""
    case.payers.add(Address(bytes(20)))
    bridge = await case.stranger()
    await case.send(case.contract("USDC"), "mint", case.to(), case.units("99.99"), by=bridge)
    await case.send(case.contract("USDC"), "mint", new_address(), case.units("0.01"), by=bridge)


async def pays_from_a_safe(case: Case) -> None:
    usdc, relayer = case.contract("USDC"), await case.stranger()
    wallet = await deploy_wallet(case.market.node, account(f"{case.row.name} owner"))
    case.payers.add(wallet.address)
    await case.send(usdc, "mint", wallet.address, case.units("100"))
    await case.mine()
    signed = await wallet.signed(usdc, "transfer", case.to(), case.units("100"))
    await case.send(wallet.account, "execTransaction", *signed, by=relayer)


async def fails_inside_a_safe(case: Case) -> None:
    wallet = await deploy_wallet(case.market.node, account(f"{case.row.name} owner"))
    signed = await wallet.signed(case.contract("USDC"), "transfer", case.to(), case.units("100"))
    await case.send(wallet.account, "execTransaction", *signed)


async def pays_in_a_bundle_where_another_fails(case: Case) -> None:
    """Two accounts, one transaction of a bundler's: the first has no money."""
    usdc, entry, bundler = case.contract("USDC"), case.contract("BundlerEntry"), await case.stranger()
    poor, rich = [
        await deploy_wallet(case.market.node, account(f"{case.row.name} {who}"), entry) for who in ("poor", "rich")
    ]
    case.payers.add(rich.address)
    await case.send(usdc, "mint", rich.address, case.units("100"))
    await case.mine()
    operations = [
        await wallet.operation(usdc, "transfer", case.to(ask), case.units("100"))
        for ask, wallet in enumerate((poor, rich))
    ]
    await case.send(entry, "handleOps", operations, by=bundler)


async def pays_by_two_hops(case: Case) -> None:
    """Tempo's virtual addresses: to one of them, and on to its master, in one transaction."""
    usdc, entry = case.contract("USDC"), case.contract("BundlerEntry")
    payer, virtual = [
        await deploy_wallet(case.market.node, account(f"{case.row.name} {who}"), entry) for who in ("payer", "virtual")
    ]
    case.payers.add(virtual.address)
    await case.send(usdc, "mint", payer.address, case.units("100"))
    await case.mine()
    hops = [
        await payer.operation(usdc, "transfer", virtual.address, case.units("100")),
        await virtual.operation(usdc, "transfer", case.to(), case.units("100")),
    ]
    await case.send(entry, "handleOps", hops, by=await case.stranger())


async def is_paid_out_in_a_batch(case: Case) -> None:
    """An exchange's payout: two payments to one address and one to another, in one transaction."""
    usdc, batch = case.contract("USDC"), case.contract("BatchPayout")
    case.payers.add(batch.address)
    await case.send(usdc, "mint", batch.address, case.units("200"))
    to, amounts = [case.to(0), case.to(1), case.to(0)], [case.units(amount) for amount in ("50", "100", "50")]
    await case.send(batch, "payout", usdc, to, amounts)


async def pays_by_a_signature_a_stranger_sends_in(case: Case) -> None:
    """Whoever sees a signed payment may send it in first: the facilitator's own attempt fails, the merchant is paid."""
    usdc = await case.fill()
    await case.mine()
    signed = case.signed("100", keccak(text=case.row.name)).arguments(usdc)
    await case.send(usdc, "transferWithAuthorization", *signed, by=await case.stranger())
    await case.mine()
    await case.send(usdc, "transferWithAuthorization", *signed, by=await case.stranger(), succeeds=False)


async def takes_its_signature_back(case: Case) -> None:
    usdc, nonce = await case.fill(), keccak(text=case.row.name)
    await case.send(usdc, "cancelAuthorization", *cancellation(case.payer, nonce, usdc))
    await case.mine()
    signed = case.signed("100", nonce).arguments(usdc)
    await case.send(usdc, "transferWithAuthorization", *signed, by=await case.stranger(), succeeds=False)


async def sends_a_used_signature_once_more(case: Case) -> None:
    """Paxos' batch skips it: the second transaction succeeds, and moves nothing."""
    pyusd = await case.fill("PYUSD")
    signed = case.signed("40", keccak(text=case.row.name), token="PYUSD").in_batch(pyusd)
    await case.send(pyusd, "transferWithAuthorizationBatch", [signed])
    await case.send(pyusd, "transferWithAuthorizationBatch", [signed])


# -- other people's contracts ------------------------------------------------------------------------------------------


async def through_the_proxy(case: Case, reference: bytes, *, token: str = "USDC", by: str = "ERC20FeeProxy") -> None:
    """100 to the first invoice's address and 1 to an agent."""
    contract, proxy = case.contract(token), case.contract(by)
    await case.send(contract, "mint", case.me, case.units("101"))
    await case.send(contract, "approve", proxy.address, case.units("101"))
    terms = (contract, case.to(), case.units("100"), reference, case.units("1"), new_address())
    await case.send(proxy, "transferFromWithReferenceAndFee", *terms)


async def pays_through_the_proxy(case: Case) -> None:
    await through_the_proxy(case, b"of nobody")


async def pays_junk_through_the_proxy(case: Case) -> None:
    await through_the_proxy(case, b"of nobody", token="counterfeit")


def escrow_terms(case: Case, receiver: Address) -> EscrowPayment:
    """A payment of up to 100 of the payer, who is the operator too."""
    return EscrowPayment(
        operator=case.me,
        payer=case.me,
        receiver=receiver,
        token=case.contract("USDC").address,
        max_amount=case.units("100"),
        fee_receiver=evm.address_of(account("agent")),
        salt=int.from_bytes(keccak(text=case.row.name)),
    )


async def approved(case: Case, escrow: str = "CommerceEscrow") -> EscrowPayment:
    """The terms, once the payer has the money and lets the escrow take it."""
    usdc = await case.fill()
    await case.send(usdc, "approve", case.contract(escrow).address, case.units("200"))
    return escrow_terms(case, case.to())


async def authorizes(case: Case) -> EscrowPayment:
    terms = await approved(case)
    await case.send(case.contract("CommerceEscrow"), "authorize", terms.info, case.units("100"), gas=4 * GAS)
    return terms


async def from_the_store(case: Case, escrow: str = "CommerceEscrow") -> None:
    """The payer that the records name is the escrow's purse."""
    await case.mine()
    case.payers.add(await case.contract(escrow).read("tokenStore", case.me))


async def only_authorizes(case: Case) -> None:
    await authorizes(case)


async def authorizes_and_voids(case: Case) -> None:
    terms = await authorizes(case)
    await case.send(case.contract("CommerceEscrow"), "void", terms.info)


async def captures_less_a_fee(case: Case) -> None:
    terms = await authorizes(case)
    await case.send(case.contract("CommerceEscrow"), "capture", terms.info, case.units("100"), 100, terms.fee_receiver)
    await from_the_store(case)


async def captures_in_two_parts(case: Case) -> None:
    terms = await authorizes(case)
    for part in ("30", "70"):
        await case.send(case.contract("CommerceEscrow"), "capture", terms.info, case.units(part), 0, terms.fee_receiver)
    await from_the_store(case)


async def charges_and_refunds(case: Case) -> None:
    """The refund is of the operator's own money: what the shop was paid, it has."""
    terms, escrow = await approved(case), case.contract("CommerceEscrow")
    await case.send(escrow, "charge", terms.info, case.units("100"), 0, terms.fee_receiver, gas=4 * GAS)
    await case.send(escrow, "refund", terms.info, case.units("100"))
    await from_the_store(case)


# -- shared addresses --------------------------------------------------------------------------------------------------


async def pays_the_second_of_three(case: Case) -> None:
    await case.pay(case.due(1))


async def pays_the_round_price(case: Case) -> None:
    await case.pay("100")


async def pays_the_first_again(case: Case) -> None:
    await case.pay(case.due(0))


ROWS = (
    # what every shop sees
    Row(name="exact", source="R4", does=(pays,), owed=(SETTLED,), came=(Came(amount="100"),)),
    Row(
        name="two parts",
        source="R4",
        does=(pays_in_two_parts,),
        owed=(SETTLED,),
        came=(Came(amount="40"), Came(amount="60")),
    ),
    Row(
        name="parts in two tokens of 6 and 18 decimals",
        source="R4",
        asks=(Ask(tokens=("USDC", "DAI")),),
        does=(pays_60_in_one_and_40_in_another,),
        owed=(SETTLED,),
        came=(Came(amount="60"), Came(amount="40", token="DAI")),
    ),
    Row(
        name="dust",
        source="C5",
        does=(pays_dust,),
        owed=(Owed(status="pending", received="0.000001"),),
        came=(Came(amount="0.000001"),),
    ),
    Row(
        name="too much",
        source="C5",
        does=(pays_too_much,),
        owed=(Owed(status="settled", received="101.50", settled="100.00", exceptions=("overpaid",)),),
        came=(Came(amount="101.5"),),
        surplus="1.5",
    ),
    Row(
        name="too little, until it expires",
        source="C5",
        asks=(Ask(expires_in_s=SHORT_S),),
        does=(pays_40,),
        owed=(Owed(status="expired", received="40.00", exceptions=("underpaid",)),),
        came=(Came(amount="40"),),
    ),
    Row(
        name="the recipient to itself",
        source="C5",
        does=(sends_to_itself,),
        owed=(Owed(status="pending", received="10.00"),),
        came=(Came(amount="10"), Came(amount="10", where="ignored_zero")),
    ),
    Row(
        name="after it was settled",
        source="R4",
        does=(pays, pays_40),
        owed=(SETTLED,),
        came=(Came(amount="100"), Came(amount="40", where="surplus")),
    ),
    Row(
        name="too late, while it is monitored",
        source="C19",
        asks=(Ask(expires_in_s=SHORT_S),),
        does=(None, pays),
        owed=(Owed(status="expired", received="100.00", exceptions=("late", "on_hold")),),
        came=(Came(amount="100"),),
        holds=("late",),
    ),
    Row(
        name="the rest too late",
        source="C19",
        asks=(Ask(expires_in_s=SHORT_S),),
        does=(pays_40, pays_60),
        owed=(Owed(status="expired", received="100.00", exceptions=("late", "on_hold")),),
        came=(Came(amount="40"), Came(amount="60")),
        holds=("late",),
    ),
    Row(
        name="later than it is monitored",
        source="C19",
        asks=(Ask(expires_in_s=SHORT_S),),
        does=(None, None, pays),
        owed=(Owed(status="expired"),),
        came=(Came(amount="100", where="late"),),
    ),
    Row(
        name="another configured token",
        source="R3",
        does=(pays_euros,),
        owed=(UNPAID,),
        came=(Came(amount="100", where="wrong_asset", token="EURE"),),
    ),
    Row(
        name="one address of two open invoices",
        source="R3",
        asks=(Ask(to="both"), Ask(to="both")),
        does=(pays,),
        owed=(UNPAID, UNPAID),
        came=(Came(amount="100", where="ambiguous"),),
    ),
    # shared addresses
    Row(
        name="amount: the second of three",
        source="R3",
        asks=tuple(Ask(to="till", match=Match.AMOUNT) for _ in range(3)),
        does=(pays_the_second_of_three,),
        owed=(UNPAID, Owed(status="settled", received="100.000002", settled="100.000002"), UNPAID),
        came=(Came(amount="100.000002"),),
    ),
    Row(
        name="amount: the round price",
        source="R3",
        asks=tuple(Ask(to="till", match=Match.AMOUNT) for _ in range(2)),
        does=(pays_the_round_price,),
        owed=(UNPAID, UNPAID),
        came=(Came(amount="100", where="wrong_amount"),),
    ),
    Row(
        name="amount: paid twice",
        source="R3",
        asks=tuple(Ask(to="till", match=Match.AMOUNT) for _ in range(2)),
        does=(pays_the_first_again, pays_the_first_again),
        owed=(Owed(status="settled", received="100.000001", settled="100.000001"), UNPAID),
        came=(Came(amount="100.000001"), Came(amount="100.000001", where="surplus")),
    ),
    # what is no payment
    Row(name="event of no token", source="C1", does=(emits_a_transfer_that_is_none,), owed=(UNPAID,)),
    Row(name="counterfeit with the same symbol", source="C2", does=(pays_counterfeits,), owed=(UNPAID,)),
    Row(
        name="transfer that answers false",
        source="C3",
        asks=(Ask(tokens=("OLD",)),),
        does=(is_told_false,),
        owed=(UNPAID,),
    ),
    Row(
        name="used authorization in a batch",
        source="C3 E3",
        asks=(Ask(tokens=("PYUSD",)),),
        does=(sends_a_used_signature_once_more,),
        owed=(Owed(status="pending", received="40.00"),),
        came=(Came(amount="40", token="PYUSD"),),
    ),
    Row(
        name="poisoning",
        source="C4",
        does=(is_poisoned,),
        owed=(UNPAID,),
        came=(Came(amount="0", where="ignored_zero"),),
    ),
    Row(
        name="poisoning, and then the payment",
        source="C4",
        does=(is_poisoned_and_pays,),
        owed=(SETTLED,),
        came=(Came(amount="0", where="ignored_zero"), Came(amount="100")),
    ),
    Row(name="failed transaction", source="C10", does=(lacks_the_money,), owed=(UNPAID,)),
    Row(
        name="logs of every other form",
        source="E1",
        asks=(Ask(tokens=("ODD",)),),
        does=(emits_logs_of_every_other_form,),
        owed=(UNPAID,),
    ),
    Row(
        name="collectible, configured as a token",
        source="E1",
        asks=(Ask(amount="1", tokens=("NFT",)),),
        does=(sends_a_collectible,),
        owed=(Owed(status="pending", received="0", settled="0"),),
        breaks=("balance",),
    ),
    Row(name="ether told of as a token", source="E10", does=(emits_ether_as_a_token,), owed=(UNPAID,)),
    Row(name="receive policy that sends it elsewhere", source="E8", does=(pays_the_guard,), owed=(UNPAID,)),
    # tokens that pay in their own way
    Row(
        name="six decimals where 18 are due",
        source="C6",
        asks=(Ask(tokens=("DAI",)),),
        does=(pays_with_six_decimals_where_18_are_due,),
        owed=(Owed(status="pending", received="0.0000000001"),),
        came=(Came(amount="0.0000000001", token="DAI"),),
    ),
    Row(
        name="18 decimals",
        source="C6",
        asks=(Ask(tokens=("DAI",)),),
        does=(pays_with_18_decimals,),
        owed=(SETTLED,),
        came=(Came(amount="100", token="DAI"),),
    ),
    Row(
        name="less the token's fee",
        source="C7",
        asks=(Ask(tokens=("USDF",)),),
        does=(pays_less_its_fee,),
        owed=(Owed(status="pending", received="99.00"),),
        came=(Came(amount="99", token="USDF"),),
    ),
    Row(
        name="and the token's fee",
        source="C7",
        asks=(Ask(tokens=("USDF",)),),
        does=(pays_its_fee_too,),
        owed=(Owed(status="settled", received="100.000001", settled="100.00", exceptions=("overpaid",)),),
        came=(Came(amount="100.000001", token="USDF"),),
        surplus="0.000001",
    ),
    Row(
        name="token that returns nothing",
        source="C7",
        asks=(Ask(tokens=("USDT",)),),
        does=(pays_in_a_token_that_returns_nothing,),
        owed=(SETTLED,),
        came=(Came(amount="100", token="USDT"),),
    ),
    Row(
        name="deprecated token whose successor tells",
        source="C8",
        asks=(Ask(tokens=("USDF",)),),
        does=(None, pays_through_a_deprecated_token),
        owed=(UNPAID,),
    ),
    Row(
        name="rebasing token",
        source="C7",
        asks=(Ask(tokens=("REB",)),),
        does=(pays_in_a_rebasing_token, grows),
        owed=(SETTLED,),
        came=(Came(amount="100", token="REB"),),
        breaks=("balance",),
    ),
    Row(
        name="frozen after it was settled",
        source="C18",
        does=(pays, is_frozen),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    Row(
        name="wiped after it was settled",
        source="C18",
        asks=(Ask(tokens=("USDT",)),),
        does=(pays_in_a_token_that_returns_nothing, is_wiped),
        owed=(SETTLED,),
        came=(Came(amount="100", token="USDT"),),
        breaks=("balance",),
    ),
    # one movement, told twice
    Row(
        name="memo beside the transfer",
        source="C9 E3",
        asks=(Ask(tokens=("NOTE",)),),
        does=(pays_with_a_memo,),
        owed=(SETTLED,),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="reference before the transfer",
        source="E3",
        asks=(Ask(tokens=("NOTE",)),),
        does=(pays_with_a_reference_of_nobody,),
        owed=(SETTLED,),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="front end that tells it again",
        source="C9 E3",
        asks=(Ask(tokens=("EURE",)),),
        does=(pays_through_the_front,),
        owed=(SETTLED,),
        came=(Came(amount="100", token="EURE"),),
    ),
    Row(
        name="two hops of one payment",
        source="C9 E8",
        does=(pays_by_two_hops,),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    # from nobody, or by another's hand
    Row(name="mint", source="E6", does=(is_minted,), owed=(SETTLED,), came=(Came(amount="100"),)),
    Row(
        name="mint less a bridge's fee",
        source="E6",
        does=(is_minted_less_a_fee,),
        owed=(Owed(status="pending", received="99.99"),),
        came=(Came(amount="99.99"),),
    ),
    Row(
        name="smart account and relayer",
        source="E2",
        does=(pays_from_a_safe,),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    Row(name="smart account whose call fails", source="E2 E9", does=(fails_inside_a_safe,), owed=(UNPAID,)),
    Row(
        name="bundle in which another fails",
        source="E2",
        asks=(Ask(), Ask()),
        does=(pays_in_a_bundle_where_another_fails,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100"),),
    ),
    Row(
        name="batch payout",
        source="C20 E7",
        asks=(Ask(), Ask()),
        does=(is_paid_out_in_a_batch,),
        owed=(SETTLED, SETTLED),
        came=(Came(amount="50"), Came(amount="100"), Came(amount="50")),
    ),
    Row(
        name="signed payment, sent in by a stranger",
        source="C26 E2",
        does=(pays_by_a_signature_a_stranger_sends_in,),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    Row(name="signed payment, taken back", source="C26 E3", does=(takes_its_signature_back,), owed=(UNPAID,)),
    # other people's contracts
    Row(
        name="fee proxy",
        source="E4",
        does=(pays_through_the_proxy,),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    Row(name="fee proxy with junk", source="E4", does=(pays_junk_through_the_proxy,), owed=(UNPAID,)),
    Row(name="escrow, authorized", source="E5", does=(only_authorizes,), owed=(UNPAID,)),
    Row(name="escrow, authorized and voided", source="E5", does=(authorizes_and_voids,), owed=(UNPAID,)),
    Row(
        name="escrow, captured less a fee",
        source="E5",
        does=(captures_less_a_fee,),
        owed=(Owed(status="pending", received="99.00"),),
        came=(Came(amount="99"),),
    ),
    Row(
        name="escrow, captured in two parts",
        source="E5",
        does=(captures_in_two_parts,),
        owed=(SETTLED,),
        came=(Came(amount="30"), Came(amount="70")),
    ),
    Row(
        name="escrow, charged and refunded by the operator",
        source="E5",
        does=(charges_and_refunds,),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
)
"""What works with nothing configured but tokens."""
