"""The tables. Constraints have names and say why: idempotency is UNIQUE and ON CONFLICT, never a cache.

Written for SQLite and PostgreSQL alike; what differs is in `settler.storage.types`. Append-only tables are
kept so by triggers, made in the migrations (`settler.storage.migrations`), whose sum equals this module.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from settler.storage.types import Sequence64, Uint256, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _hash(name: str, **kw: object) -> Column[bytes]:
    return Column(name, LargeBinary(32), **{"nullable": False, **kw})  # type: ignore[arg-type]  # kw are Column's own


def _address(name: str, **kw: object) -> Column[bytes]:
    return Column(name, LargeBinary(20), **{"nullable": False, **kw})  # type: ignore[arg-type]  # kw are Column's own


chains = Table(
    "chains",
    metadata,
    Column("chain_id", BigInteger, nullable=False, autoincrement=False),
    Column("name", Text, nullable=False),
    # the first reading: blocks up to here were read by watch
    Column("scanned_number", BigInteger),
    _hash("scanned_hash", nullable=True),
    Column("scanned_time", UtcDateTime),
    # the second reading: blocks up to here are decided
    Column("settled_number", BigInteger),
    _hash("settled_hash", nullable=True),
    Column("settled_time", UtcDateTime),
    # what the nodes reported last
    Column("head_number", BigInteger),
    Column("head_time", UtcDateTime),
    Column("final_number", BigInteger),
    Column("final_time", UtcDateTime),
    # the tokens' own announcements (pauses, upgrades, freezes): read up to here
    Column("risks_number", BigInteger),
    Column("halted_at", UtcDateTime),
    Column("halt_reason", Text),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("chain_id"),
    # one name, one chain: a name pointed at another chain id is a mistake of configuration
    UniqueConstraint("name", name="uq_chains_name"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    _address("address"),
    Column("symbol", Text, nullable=False),
    Column("decimals", Integer, nullable=False),
    Column("currency", Text, nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    # decimals of an address never change: a mismatch with the configuration refuses the chain
    PrimaryKeyConstraint("chain_id", "address"),
    ForeignKeyConstraint(["chain_id"], ["chains.chain_id"]),
    CheckConstraint("decimals BETWEEN 0 AND 77", name="decimals"),
)

blocks = Table(
    "blocks",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    _hash("hash"),
    _hash("parent_hash"),
    Column("time", UtcDateTime, nullable=False),
    # the headers we hold above the settled height, to notice a fork and walk back; one a height
    PrimaryKeyConstraint("chain_id", "number"),
    ForeignKeyConstraint(["chain_id"], ["chains.chain_id"]),
)

watched_addresses = Table(
    "watched_addresses",
    metadata,
    _address("address"),
    Column("watched_since", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
    # an invoice expects an on-chain reference there: what is paid to it is read with the logs of its transaction
    Column("has_references", Boolean, nullable=False),
    # numbered by trigger: by the transaction that wrote the row last (PostgreSQL), or in order of writing (SQLite)
    Column("changed", BigInteger, nullable=False, server_default=text("0")),
    # on every chain at once: the same address pays on each, and money on the wrong one must be found
    PrimaryKeyConstraint("address"),
    # what changed since is read again and again (`settler.storage.watched`)
    Index("ix_watched_addresses_changed", "changed"),
)

invoices = Table(
    "invoices",
    metadata,
    Column("id", Text, nullable=False),
    Column("merchant", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("status", Text, nullable=False),
    # a set, written as " late overpaid ": one space around each, so that LIKE finds a member
    Column("exceptions", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", Uint256, nullable=False),
    Column("scale", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("monitoring_until", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("settlement_id", Text),
    Column("metadata", JSON, nullable=False),
    Column("version", Integer, nullable=False),
    # names its payment page: whoever has it may look, so it is drawn at random and is no id
    Column("pay_token", Text, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("pay_token", name="uq_invoices_pay_token"),
    # a merchant's reference names one invoice: creating it twice would ask a customer twice
    # (the reference first: an operator looks one up without knowing whose it is)
    UniqueConstraint("reference", "merchant", name="uq_invoices_merchant_reference"),
    CheckConstraint("status IN ('pending','processing','settled','expired','canceled','reversed')", name="status"),
    # I2: a settled invoice names the settlement it rests on
    CheckConstraint(
        "status <> 'settled' OR (settlement_id IS NOT NULL AND settled_at IS NOT NULL)",
        name="settled_has_settlement",
    ),
    # what may still expire, oldest first
    Index(
        "ix_invoices_open_expires_at",
        "expires_at",
        sqlite_where=text("status IN ('pending','processing')"),
        postgresql_where=text("status IN ('pending','processing')"),
    ),
    Index("ix_invoices_status", "status", "id"),
    Index("ix_invoices_merchant", "merchant", "id"),
)

invoice_options = Table(
    "invoice_options",
    metadata,
    Column("invoice_id", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("chain", Text, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    _address("token_address"),
    Column("decimals", Integer, nullable=False),
    _address("pay_to"),
    Column("match", Text, nullable=False),
    Column("amount_base", Uint256, nullable=False),
    Column("tail_base", Uint256, nullable=False),
    Column("from_block", BigInteger),
    # the on-chain reference that names the invoice, 8 to 32 bytes
    Column("reference", LargeBinary(32)),
    # the sender that is expected
    _address("payer", nullable=True),
    PrimaryKeyConstraint("invoice_id", "index"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    CheckConstraint("match IN ('address','amount','reference','payer')", name="match"),
    # the hot look-up of matching
    Index("ix_invoice_options_pay_to", "pay_to", "match", "amount_base"),
    # and that by sender
    Index(
        "ix_invoice_options_payer",
        "payer",
        "pay_to",
        sqlite_where=text("payer IS NOT NULL"),
        postgresql_where=text("payer IS NOT NULL"),
    ),
)

invoice_references = Table(
    "invoice_references",
    metadata,
    # as a log shows it: the reference itself, or its keccak-256
    _hash("key"),
    _address("pay_to"),
    Column("invoice_id", Text, nullable=False),
    # a reference names one invoice at an address, for good: a payment that repeats it is meant for that one
    PrimaryKeyConstraint("key", "pay_to"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
)

deposit_keys = Table(
    "deposit_keys",
    metadata,
    # BIP-32 fingerprint and chain code tell extended public keys apart; the key itself stays in the configuration
    Column("id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("next_index", BigInteger, nullable=False),
    Column("first_used_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("id", "path"),
)

deposit_addresses = Table(
    "deposit_addresses",
    metadata,
    _address("address"),
    # 'pool': added by an operator, given out again; 'derived': made from an extended public key, once
    Column("source", Text, nullable=False),
    Column("key_id", Text),
    Column("path", Text),
    Column("index", BigInteger),
    Column("added_at", UtcDateTime, nullable=False),
    # the invoice it was given to last
    Column("invoice_id", Text),
    # from when on it may be given to another: the end of that invoice's monitoring, and the quarantine
    Column("free_from", UtcDateTime, nullable=False),
    Column("retired_at", UtcDateTime),
    PrimaryKeyConstraint("address"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    CheckConstraint("source IN ('pool','derived')", name="source"),
    CheckConstraint("(source = 'derived') = (key_id IS NOT NULL AND path IS NOT NULL)", name="derived_has_path"),
    # an index of a key is one address
    UniqueConstraint("key_id", "path", "index", name="uq_deposit_addresses_derived"),
    # the pool's address that has been free the longest
    Index(
        "ix_deposit_addresses_free",
        "free_from",
        "address",
        sqlite_where=text("source = 'pool' AND retired_at IS NULL"),
        postgresql_where=text("source = 'pool' AND retired_at IS NULL"),
    ),
)

amount_reservations = Table(
    "amount_reservations",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    _address("token"),
    _address("pay_to"),
    Column("amount", Uint256, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("reserved_until", UtcDateTime, nullable=False),
    # an exact amount on a shared address names one invoice; the address first: matching asks who shares it
    PrimaryKeyConstraint("pay_to", "chain_id", "token", "amount"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    Index("ix_amount_reservations_reserved_until", "reserved_until"),
    Index("ix_amount_reservations_invoice", "invoice_id"),
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", Text, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    _hash("tx_hash"),
    _address("token"),
    _address("sender"),
    _address("recipient"),
    Column("amount", Uint256, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("decimals", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    _hash("block_hash"),
    Column("block_time", UtcDateTime, nullable=False),
    Column("log_index", BigInteger, nullable=False),
    Column("allocation", Text, nullable=False),
    Column("reason", Text),
    Column("invoice_id", Text),
    Column("evidence", JSON, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("final_at", UtcDateTime),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["chain_id"], ["chains.chain_id"]),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    # I1: what a payment is, wherever it is mined (RULES.md section 1)
    UniqueConstraint(
        "chain_id",
        "tx_hash",
        "token",
        "sender",
        "recipient",
        "amount",
        "ordinal",
        name="uq_transfers_identity",
    ),
    CheckConstraint("status IN ('detected','final','orphaned')", name="status"),
    CheckConstraint("allocation IN ('invoice','unmatched','dismissed')", name="allocation"),
    CheckConstraint("(allocation = 'invoice') = (invoice_id IS NOT NULL)", name="allocated_to_one"),
    CheckConstraint("(allocation = 'unmatched') = (reason IS NOT NULL)", name="unmatched_has_reason"),
    # once final a log has one place, and a place one log
    Index(
        "uq_transfers_final_place",
        "chain_id",
        "tx_hash",
        "log_index",
        unique=True,
        sqlite_where=text("status = 'final'"),
        postgresql_where=text("status = 'final'"),
    ),
    Index("ix_transfers_chain_block", "chain_id", "block_number"),
    Index("ix_transfers_invoice", "invoice_id"),
    Index("ix_transfers_allocation", "allocation", "id"),
    # what waits for finality: asked every tick
    Index(
        "ix_transfers_detected",
        "chain_id",
        "block_number",
        sqlite_where=text("status = 'detected'"),
        postgresql_where=text("status = 'detected'"),
    ),
)

payment_evidence = Table(
    "payment_evidence",
    metadata,
    Column("transfer_id", Text, nullable=False),
    _hash("block_hash"),
    # names of the providers whose readings agreed
    Column("sources", JSON, nullable=False),
    Column("proof", JSON(none_as_null=True)),
    Column("proof_failure", Text),
    # what a policy found against it when it became final: {"sanctions": "why", …}
    Column("flags", JSON, nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
    # what a final payment rests on in the block it was read in; in another block it is read, and proven, anew
    PrimaryKeyConstraint("transfer_id", "block_hash"),
    ForeignKeyConstraint(["transfer_id"], ["transfers.id"]),
)

settlements = Table(
    "settlements",
    metadata,
    Column("id", Text, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("merchant", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("scale", Integer, nullable=False),
    Column("amount_requested", Uint256, nullable=False),
    Column("amount_settled", Uint256, nullable=False),
    Column("amount_surplus", Uint256, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("settled_at", UtcDateTime, nullable=False),
    # append-only by trigger
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    # an invoice is settled once; again only after a reversal, as the next generation
    UniqueConstraint("invoice_id", "generation", name="uq_settlements_invoice_generation"),
    Index("ix_settlements_merchant", "merchant", "id"),
)

settlement_lines = Table(
    "settlement_lines",
    metadata,
    Column("settlement_id", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("transfer_id", Text, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    Column("token", Text, nullable=False),
    _address("token_address"),
    Column("decimals", Integer, nullable=False),
    Column("amount_settled", Uint256, nullable=False),
    Column("amount_surplus", Uint256, nullable=False),
    _hash("tx_hash"),
    Column("log_index", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    _hash("block_hash"),
    _address("payer"),
    _address("pay_to"),
    # append-only by trigger; the place of each payment at the moment of settling
    PrimaryKeyConstraint("settlement_id", "index"),
    ForeignKeyConstraint(["settlement_id"], ["settlements.id"]),
    ForeignKeyConstraint(["transfer_id"], ["transfers.id"]),
    Index("ix_settlement_lines_transfer", "transfer_id"),
)

reversals = Table(
    "reversals",
    metadata,
    Column("id", Text, nullable=False),
    Column("settlement_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("reversed_at", UtcDateTime, nullable=False),
    # append-only by trigger: a contra record beside the settlement, never an update of it
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["settlement_id"], ["settlements.id"]),
    UniqueConstraint("settlement_id", name="uq_reversals_settlement"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Text, nullable=False),
    Column("invoice_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # the payment it is about, or '' where it is about the invoice: letting one payment pass lets no other pass
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("held_at", UtcDateTime, nullable=False),
    Column("held_by", Text),
    Column("released_at", UtcDateTime),
    Column("released_by", Text),
    Column("release_reason", Text),
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
    # one hold an invoice, reason and payment
    UniqueConstraint("invoice_id", "reason", "subject", name="uq_holds_invoice_reason_subject"),
    # what an operator has to look at, newest first
    Index(
        "ix_holds_standing",
        "id",
        sqlite_where=text("released_at IS NULL"),
        postgresql_where=text("released_at IS NULL"),
    ),
)

token_risks = Table(
    "token_risks",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    _address("token"),
    Column("block_number", BigInteger, nullable=False),
    _hash("tx_hash"),
    Column("log_index", BigInteger, nullable=False),
    # paused, unpaused, upgraded, deprecated, blocked, unblocked
    Column("kind", Text, nullable=False),
    # the address that was blocked, or the new implementation; zeros where none is named
    _address("subject"),
    Column("seen_at", UtcDateTime, nullable=False),
    # an operator looked at it and trusts the token again
    Column("accepted_at", UtcDateTime),
    Column("accepted_by", Text),
    # what a token's contract announced of itself, in the order it did; whatever any provider shows is kept
    PrimaryKeyConstraint("chain_id", "token", "block_number", "log_index", "kind", "subject"),
    ForeignKeyConstraint(["chain_id"], ["chains.chain_id"]),
)

refunds = Table(
    "refunds",
    metadata,
    Column("id", Text, nullable=False),
    Column("transfer_id", Text, nullable=False),
    # set where the surplus of a settled invoice was given back
    Column("settlement_id", Text),
    Column("chain_id", BigInteger, nullable=False),
    _address("token"),
    _hash("tx_hash"),
    Column("log_index", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    _hash("block_hash"),
    _address("sender"),
    _address("recipient"),
    Column("amount", Uint256, nullable=False),
    Column("refunded_at", UtcDateTime, nullable=False),
    Column("refunded_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # append-only by trigger: money that left again, as the chain shows it
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["transfer_id"], ["transfers.id"]),
    ForeignKeyConstraint(["settlement_id"], ["settlements.id"]),
    # one log gives back one payment: refunding two with one transaction takes two logs
    UniqueConstraint("chain_id", "tx_hash", "log_index", name="uq_refunds_place"),
    Index("ix_refunds_transfer", "transfer_id"),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("posted_at", UtcDateTime, nullable=False),
    # append-only by trigger
    PrimaryKeyConstraint("id"),
    # the same thing is posted once
    UniqueConstraint("kind", "ref", name="uq_ledger_entries_kind_ref"),
)

ledger_lines = Table(
    "ledger_lines",
    metadata,
    Column("entry_id", Text, nullable=False),
    Column("index", Integer, nullable=False),
    Column("account", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    _address("token"),
    Column("amount", Uint256, nullable=False),
    Column("transfer_id", Text, nullable=False),
    Column("invoice_id", Text),
    Column("settlement_id", Text),
    # append-only by trigger
    PrimaryKeyConstraint("entry_id", "index"),
    ForeignKeyConstraint(["entry_id"], ["ledger_entries.id"]),
    CheckConstraint("side IN ('debit','credit')", name="side"),
    Index("ix_ledger_lines_transfer", "transfer_id"),
)

events = Table(
    "events",
    metadata,
    Column("seq", Sequence64, nullable=False, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("merchant", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("data", JSON, nullable=False),
    # the place in the feed, given once the event is committed (`storage.feed`)
    Column("position", BigInteger),
    Column("is_fanned_out", Boolean, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("position", name="uq_events_position"),
    # what has no place yet
    Index(
        "ix_events_unplaced",
        "seq",
        sqlite_where=text("position IS NULL"),
        postgresql_where=text("position IS NULL"),
    ),
    # the outbox: events whose deliveries are not made yet
    Index(
        "ix_events_outbox",
        "seq",
        sqlite_where=text("NOT is_fanned_out"),
        postgresql_where=text("NOT is_fanned_out"),
    ),
    # a merchant's feed
    Index("ix_events_merchant", "merchant", "position"),
    UniqueConstraint("id", name="uq_events_id"),
    # I6: each state change tells of itself once
    UniqueConstraint("type", "object_id", "version", name="uq_events_change"),
    # a number is never given out twice
    sqlite_autoincrement=True,
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("merchant", Text),
    Column("types", JSON, nullable=False),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    # until then the previous secret signs too
    Column("previous_secret_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", Text),
    PrimaryKeyConstraint("id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, nullable=False),
    Column("endpoint_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("claimed_until", UtcDateTime),
    Column("last_attempt_at", UtcDateTime),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    PrimaryKeyConstraint("id"),
    ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoints.id"]),
    # each endpoint gets each event as one delivery, however often the fan-out runs
    UniqueConstraint("endpoint_id", "event_id", name="uq_webhook_deliveries_endpoint_event"),
    CheckConstraint("status IN ('pending','delivered','dead')", name="status"),
    # what is due, endpoint by endpoint: a long backlog at one must not slow down the others' claims
    Index(
        "ix_webhook_deliveries_due",
        "endpoint_id",
        "next_attempt_at",
        "id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "ix_webhook_deliveries_dead",
        "id",
        sqlite_where=text("status = 'dead'"),
        postgresql_where=text("status = 'dead'"),
    ),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("seq", Sequence64, nullable=False, autoincrement=True),
    Column("delivery_id", Text, nullable=False),
    # when it ended, and how long it took
    Column("at", UtcDateTime, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    # none: nobody answered
    Column("status_code", Integer),
    Column("error", Text),
    PrimaryKeyConstraint("seq"),
    ForeignKeyConstraint(["delivery_id"], ["webhook_deliveries.id"]),
    Index("ix_webhook_attempts_delivery", "delivery_id", "seq"),
    # old ones are let go of
    Index("ix_webhook_attempts_at", "at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, nullable=False),
    Column("key", Text, nullable=False),
    _hash("request_hash"),
    Column("status", Integer),
    Column("body", Text),
    Column("created_at", UtcDateTime, nullable=False),
    # the first request with a key wins; the second sees its answer
    PrimaryKeyConstraint("scope", "key"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    _hash("key_hash"),
    Column("scopes", JSON, nullable=False),
    Column("merchant", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    # what it was before it was rotated, and how long that still opens
    _hash("previous_hash", nullable=True),
    Column("previous_until", UtcDateTime),
    # to the minute or so: a key is not written at each request
    Column("last_used_at", UtcDateTime),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    UniqueConstraint("previous_hash", name="uq_api_keys_previous_hash"),
)

ops_sessions = Table(
    "ops_sessions",
    metadata,
    # of what the cookie holds: who can read this table cannot make a cookie of it
    _hash("nonce_hash"),
    Column("key_id", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("nonce_hash"),
    ForeignKeyConstraint(["key_id"], ["api_keys.id"]),
    Index("ix_ops_sessions_began_at", "began_at"),
)

operator_actions = Table(
    "operator_actions",
    metadata,
    Column("seq", Sequence64, nullable=False, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    # SHA-256 of the row before (zeros before the first), and of this row with it
    _hash("previous_hash"),
    _hash("hash"),
    # append-only by trigger: who, when, why; counted without gaps, so that a row taken away is missed
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id", name="uq_operator_actions_id"),
    # each row has one successor: the chain cannot fork
    UniqueConstraint("previous_hash", name="uq_operator_actions_previous_hash"),
    Index("ix_operator_actions_object", "object_id"),
)

leases = Table(
    "leases",
    metadata,
    Column("chain_id", BigInteger, nullable=False, autoincrement=False),
    # the worker that leads the chain; none: it was given back
    Column("holder", Text),
    # counts leaders: a transaction of an older one finds a newer number here and is refused
    Column("fencing", BigInteger, nullable=False),
    # counts signs of life of this leader: whoever sees it stand still long enough takes over, whatever clocks say
    Column("renewals", BigInteger, nullable=False),
    # by the worker's own clock, for people to read
    Column("since", UtcDateTime, nullable=False),
    Column("renewed_at", UtcDateTime, nullable=False),
    # no reference to chains: a chain is led before it is opened for the first time
    PrimaryKeyConstraint("chain_id"),
)

reconciliations = Table(
    "reconciliations",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    # the newest run only: its range, inclusive
    Column("first_number", BigInteger, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    Column("breaks", Integer, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("chain_id"),
    ForeignKeyConstraint(["chain_id"], ["chains.chain_id"]),
)

relays = Table(
    "relays",
    metadata,
    Column("name", Text, nullable=False),
    # up to here the feed was handed on, and confirmed
    Column("position", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("name"),
)

APPEND_ONLY = (
    settlements,
    settlement_lines,
    reversals,
    ledger_entries,
    ledger_lines,
    refunds,
    operator_actions,
)
"""Tables whose rows are never updated or deleted; the database itself refuses (triggers)."""
