"""Rows of the catalogue that an operator has to look at: what issuers do to a token or an address between a payment and
its finality, prices, and payers on a sanctions list. The payment is recorded and final; the invoice is held.

Tokens that a row pauses, upgrades or deprecates are that row's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from chains.model import Address
from tests.anvil.catalogue_world import MAX_AGE, Act, Ask, Came, Case, Owed, Row, Shelf
from tests.anvil.contracts import account, deploy_wallet, upgrade
from tests.support import evm
from tests.support.daemon import new_address

PAR = 10**8
"""A dollar, as feeds in dollars answer it: 8 decimals."""
PRICED = {
    **dict.fromkeys(("LEVEL", "STALE", "YOUNG", "MUTE", "GONE"), (8, PAR)),
    "FLOOR": (8, 98_500_000),
    "BELOW": (8, 98_499_999),
    "MINUS": (8, -PAR),
    "NULL": (8, 0),
    "FINE": (18, 10**18),
}
"""Tokens with a price feed each: its decimals, its answer."""
SHELF = Shelf(
    tokens={
        "USDC": ("CircleLikeToken", 6),
        "PAUSED": ("CircleLikeToken", 6),
        "RESUMED": ("CircleLikeToken", 6),
        "USDT": ("TetherLikeToken", 6),
        "OLDT": ("TetherLikeToken", 6),
        "EIP1967": ("UpgradeableProxy", 6),
        "CIRCLE": ("CircleLikeProxy", 6),
        "PARTS": ("UpgradeableProxy", 6),
        **dict.fromkeys(PRICED, ("BackingToken", 6)),
    },
    reconciled=("USDT",),
    priced=PRICED,
    screens_payers=True,
)
SETTLED = Owed(status="settled", received="100.00", settled="100.00")
HELD = Owed(status="processing", received="100.00", exceptions=("on_hold",))


async def pays(case: Case) -> None:
    await case.pay("100", token=case.row.asks[0].tokens[0])


def then(*acts: Callable[[Case], Awaitable[None]]) -> Act:
    """One act after the other, each in a later block."""

    async def act(case: Case) -> None:
        for each in acts:
            await each(case)
            await case.mine()

    return act


def calls(function: str, *args: object, of: str = "") -> Act:
    """A call of the row's token, or of the contract named `of`."""

    async def act(case: Case) -> None:
        await case.send(case.contract(of or case.row.asks[0].tokens[0]), function, *args)

    return act


# -- what issuers do ---------------------------------------------------------------------------------------------------


async def freezes_the_shop(case: Case) -> None:
    await case.send(case.contract("USDC"), "blacklist", case.to())


async def thaws_the_shop(case: Case) -> None:
    await case.send(case.contract("USDC"), "unBlacklist", case.to())


async def freezes_somebody_else(case: Case) -> None:
    await case.send(case.contract("USDC"), "blacklist", new_address())


async def blacklists_the_shop(case: Case) -> None:
    await case.send(case.contract("USDT"), "addBlackList", case.to())


async def blacklists_and_wipes_the_shop(case: Case) -> None:
    await blacklists_the_shop(case)
    await case.send(case.contract("USDT"), "destroyBlackFunds", case.to())


async def is_upgraded(case: Case) -> None:
    tx_hash = await upgrade(case.market.node, case.contract(case.row.asks[0].tokens[0]), case.contract("new code"))
    case.sent[tx_hash] = True


async def is_deprecated(case: Case) -> None:
    await case.send(case.contract("OLDT"), "deprecate", case.contract("successor").address)


async def pays_40(case: Case) -> None:
    await case.pay("40", token="PARTS")


async def pays_60(case: Case) -> None:
    await case.pay("60", token="PARTS")


# -- prices ------------------------------------------------------------------------------------------------------------


def priced(answer: int, *, aged: timedelta) -> Act:
    """The feed of the row's token answers this, of that age when the payment is made."""

    async def act(case: Case) -> None:
        updated_at = (await evm.head(case.market.node)).time - aged
        await case.send(case.market.feeds[case.row.asks[0].tokens[0]], "set", answer, int(updated_at.timestamp()))

    return act


async def feed_reverts(case: Case) -> None:
    await case.send(case.market.feeds["MUTE"], "setBroken", True)


async def feed_is_gone(case: Case) -> None:
    await case.market.node.rpc("anvil_setCode", "0x" + case.market.feeds["GONE"].address.hex(), "0x")


# -- payers ------------------------------------------------------------------------------------------------------------


async def lists(case: Case, who: Address) -> None:
    await case.send(case.contract("SanctionsList"), "addToSanctionsList", [who])


async def is_listed(case: Case) -> None:
    await lists(case, case.me)


async def is_taken_off_the_list(case: Case) -> None:
    await case.send(case.contract("SanctionsList"), "removeFromSanctionsList", [case.me])


