"""Rows of the catalogue for invoices that are found by an on-chain reference, or by who pays: at one shared address,
the till of each row. A label names a transfer of its own transaction, and only that; a known reference decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eth_utils.crypto import keccak

from chains.model import Address
from contracts_abi import TRANSFER_TOPIC
from contracts_abi.topics import (
    AUTHORIZATION_USED,
    PAYMENT_CAPTURED,
    PAYMENT_CHARGED,
    TRANSFER_REFERENCE,
    TRANSFER_WITH_MEMO,
    TRANSFER_WITH_REFERENCE_AND_FEE,
)
from settler.domain.invoices import Match
from tests.anvil.catalogue_rows import (
    SETTLED,
    UNPAID,
    approved,
    escrow_terms,
    from_the_store,
    pays,
    pays_40,
    through_the_proxy,
)
from tests.anvil.catalogue_world import LONG_S, SHORT_S, Ask, Came, Case, Owed, Row
from tests.anvil.contracts import GAS, Authorization, Wallet, account, deploy_wallet, impersonate
from tests.support import evm

SPOKEN = (
    AUTHORIZATION_USED,
    TRANSFER_REFERENCE,
    TRANSFER_WITH_MEMO,
    TRANSFER_WITH_REFERENCE_AND_FEE,
    PAYMENT_CHARGED,
    PAYMENT_CAPTURED,
    TRANSFER_TOPIC,
)
"""Topics that mean something beside a payment."""
USDC, NOTE, PYUSD, ODD = ("USDC",), ("NOTE",), ("PYUSD",), ("ODD",)


def reference(case: Case, which: int = 0) -> bytes:
    """The row's own, of 32 bytes: a nonce, a memo, an ERC-7699 reference."""
    return keccak(text=f"{case.row.name} {which}")


def short(case: Case) -> bytes:
    """As Request Network's are: 8 bytes."""
    return reference(case)[:8]


def asks_for(
    which: int = 0,
    *,
    tokens: tuple[str, ...] = USDC,
    expires_in_s: int = LONG_S,
    more: Callable[[Case, Address], Mapping[str, object]] | None = None,
) -> Ask:
    """By a reference at the row's till; the `which`-th of the row, or as `more` says."""
    said = more or (lambda case, _to: {"reference": reference(case, which)})
    return Ask(tokens=tokens, match=Match.REFERENCE, to="till", more=said, expires_in_s=expires_in_s)


TWO = (asks_for(0), asks_for(1))
TWO_NOTES = (asks_for(0, tokens=NOTE), asks_for(1, tokens=NOTE))
SHORTLY = (asks_for(more=lambda case, _to: {"reference": short(case)}), asks_for(1))
ESCROWED = (
    asks_for(more=lambda case, to: {"reference": escrow_terms(case, to).hash(case.contract("CommerceEscrow"))}),
    asks_for(1),
)
AT_THE_UNKNOWN_ESCROW = (
    asks_for(more=lambda case, to: {"reference": escrow_terms(case, to).hash(case.contract("unknown CommerceEscrow"))}),
)
FROM_ME = (asks_for(more=lambda case, _to: {"reference": reference(case), "payer": case.me}),)


# -- EIP-3009: the nonce -----------------------------------------------------------------------------------------------


async def sends_in(case: Case, given: Authorization, *, token: str = "USDC") -> None:
    """A payment that its payer signed, by a stranger."""
    contract = case.contract(token)
    signed = given.arguments(contract)
    await case.send(contract, "transferWithAuthorization", *signed, by=await case.stranger())


async def signs_for_the_second(case: Case) -> None:
    await case.fill()
    await case.mine()
    await sends_in(case, case.signed("100", reference(case, 1)))


async def signs_for_40(case: Case) -> None:
    await case.fill()
    await case.mine()
    await sends_in(case, case.signed("40", reference(case)))


async def signs_for_both_in_one_batch(case: Case) -> None:
    pyusd = await case.fill("PYUSD")
    batch = [case.signed("100", reference(case, n), token="PYUSD").in_batch(pyusd) for n in (1, 0)]
    await case.send(pyusd, "transferWithAuthorizationBatch", batch)


