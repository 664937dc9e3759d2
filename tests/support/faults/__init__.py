"""What a provider may do to us, by name: `RpcProxy.inject(FAULTS["5xx"], probability=0.3)`.

sending    the line, and what stands before the node
refusals   errors in providers' words, and replies to something else
heads      which blocks there are, and which are final
logs       what happened in them
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.faults.heads import HEADS
from tests.support.faults.logs import LOG_FAULTS
from tests.support.faults.model import Exchange, Fault, Harm
from tests.support.faults.refusals import REFUSALS
from tests.support.faults.sending import SENDING

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in (*SENDING, *REFUSALS, *HEADS, *LOG_FAULTS)}

__all__ = ["FAULTS", "Exchange", "Fault", "Harm"]