async def pays_from_a_listed_safe(case: Case) -> None:
    """Who sends the transaction in is on no list; whose money it is, is."""
    usdc, wallet = case.contract("USDC"), await deploy_wallet(case.market.node, account(f"{case.row.name} owner"))
    case.payers.add(wallet.address)
    await case.send(usdc, "mint", wallet.address, case.units("100"))
    await lists(case, wallet.address)
    await case.mine()
    signed = await wallet.signed(usdc, "transfer", case.to(), case.units("100"))
    await case.send(wallet.account, "execTransaction", *signed, by=await case.stranger())


async def two_pay_of_whom_one_is_listed(case: Case) -> None:
    other = await case.stranger()
    case.payers |= {case.me, other}
    await lists(case, other)
    await case.pay("60")
    await case.mine()
    await case.pay("40", by=other)


async def list_reverts(case: Case) -> None:
    await case.send(case.contract("SanctionsList"), "setBroken", True)


def row(
    name: str, source: str, act: Act, *, token: str = "USDC", holds: tuple[str, ...] = (), breaks: tuple[str, ...] = ()
) -> Row:
    """One payment of 100 that settles, or is held."""
    return Row(
        name=name,
        source=source,
        asks=(Ask(tokens=(token,)),),
        does=(act,),
        owed=(HELD if holds else SETTLED,),
        came=(Came(amount="100", token=token),),
        holds=holds,
        breaks=breaks,
    )


PAUSED, DEPEG, SANCTIONS = ("token_paused",), ("depeg",), ("sanctions",)

HOLD_ROWS = (
    # issuers
    row("paused", "C8", then(pays, calls("pause")), token="PAUSED", holds=PAUSED),
    row("paused and resumed", "C8", then(pays, calls("pause"), calls("unpause")), token="RESUMED"),
    row("shop frozen", "C18", then(pays, freezes_the_shop), holds=PAUSED),
    row("shop frozen and thawed", "C18", then(pays, freezes_the_shop, thaws_the_shop)),
    row("somebody else frozen", "C18", then(pays, freezes_somebody_else)),
    row("shop blacklisted", "C18", then(pays, blacklists_the_shop), token="USDT", holds=PAUSED),
    row(
        "shop blacklisted and wiped",
        "C18",
        then(pays, blacklists_and_wipes_the_shop),
        token="USDT",
        holds=PAUSED,
        breaks=("balance",),
    ),
    row("upgraded, indexed", "C8 E9", then(pays, is_upgraded), token="EIP1967", holds=PAUSED),
    row("upgraded, un-indexed", "C8 E9", then(pays, is_upgraded), token="CIRCLE", holds=PAUSED),
    row("deprecated", "C8", then(pays, is_deprecated), token="OLDT", holds=PAUSED),
    Row(
        name="upgraded between two parts",
        source="C8",
        asks=(Ask(tokens=("PARTS",)),),
        does=(pays_40, then(is_upgraded, pays_60)),
        owed=(HELD,),
        came=(Came(amount="40", token="PARTS"), Came(amount="60", token="PARTS")),
        holds=PAUSED,
    ),
    Row(
        name="frozen after it was settled, and still settled",
        source="C18",
        does=(pays, freezes_the_shop),
        owed=(SETTLED,),
        came=(Came(amount="100"),),
    ),
    # prices
    row("price at par", "R4", pays, token="LEVEL"),
    row("price at the floor", "R4", pays, token="FLOOR"),
    row("price of 18 decimals", "R4", pays, token="FINE"),
    row("price below the floor", "R4", pays, token="BELOW", holds=DEPEG),
    row("price below zero", "R4", pays, token="MINUS", holds=DEPEG),
    row("price of zero", "R4", pays, token="NULL", holds=DEPEG),
    row("price too old", "R4", then(priced(PAR, aged=2 * MAX_AGE), pays), token="STALE", holds=DEPEG),
    row("price old, not too old", "R4", then(priced(PAR, aged=MAX_AGE / 2), pays), token="YOUNG"),
    row("price feed that reverts", "R4", then(feed_reverts, pays), token="MUTE", holds=DEPEG),
    row("price feed that is gone", "R4", then(feed_is_gone, pays), token="GONE", holds=DEPEG),
    # payers
    row("payer on the list", "E12", then(is_listed, pays), holds=SANCTIONS),
    row("payer taken off the list", "E12", then(is_listed, is_taken_off_the_list, pays)),
    row("smart account on the list", "E2 E12", pays_from_a_listed_safe, holds=SANCTIONS),
    Row(
        name="a part from somebody on the list",
        source="E12",
        does=(two_pay_of_whom_one_is_listed,),
        owed=(HELD,),
        came=(Came(amount="60"), Came(amount="40")),
        holds=SANCTIONS,
    ),
    Row(
        name="list that reverts",
        source="E12",
        does=(None, None, then(list_reverts, pays)),
        owed=(HELD,),
        came=(Came(amount="100"),),
        holds=SANCTIONS,
    ),
)