async def is_sent_in_twice_and_skipped(case: Case) -> None:
    pyusd = await case.fill("PYUSD")
    signed = case.signed("40", reference(case), token="PYUSD").in_batch(pyusd)
    await case.send(pyusd, "transferWithAuthorizationBatch", [signed])
    await case.send(pyusd, "transferWithAuthorizationBatch", [signed])


async def two_payers_use_one_nonce(case: Case) -> None:
    """60 of the payer's, 40 of another's: nonces are each payer's own."""
    other = account(f"{case.row.name} other")
    await impersonate(case.market.node, evm.address_of(other))
    case.payers |= {case.me, evm.address_of(other)}
    await case.fill()
    await case.fill(who=evm.address_of(other))
    await case.mine()
    await sends_in(case, case.signed("60", reference(case)))
    await case.mine()
    await sends_in(case, Authorization(payer=other, to=case.to(), value=case.units("40"), nonce=reference(case)))


# -- notes of the token's own ------------------------------------------------------------------------------------------


async def notes_for(case: Case, note: bytes, amount: str = "100") -> None:
    """ERC-7699."""
    await case.send(await case.fill("NOTE"), "transfer", case.to(), case.units(amount), note)


async def notes_for_the_second(case: Case) -> None:
    await notes_for(case, reference(case, 1))


async def notes_for_the_first(case: Case) -> None:
    await notes_for(case, reference(case))


async def notes_a_name_of_nobody(case: Case) -> None:
    await notes_for(case, keccak(text="of nobody"))


async def writes_a_memo(case: Case) -> None:
    await case.send(await case.fill("NOTE"), "transferWithMemo", case.to(), case.units("100"), reference(case, 1))


async def writes_an_empty_memo(case: Case) -> None:
    await case.send(await case.fill("NOTE"), "transferWithMemo", case.to(), case.units("100"), bytes(32))


# -- several calls in one transaction ----------------------------------------------------------------------------------


async def wallets(case: Case, count: int) -> list[Wallet]:
    """Accounts that are contracts, whose operations a bundler puts into one transaction."""
    entry = case.contract("BundlerEntry")
    owners = [account(f"{case.row.name} {number}") for number in range(count)]
    found = [await deploy_wallet(case.market.node, owner, entry) for owner in owners]
    case.payers |= {wallet.address for wallet in found}
    return found


async def bundled(case: Case, operations: list[tuple[object, ...]], *, gas: int = 4 * GAS) -> None:
    await case.send(case.contract("BundlerEntry"), "handleOps", operations, by=await case.stranger(), gas=gas)


async def writes_two_memos_of_one_amount(case: Case) -> None:
    note, senders = case.contract("NOTE"), await wallets(case, 2)
    for sender in senders:
        await case.send(note, "mint", sender.address, case.units("100"))
    await case.mine()
    await bundled(
        case,
        [
            await sender.operation(note, "transferWithMemo", case.to(), case.units("100"), reference(case, which))
            for sender, which in zip(senders, (1, 0), strict=True)
        ],
    )


async def names_two_invoices_at_once(case: Case) -> None:
    """A token that says of one movement that it is for both."""
    odd = case.contract("ODD")
    speaker, other, payer = await wallets(case, 3)
    case.payers -= {speaker.address, other.address}
    await case.send(odd, "mint", payer.address, case.units("100"))
    await case.mine()
    used = [AUTHORIZATION_USED, bytes(12) + payer.address, reference(case, 0)]
    await bundled(
        case,
        [
            await speaker.operation(odd, "emitLog", used, b""),
            await other.operation(odd, "emitLog", [TRANSFER_REFERENCE, reference(case, 1)], b""),
            await payer.operation(odd, "transfer", case.to(), case.units("100")),
        ],
    )


