"""What the simulator itself knows: what chains hold, who was asked for what, who did what. The checkers hold the
program's records against this and nothing else.

Times are aware UTC and true: the world's, not that of a process whose clock jumped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chains.model import Address, BlockHash, BlockNumber, ChainId, Token
from chains.simulated_chain import SimBlock, SimulatedChain
from settler.domain.delivery import EndpointId
from settler.domain.events import EventType
from settler.domain.ids import EventId, InvoiceId
from settler.domain.invoices import Invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalityViolation:
    """A reorg that replaced final blocks."""

    at: datetime
    ancestor: BlockNumber
    """The highest block that stayed."""


@dataclass(slots=True, kw_only=True)
class ChainTruth:
    """One chain as it is."""

    name: str
    chain: SimulatedChain
    tokens: tuple[Token, ...]
    """Configured ones."""
    final_height: int
    """The highest block that was ever final by the configured policy (depth or tag); the world raises it with every
    block it mines. Ordinary forks stay above it."""
    begun: int | None = None
    """The block the daemon began behind: set once the chain's row has its first cursor."""
    violations: list[FinalityViolation] = field(default_factory=list)
    replaced: dict[BlockHash, SimBlock] = field(default_factory=dict)
    """Blocks that were final once and are gone: until the chain halts, records may rest on them."""

    @property
    def id(self) -> ChainId:
        return self.chain.id

    def break_finality(self, at: datetime, ancestor: BlockNumber) -> None:
        """To be called right before the reorg that leaves `ancestor`, below the final height, as the highest block."""
        assert ancestor < self.final_height, f"nothing above {ancestor} was final; {self.final_height} is the highest"
        for number in range(ancestor + 1, self.final_height + 1):
            block = self.chain.block_at(number)
            assert block is not None, f"block {number} is final and not in the chain"
            self.replaced[block.ref.hash] = block
        self.violations.append(FinalityViolation(at=at, ancestor=ancestor))


@dataclass(slots=True, kw_only=True)
class InvoiceTruth:
    """What was asked for. `invoice`: as it was answered to whoever created it."""

    invoice: Invoice
    created_at: datetime
    """When its creation was committed, or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What an operator or merchant did through the program and was told had worked."""

    at: datetime
    kind: str
    """`cancel`, `mark`, `hold` (object: invoice), `assign`, `dismiss`, `refund` (transfer), `release` (hold), `resume`
    (name of the chain), `enable` (endpoint)."""
    object_id: str
    details: Mapping[str, object] = field(default_factory=dict)
    """`invoice_id` of `assign` and `release`."""
    is_certain: bool = True
    """Whether it was told that it worked; else the answer was lost and it may or may not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator configured that decides about money."""

    tolerance_bps: int = 0
    """Basis points of the amount that may be missing."""
    tolerance_max: int = 0
    """What may be missing at most, in 10**-18 of the currency. The smaller counts."""
    accepts_late: bool = False
    """Late money settles; else it is held until somebody decides."""
    clocks_are_right: bool = True
    """No process's clock jumps: else unique amounts may be given out again too early, which ends in suspense."""


@dataclass(slots=True, kw_only=True)
class EndpointTruth:
    """A webhook endpoint as its owner knows it."""

    id: EndpointId
    merchant: str | None = None
    """Whose events it wants; `None`: all."""
    types: tuple[EventType, ...] = ()
    """Empty: all."""
    since_seq: int = 0
    """The newest event (`events.seq`) that was committed before the endpoint was."""
    processed: Counter[EventId] = field(default_factory=Counter)
    """How often its receiver took each event in, answered or not."""
    refused: Counter[EventId] = field(default_factory=Counter)
    """How often an attempt to tell it of each event ended without an answer of success."""
    was_disabled: bool = False
    """It answered 410 once, or an operator removed it: what it missed then, nobody owes it."""


@dataclass(slots=True, kw_only=True)
class Truth:
    chains: dict[str, ChainTruth] = field(default_factory=dict)
    invoices: dict[InvoiceId, InvoiceTruth] = field(default_factory=dict)
    watched: dict[Address, datetime] = field(default_factory=dict)
    """Since when transfers to an address have to be recorded."""
    actions: list[Action] = field(default_factory=list)
    rules: Rules = Rules()
    endpoints: dict[EndpointId, EndpointTruth] = field(default_factory=dict)
    now: datetime | None = None
    """True time of the look; set by the world before each check."""
