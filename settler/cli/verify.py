"""`settler settlement verify`: proves a settlement anew from its stored evidence, and by a node's word with `--rpc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli.failures import PROBLEM, USAGE, Failure
from settler.cli.node import Rpc, node_at, unreachable
from settler.cli.opened import with_database
from settler.cli.options import CONFIG, AsJson, Config
from settler.cli.text import Columns, Json, one_line, print_json, print_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from settler.config import Settings
    from settler.domain.ids import TransferId
    from settler.domain.records import Settlement
    from settler.stages.verifying import Verified, Word
    from settler.storage.engine import Database
    from settler.storage.evidence import SettledPayment

_COLUMNS: Columns = {
    "transfer": lambda p: p["transfer_id"],
    "chain": lambda p: p["chain"],
    "block": lambda p: p["block_number"],
    "tx hash": lambda p: p["tx_hash"],
    "amount": lambda p: p["amount"],
    "token": lambda p: p["token"],
    "proof": lambda p: p["proof"],
    "node": lambda p: p["node"].replace("_", " "),
    "result": lambda p: "ok" if p["is_verified"] else "wrong",
    "detail": lambda p: p["detail"],
}


def verify(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the settlement.")],
    rpc: Rpc = None,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> int:
    """Proves a settlement anew from its stored evidence, offline; with --rpc also by what that node shows."""

    async def work(_settings: Settings, db: Database) -> Json:
        settlement, payments = await _stored(db, id_)
        words = {} if rpc is None else await _asked(rpc, payments)
        return _outcome(settlement, payments, words, is_node_asked=rpc is not None)

    found = with_database(config, work)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0 if found["is_verified"] else PROBLEM


async def _stored(db: Database, id_: str) -> tuple[Settlement, Sequence[SettledPayment]]:
    from settler.domain.ids import SettlementId
    from settler.storage import evidence, settlements

    async with db.read() as conn:
        settlement = await settlements.get(conn, SettlementId(id_))
        if settlement is None:
            raise Failure(f"there is no settlement {id_!r}; see settler settlement list", code=USAGE)
        try:
            return settlement, await evidence.of_settlement(conn, settlement)
        except ValueError as error:
            raise Failure(f"{id_}: what is stored of its payments cannot be read: {error}") from error


async def _asked(rpc: str, payments: Sequence[SettledPayment]) -> Mapping[TransferId, Word]:
    """What the node says of those payments that are of its chain."""
    from chains.errors import ChainError
    from settler.stages.verifying import words

    chains = {payment.line.chain_id: payment.line.chain for payment in payments}
    async with node_at(rpc) as node:
        if node.chain_id not in chains:
            named = ", ".join(f"{id_} ({name})" for id_, name in sorted(chains.items()))
            raise Failure(
                f"--rpc {node.name} serves chain id {node.chain_id}, the payments are on {named}; give a node of that "
                "chain",
                code=USAGE,
            )
        try:
            return await words(node.reader, node.chain_id, payments)
        except ChainError as error:
            raise unreachable(node.name, error) from error


def _outcome(
    settlement: Settlement,
    payments: Sequence[SettledPayment],
    words: Mapping[TransferId, Word],
    *,
    is_node_asked: bool,
) -> dict[str, object]:
    from settler.domain.views import time_text
    from settler.stages.verifying import NOT_ASKED, contradictions, verified

    outcomes = [verified(payment, words.get(payment.line.transfer_id, NOT_ASKED)) for payment in payments]
    wrong = contradictions(settlement)
    reversal = settlement.reversal
    return {
        "settlement_id": settlement.id,
        "is_verified": not wrong and all(each.is_verified for each in outcomes),
        "contradictions": wrong,
        "payments": [_row(each, is_node_asked=is_node_asked) for each in outcomes],
        "reversal": None
        if reversal is None
        else {"id": reversal.id, "reason": reversal.reason, "reversed_at": time_text(reversal.reversed_at)},
    }


def _row(found: Verified, *, is_node_asked: bool) -> Json:
    from settler.domain.money import format_amount
    from settler.domain.views import hex_text
    from settler.stages.verifying import NodeSays, ProofSays

    line, stored = found.payment.line, found.payment.stored
    reasons = list(found.reasons)
    if is_node_asked and found.node is NodeSays.NOT_ASKED:
        reasons.append("verified offline only: the node is of another chain")
    if found.proof is ProofSays.MISSING and found.node is NodeSays.NOT_ASKED:
        reasons.append(f"ask a node of {line.chain} with --rpc URL")
    return {
        "transfer_id": line.transfer_id,
        "chain": line.chain,
        "chain_id": line.chain_id,
        "tx_hash": hex_text(line.tx_hash),
        "log_index": line.log_index,
        "block_number": line.block_number,
        "block_hash": hex_text(line.block_hash),
        "token": line.token,
        "amount": format_amount(line.amount_settled + line.amount_surplus, line.decimals),
        "sources": [] if stored is None else list(stored.evidence.sources),
        "proof": found.proof.value,
        "node": found.node.value,
        "is_verified": found.is_verified,
        "detail": "; ".join(reasons) or None,
    }


def _print(found: Json) -> None:
    print_list(found["payments"], _COLUMNS, as_json=False, nothing="no payments")
    for wrong in found["contradictions"]:
        print(one_line(f"wrong: {wrong}"))
    if found["reversal"] is not None:
        reversal = found["reversal"]
        print(one_line(f"reversed at {reversal['reversed_at']}: {reversal['reason']}"))
    print(f"{found['settlement_id']}: {'verified' if found['is_verified'] else 'NOT verified'}")
