"""What a provider may do to us, by name: `provider.inject(FAULTS["5xx"], probability=0.3)`.

sending    the line, and what stands before the node
refusals   errors in providers' words, and replies to something else
heads      which blocks there are, and which are final
logs       what happened in them
injector   which of them strike a request

What does not belong here: carrying an answer. A test's proxy does it over HTTP, `chains.simulated_net` in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chains.faults.heads import HEADS
from chains.faults.injector import Injector
from chains.faults.logs import LOG_FAULTS
from chains.faults.model import End, Exchange, Fault, Harm, Sent
from chains.faults.refusals import REFUSALS
from chains.faults.sending import SENDING

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in (*SENDING, *REFUSALS, *HEADS, *LOG_FAULTS)}
REFUSALS_OF_BATCHES = ("batch refused", "error in HTTP 200", "refusal: fatal", "refusal: method unsupported")
"""A lasting error in the place of a whole batch is taken for a refusal of batches."""


def harm_beside(fault: Fault, others: Collection[str]) -> Harm:
    """What a reader may suffer from a fault of a provider that may have these others, by name, at any time while the
    same process runs: a refusal of batches is remembered for many requests.
    """
    return Harm.LIE if fault.is_seen_in_batches and any(o in others for o in REFUSALS_OF_BATCHES) else fault.harm


__all__ = ["FAULTS", "End", "Exchange", "Fault", "Harm", "Injector", "Sent", "harm_beside"]