async def is_labelled_among_nonsense(case: Case) -> None:
    """Anybody's contract may emit the topics of labels with anything behind them, in the transaction of a payment."""
    note, forger = case.contract("NOTE"), case.contract("forger")
    payer, *speakers = await wallets(case, 1 + 2 * len(SPOKEN))
    case.payers = {payer.address}
    await case.send(note, "mint", payer.address, case.units("100"))
    await case.mine()
    word = b"\xff" * 32
    shapes = [([topic, *words], data) for topic in SPOKEN for words, data in (([word], b"\1" * 7), ([word] * 3, b""))]
    nonsense = [
        await speaker.operation(forger, "emitLog", topics, data)
        for speaker, (topics, data) in zip(speakers, shapes, strict=True)
    ]
    paid = await payer.operation(note, "transfer", case.to(), case.units("100"), reference(case, 1))
    await bundled(case, [*nonsense[:5], paid, *nonsense[5:]], gas=15 * GAS)


async def names_it_on_junk_beside_a_real_payment(case: Case) -> None:
    """The label is of a worthless token's movement; the payment in the same transaction has none."""
    usdc, junk, proxy = case.contract("USDC"), case.contract("counterfeit"), case.contract("ERC20FeeProxy")
    payer, forger, approver = await wallets(case, 3)
    case.payers -= {forger.address, approver.address}
    await case.send(usdc, "mint", payer.address, case.units("100"))
    await case.send(junk, "mint", forger.address, case.units("100"))
    await case.mine()
    approval = await forger.signed(junk, "approve", proxy.address, case.units("100"))
    await case.send(forger.account, "execTransaction", *approval)
    await case.mine()
    terms = (junk, case.to(), case.units("100"), short(case), 0, bytes(20))
    await bundled(
        case,
        [
            await payer.operation(usdc, "transfer", case.to(), case.units("100")),
            await forger.operation(proxy, "transferFromWithReferenceAndFee", *terms),
        ],
    )


# -- other people's contracts ------------------------------------------------------------------------------------------


async def requests(case: Case) -> None:
    await through_the_proxy(case, short(case))


async def requests_with_junk(case: Case) -> None:
    await through_the_proxy(case, short(case), token="counterfeit")


async def requests_by_an_unknown_proxy(case: Case) -> None:
    await through_the_proxy(case, short(case), by="unknown ERC20FeeProxy")


async def is_authorized_only(case: Case) -> None:
    terms = await approved(case)
    await case.send(case.contract("CommerceEscrow"), "authorize", terms.info, case.units("100"), gas=4 * GAS)


async def is_captured_in_parts(case: Case) -> None:
    await is_authorized_only(case)
    terms = escrow_terms(case, case.to())
    for part in ("30", "70"):
        await case.send(case.contract("CommerceEscrow"), "capture", terms.info, case.units(part), 0, terms.fee_receiver)
    await from_the_store(case)


async def is_captured_less_a_fee(case: Case) -> None:
    await is_authorized_only(case)
    terms = escrow_terms(case, case.to())
    await case.send(case.contract("CommerceEscrow"), "capture", terms.info, case.units("100"), 100, terms.fee_receiver)
    await from_the_store(case)


async def is_charged(case: Case, escrow: str = "CommerceEscrow") -> None:
    terms = await approved(case, escrow)
    await case.send(case.contract(escrow), "charge", terms.info, case.units("100"), 0, terms.fee_receiver, gas=4 * GAS)
    await from_the_store(case, escrow)


async def is_charged_by_an_unknown_escrow(case: Case) -> None:
    await is_charged(case, "unknown CommerceEscrow")


def pays_unlabelled(amount: str, where: str, token: str = "USDC") -> tuple[Came, ...]:
    return (Came(amount=amount, where=where, token=token),)


