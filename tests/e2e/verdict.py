"""What a daemon made of a chain, held against the chain itself: read from the node, past all that stands between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts_abi import TRANSFER_TOPIC
from tests.e2e.traffic import Traffic
from tests.support.daemon import Api, Json, due

Place = tuple[str, int, str, str, str, int]
"""Transaction, log index, block hash, token, recipient, base units."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    payments: int
    """Logs of the chain that pay an invoice's address."""
    settled: frozenset[str]
    """Ids of the invoices that were paid and are settled, once, with what was asked."""
    unsettled: frozenset[str]
    lost: Sequence[Place]
    """On the chain, and not recorded as final."""
    wrong: Sequence[str]
    """What ought not to be: invented, settled twice, settled without payment, undone, in suspense."""
    wrong_invoices: frozenset[str] = field(default_factory=frozenset)

    def check(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} things wrong: {self.wrong[:5]}"
        assert not self.lost, f"{len(self.lost)} payments not recorded: {self.lost[:5]}"
        assert not self.unsettled, f"{len(self.unsettled)} invoices paid and not settled: {sorted(self.unsettled)[:5]}"


async def judge(api: Api, traffic: Traffic, unpaid: Sequence[Json]) -> Verdict:
    """After the last block was decided. `unpaid`: invoices that nobody paid."""
    paid = {invoice["id"]: invoice for invoice in traffic.paid}
    on_chain = await _payments(traffic, [*traffic.paid, *unpaid])
    transfers = [t for t in await api.transfers() if t["status"] != "orphaned"]
    recorded = Counter(_place(t) for t in transfers if t["status"] == "final")
    wrong = [f"invented: {place}" for place in recorded - on_chain]
    wrong += [f"not final after all: {_place(t)}" for t in transfers if t["status"] != "final"]
    wrong += [
        f"in suspense for {t['reason']}: {_place(t)}"
        for t in transfers
        if t["allocation"] != "invoice" and t["token_address"].lower() != "0x" + traffic.other.hex()
    ]
    if (await api.chain())["halted"]:
        wrong.append("the chain is halted")
    wrong += [f"undone: {e['type']}" for e in await api.events() if e["type"].endswith(".reversed")]
    settlements = await api.every("/v1/settlements")
    of_invoice = Counter(s["invoice_id"] for s in settlements)
    guilty = {id_ for id_, count in of_invoice.items() if count > 1 or id_ not in paid}
    guilty |= {s["invoice_id"] for s in settlements if s["invoice_id"] in paid and not _is_right(s, paid, on_chain)}
    wrong += [f"settled wrongly: {id_}" for id_ in sorted(guilty)]
    told = Counter(e["data"]["id"] for e in await api.events() if e["type"] == "invoice.settled")
    wrong += [f"told {count} times to be settled: {id_}" for id_, count in told.items() if count > 1]
    statuses = {i["id"]: i["status"] for i in await api.every("/v1/invoices")}
    settled = frozenset(id_ for id_ in paid if statuses[id_] == "settled" and id_ not in guilty)
    return Verdict(
        payments=on_chain.total(),
        settled=settled,
        unsettled=frozenset(id_ for id_ in paid if statuses[id_] != "settled"),
        lost=list(on_chain - recorded),
        wrong=wrong,
        wrong_invoices=frozenset(guilty),
    )


def _is_right(settlement: Json, paid: dict[str, Json], on_chain: Counter[Place]) -> bool:
    """It settles what was asked, by payments that are on the chain."""
    invoice = paid[settlement["invoice_id"]]
    option = invoice["options"][0]
    real = {(tx, index, block) for tx, index, block, token, *_ in on_chain if token == option["token_address"].lower()}
    lines = [(line["tx_hash"], line["log_index"], line["block_hash"]) for line in settlement["payments"]]
    return bool(lines) and set(lines) <= real and settlement["amount_settled"] == option["amount"] and due(invoice) > 0


async def _payments(traffic: Traffic, invoices: Sequence[Json]) -> Counter[Place]:
    tokens = ["0x" + token.hex() for token in (traffic.token, traffic.other)]
    everything = {"fromBlock": "0x0", "toBlock": "latest", "address": tokens, "topics": ["0x" + TRANSFER_TOPIC.hex()]}
    addresses = {option["pay_to"].lower() for invoice in invoices for option in invoice["options"]}
    found: Counter[Place] = Counter()
    for log in await traffic.node.rpc("eth_getLogs", everything):
        to = "0x" + log["topics"][2][-40:]
        if to in addresses:
            place = (log["transactionHash"], int(log["logIndex"], 16), log["blockHash"], log["address"], to)
            found[(*place, int(log["data"], 16))] += 1
    return found


def _place(transfer: Json) -> Place:
    return (
        transfer["tx_hash"], transfer["log_index"], transfer["block_hash"], transfer["token_address"].lower(),
        transfer["pay_to"].lower(), int(transfer["amount_base"]),
    )  # fmt: skip
