"""What a reading that is believed is turned into: final transfers with their evidence, bookings, decided invoices.

Shared by the second reading and by `rescan`, inside their transactions, with the chain's row locked. Whose reading is
believed, and where cursors stand, is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import SpanRead, TransferIdentity
from settler.domain.invoices import TransferRecord, TransferStatus
from settler.stages.assessing import Assessed, assess_invoices
from settler.stages.recording import Recorded, record
from settler.stages.setup import Judgement
from settler.storage import evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    recorded: Recorded
    assessed: Assessed


async def decide(
    conn: AsyncConnection,
    read: SpanRead,
    proofs: evidence.Evidence,
    judgement: Judgement,
    *,
    missing: Iterable[TransferRecord],
    known: Sequence[TransferRecord] = (),
    held: Mapping[TransferIdentity, TransferRecord] | None = None,
    now: datetime,
) -> Decided:
    """Makes final what the span holds, keeps what that rests on, and looks anew at the invoices concerned.

    `missing`: records that are orphaned unless the reading shows them. `known`: final ones that it shows where they
    stand, whose evidence is replaced by that of this reading. `held`: the records of all that it shows, where the
    caller has read them in this transaction.
    """
    recorded = await record(
        conn, read, status=TransferStatus.FINAL, missing=missing, policy=judgement.policy, now=now, known=held
    )
    await evidence.add(conn, [*recorded.finalized, *known], proofs, now=now)
    touched = recorded.touched | {t.invoice_id for t in known if t.invoice_id is not None}
    assessed = await assess_invoices(conn, touched, judgement, now=now, recorded=recorded)
    return Decided(recorded=recorded, assessed=assessed)