REFERENCE_ROWS = (
    Row(
        name="reference: the nonce of a signed payment",
        source="E3",
        asks=TWO,
        does=(signs_for_the_second,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100"),),
    ),
    Row(
        name="reference: a nonce and too little",
        source="E3",
        asks=TWO,
        does=(signs_for_40,),
        owed=(Owed(status="pending", received="40.00"), UNPAID),
        came=(Came(amount="40"),),
    ),
    Row(
        name="reference: two nonces in one batch",
        source="E3 E7",
        asks=(asks_for(0, tokens=PYUSD), asks_for(1, tokens=PYUSD)),
        does=(signs_for_both_in_one_batch,),
        owed=(SETTLED, SETTLED),
        came=(Came(amount="100", token="PYUSD"), Came(amount="100", token="PYUSD")),
    ),
    Row(
        name="reference: a used nonce is skipped",
        source="C3 E3",
        asks=(asks_for(0, tokens=PYUSD),),
        does=(is_sent_in_twice_and_skipped,),
        owed=(Owed(status="pending", received="40.00"),),
        came=(Came(amount="40", token="PYUSD"),),
    ),
    Row(
        name="reference: one nonce of two payers",
        source="E3",
        asks=(asks_for(0),),
        does=(two_payers_use_one_nonce,),
        owed=(SETTLED,),
        came=(Came(amount="60"), Came(amount="40")),
    ),
    Row(
        name="reference: one nonce of two payers, one of them expected",
        source="E3",
        asks=FROM_ME,
        does=(two_payers_use_one_nonce,),
        owed=(Owed(status="pending", received="60.00"),),
        came=(Came(amount="60"), Came(amount="40", where="no_invoice")),
    ),
    Row(
        name="reference: ERC-7699",
        source="E3",
        asks=TWO_NOTES,
        does=(notes_for_the_second,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="reference: of nobody",
        source="R3",
        asks=TWO_NOTES,
        does=(notes_a_name_of_nobody,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "no_invoice", "NOTE"),
    ),
    Row(
        name="reference: of nobody, at an address that is another's",
        source="R3",
        asks=(asks_for(0, tokens=NOTE), Ask(tokens=NOTE, to="till")),
        does=(notes_a_name_of_nobody,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="reference: none at all",
        source="R3",
        asks=TWO,
        does=(pays,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "no_invoice"),
    ),
    Row(
        name="reference: a memo, told of beside the transfer",
        source="C9 E3",
        asks=TWO_NOTES,
        does=(writes_a_memo,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="reference: an empty memo",
        source="E3",
        asks=TWO_NOTES,
        does=(writes_an_empty_memo,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "no_invoice", "NOTE"),
    ),
    Row(
        name="reference: two memos of one amount in one transaction",
        source="E7",
        asks=TWO_NOTES,
        does=(writes_two_memos_of_one_amount,),
        owed=(SETTLED, SETTLED),
        came=(Came(amount="100", token="NOTE"), Came(amount="100", token="NOTE")),
    ),
    Row(
        name="reference: two that name two invoices",
        source="R3",
        asks=(asks_for(0, tokens=ODD), asks_for(1, tokens=ODD)),
        does=(names_two_invoices_at_once,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "ambiguous", "ODD"),
    ),
    Row(
        name="reference: among nonsense",
        source="E3",
        asks=TWO_NOTES,
        does=(is_labelled_among_nonsense,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100", token="NOTE"),),
    ),
    Row(
        name="reference: of an invoice in another token",
        source="R3",
        asks=(asks_for(0),),
        does=(notes_for_the_first,),
        owed=(UNPAID,),
        came=pays_unlabelled("100", "wrong_asset", "NOTE"),
    ),
    Row(
        name="reference: of a settled invoice, at an address that is another's",
        source="R3",
        asks=(asks_for(0, tokens=NOTE), Ask(tokens=NOTE, to="till")),
        does=(notes_for_the_first, notes_for_the_first),
        owed=(SETTLED, UNPAID),
        came=(Came(amount="100", token="NOTE"), Came(amount="100", where="surplus", token="NOTE")),
    ),
    Row(
        name="reference: too late, while it is monitored",
        source="C19",
        asks=(asks_for(0, tokens=NOTE, expires_in_s=SHORT_S),),
        does=(None, notes_for_the_first),
        owed=(Owed(status="expired", received="100.00", exceptions=("late", "on_hold")),),
        came=(Came(amount="100", token="NOTE"),),
        holds=("late",),
    ),
    Row(
        name="reference: later than it is monitored",
        source="C19",
        asks=(asks_for(0, tokens=NOTE, expires_in_s=SHORT_S), Ask(tokens=NOTE, to="till")),
        does=(None, None, notes_for_the_first),
        owed=(Owed(status="expired"), UNPAID),
        came=pays_unlabelled("100", "late", "NOTE"),
    ),
    Row(
        name="reference: Request Network's, of which the log has the hash",
        source="E4",
        asks=SHORTLY,
        does=(requests,),
        owed=(SETTLED, UNPAID),
        came=(Came(amount="100"),),
    ),
    Row(
        name="reference: Request Network's, with junk",
        source="E4",
        asks=SHORTLY,
        does=(requests_with_junk,),
        owed=(UNPAID, UNPAID),
    ),
    Row(
        name="reference: on junk, beside a real payment",
        source="E4",
        asks=SHORTLY,
        does=(names_it_on_junk_beside_a_real_payment,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "no_invoice"),
    ),
    Row(
        name="reference: by a proxy nobody knows",
        source="E4",
        asks=SHORTLY,
        does=(requests_by_an_unknown_proxy,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "no_invoice"),
    ),
    Row(
        name="reference: escrow, authorized",
        source="E5",
        asks=ESCROWED,
        does=(is_authorized_only,),
        owed=(UNPAID, UNPAID),
    ),
    Row(
        name="reference: escrow, captured in two parts",
        source="E5",
        asks=ESCROWED,
        does=(is_captured_in_parts,),
        owed=(SETTLED, UNPAID),
        came=(Came(amount="30"), Came(amount="70")),
    ),
    Row(
        name="reference: escrow, captured less a fee",
        source="E5",
        asks=ESCROWED,
        does=(is_captured_less_a_fee,),
        owed=(Owed(status="pending", received="99.00"), UNPAID),
        came=(Came(amount="99"),),
    ),
    Row(
        name="reference: escrow, charged",
        source="E5",
        asks=ESCROWED,
        does=(is_charged,),
        owed=(SETTLED, UNPAID),
        came=(Came(amount="100"),),
    ),
    Row(
        name="reference: by an escrow nobody knows",
        source="E5",
        asks=AT_THE_UNKNOWN_ESCROW,
        does=(is_charged_by_an_unknown_escrow,),
        owed=(UNPAID,),
        came=pays_unlabelled("100", "no_invoice"),
    ),
)


# -- who pays ----------------------------------------------------------------------------------------------------------


def from_me(*, tokens: tuple[str, ...] = USDC) -> Ask:
    return Ask(tokens=tokens, match=Match.PAYER, to="till", more=lambda case, _to: {"payer": case.me})


def from_another() -> Ask:
    return Ask(match=Match.PAYER, to="till", more=lambda case, _to: {"payer": other(case)})


def other(case: Case) -> Address:
    return evm.address_of(account(f"{case.row.name} other"))


async def the_other_pays(case: Case) -> None:
    await impersonate(case.market.node, other(case))
    case.payers.add(other(case))
    await case.pay("100", by=other(case))


PAYER_ROWS = (
    Row(
        name="payer: the one of two that is expected",
        source="R3",
        asks=(from_me(), from_another()),
        does=(the_other_pays,),
        owed=(UNPAID, SETTLED),
        came=(Came(amount="100"),),
    ),
    Row(
        name="payer: nobody who is expected",
        source="R3",
        asks=(from_me(),),
        does=(the_other_pays,),
        owed=(UNPAID,),
        came=pays_unlabelled("100", "no_invoice"),
    ),
    Row(
        name="payer: another amount",
        source="R3",
        asks=(from_me(),),
        does=(pays_40,),
        owed=(UNPAID,),
        came=pays_unlabelled("40", "wrong_amount"),
    ),
    Row(
        name="payer: two invoices of one",
        source="R3",
        asks=(from_me(), from_me()),
        does=(pays,),
        owed=(UNPAID, UNPAID),
        came=pays_unlabelled("100", "ambiguous"),
    ),
    Row(
        name="payer: twice",
        source="R3",
        asks=(from_me(),),
        does=(pays, pays),
        owed=(SETTLED,),
        came=(Came(amount="100"), Came(amount="100", where="surplus")),
    ),
)
