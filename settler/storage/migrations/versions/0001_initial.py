"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from settler.storage.types import Sequence64, Uint256, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = (
    "settlements",
    "settlement_lines",
    "reversals",
    "ledger_entries",
    "ledger_lines",
    "refunds",
    "operator_actions",
)


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_changes_on_postgresql()
    else:
        _refuse_changes_on_sqlite()


def _refuse_changes_on_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION settler_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_is_append_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION settler_refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_is_not_truncated BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION settler_refuse_change()"
        )


def _refuse_changes_on_sqlite() -> None:
    for table in _APPEND_ONLY:
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change} BEFORE {change.upper()} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def _create_tables() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("merchant", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("previous_until", UtcDateTime(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
        sa.UniqueConstraint("previous_hash", name="uq_api_keys_previous_hash"),
    )
    op.create_table(
        "chains",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scanned_number", sa.BigInteger(), nullable=True),
        sa.Column("scanned_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("scanned_time", UtcDateTime(), nullable=True),
        sa.Column("settled_number", sa.BigInteger(), nullable=True),
        sa.Column("settled_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("settled_time", UtcDateTime(), nullable=True),
        sa.Column("head_number", sa.BigInteger(), nullable=True),
        sa.Column("head_time", UtcDateTime(), nullable=True),
        sa.Column("final_number", sa.BigInteger(), nullable=True),
        sa.Column("final_time", UtcDateTime(), nullable=True),
        sa.Column("risks_number", sa.BigInteger(), nullable=True),
        sa.Column("halted_at", UtcDateTime(), nullable=True),
        sa.Column("halt_reason", sa.Text(), nullable=True),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_chains")),
        sa.UniqueConstraint("name", name="uq_chains_name"),
    )
    op.create_table(
        "deposit_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("first_used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", "path", name=op.f("pk_deposit_keys")),
    )
    op.create_table(
        "events",
        sa.Column("seq", Sequence64, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("merchant", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("is_fanned_out", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sa.UniqueConstraint("position", name="uq_events_position"),
        sa.UniqueConstraint("type", "object_id", "version", name="uq_events_change"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_merchant", "events", ["merchant", "position"], unique=False)
    op.create_index(
        "ix_events_outbox",
        "events",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("NOT is_fanned_out"),
        postgresql_where=sa.text("NOT is_fanned_out"),
    )
    op.create_index(
        "ix_events_unplaced",
        "events",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "invoices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("merchant", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("exceptions", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", Uint256(), nullable=False),
        sa.Column("scale", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("monitoring_until", UtcDateTime(), nullable=False),
        sa.Column("settled_at", UtcDateTime(), nullable=True),
        sa.Column("settlement_id", sa.Text(), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("pay_token", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "status <> 'settled' OR (settlement_id IS NOT NULL AND settled_at IS NOT NULL)",
            name=op.f("ck_invoices_settled_has_settlement"),
        ),
        sa.CheckConstraint(
            "status IN ('pending','processing','settled','expired','canceled','reversed')",
            name=op.f("ck_invoices_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint("pay_token", name="uq_invoices_pay_token"),
        sa.UniqueConstraint("reference", "merchant", name="uq_invoices_merchant_reference"),
    )
    op.create_index("ix_invoices_merchant", "invoices", ["merchant", "id"], unique=False)
    op.create_index(
        "ix_invoices_open_expires_at",
        "invoices",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("status IN ('pending','processing')"),
        postgresql_where=sa.text("status IN ('pending','processing')"),
    )
    op.create_index("ix_invoices_status", "invoices", ["status", "id"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("posted_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
        sa.UniqueConstraint("kind", "ref", name="uq_ledger_entries_kind_ref"),
    )
    op.create_table(
        "operator_actions",
        sa.Column("seq", Sequence64, autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_operator_actions")),
        sa.UniqueConstraint("id", name="uq_operator_actions_id"),
        sa.UniqueConstraint("previous_hash", name="uq_operator_actions_previous_hash"),
    )
    op.create_index("ix_operator_actions_object", "operator_actions", ["object_id"], unique=False)
    op.create_table(
        "watched_addresses",
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("watched_since", UtcDateTime(), nullable=False),
        sa.Column("retired_at", UtcDateTime(), nullable=True),
        sa.Column("has_references", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_watched_addresses")),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("merchant", sa.Text(), nullable=True),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        sa.Column("previous_secret_until", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_table(
        "amount_reservations",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", Uint256(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("reserved_until", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_amount_reservations_invoice_id")),
        sa.PrimaryKeyConstraint("pay_to", "chain_id", "token", "amount", name=op.f("pk_amount_reservations")),
    )
    op.create_index("ix_amount_reservations_invoice", "amount_reservations", ["invoice_id"], unique=False)
    op.create_index("ix_amount_reservations_reserved_until", "amount_reservations", ["reserved_until"], unique=False)
    op.create_table(
        "blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("parent_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("time", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["chain_id"], ["chains.chain_id"], name=op.f("fk_blocks_chain_id")),
        sa.PrimaryKeyConstraint("chain_id", "number", name=op.f("pk_blocks")),
    )
    op.create_table(
        "deposit_addresses",
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("index", sa.BigInteger(), nullable=True),
        sa.Column("added_at", UtcDateTime(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=True),
        sa.Column("free_from", UtcDateTime(), nullable=False),
        sa.Column("retired_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "(source = 'derived') = (key_id IS NOT NULL AND path IS NOT NULL)",
            name=op.f("ck_deposit_addresses_derived_has_path"),
        ),
        sa.CheckConstraint("source IN ('pool','derived')", name=op.f("ck_deposit_addresses_source")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_deposit_addresses_invoice_id")),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_deposit_addresses")),
        sa.UniqueConstraint("key_id", "path", "index", name="uq_deposit_addresses_derived"),
    )
    op.create_index(
        "ix_deposit_addresses_free",
        "deposit_addresses",
        ["free_from", "address"],
        unique=False,
        sqlite_where=sa.text("source = 'pool' AND retired_at IS NULL"),
        postgresql_where=sa.text("source = 'pool' AND retired_at IS NULL"),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("held_at", UtcDateTime(), nullable=False),
        sa.Column("held_by", sa.Text(), nullable=True),
        sa.Column("released_at", UtcDateTime(), nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_holds_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sa.UniqueConstraint("invoice_id", "reason", "subject", name="uq_holds_invoice_reason_subject"),
    )
    op.create_index(
        "ix_holds_standing",
        "holds",
        ["id"],
        unique=False,
        sqlite_where=sa.text("released_at IS NULL"),
        postgresql_where=sa.text("released_at IS NULL"),
    )
    op.create_table(
        "invoice_options",
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("token_address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("match", sa.Text(), nullable=False),
        sa.Column("amount_base", Uint256(), nullable=False),
        sa.Column("tail_base", Uint256(), nullable=False),
        sa.Column("from_block", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.LargeBinary(length=32), nullable=True),
        sa.Column("payer", sa.LargeBinary(length=20), nullable=True),
        sa.CheckConstraint("match IN ('address','amount','reference','payer')", name=op.f("ck_invoice_options_match")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_options_invoice_id")),
        sa.PrimaryKeyConstraint("invoice_id", "index", name=op.f("pk_invoice_options")),
    )
    op.create_index("ix_invoice_options_pay_to", "invoice_options", ["pay_to", "match", "amount_base"], unique=False)
    op.create_index(
        "ix_invoice_options_payer",
        "invoice_options",
        ["payer", "pay_to"],
        unique=False,
        sqlite_where=sa.text("payer IS NOT NULL"),
        postgresql_where=sa.text("payer IS NOT NULL"),
    )
    op.create_table(
        "invoice_references",
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_invoice_references_invoice_id")),
        sa.PrimaryKeyConstraint("key", "pay_to", name=op.f("pk_invoice_references")),
    )
    op.create_table(
        "ledger_lines",
        sa.Column("entry_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", Uint256(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=True),
        sa.Column("settlement_id", sa.Text(), nullable=True),
        sa.CheckConstraint("side IN ('debit','credit')", name=op.f("ck_ledger_lines_side")),
        sa.ForeignKeyConstraint(["entry_id"], ["ledger_entries.id"], name=op.f("fk_ledger_lines_entry_id")),
        sa.PrimaryKeyConstraint("entry_id", "index", name=op.f("pk_ledger_lines")),
    )
    op.create_index("ix_ledger_lines_transfer", "ledger_lines", ["transfer_id"], unique=False)
    op.create_table(
        "ops_sessions",
        sa.Column("nonce_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("began_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_ops_sessions_key_id")),
        sa.PrimaryKeyConstraint("nonce_hash", name=op.f("pk_ops_sessions")),
    )
    op.create_index("ix_ops_sessions_began_at", "ops_sessions", ["began_at"], unique=False)
    op.create_table(
        "settlements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("merchant", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("scale", sa.Integer(), nullable=False),
        sa.Column("amount_requested", Uint256(), nullable=False),
        sa.Column("amount_settled", Uint256(), nullable=False),
        sa.Column("amount_surplus", Uint256(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("settled_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_settlements_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlements")),
        sa.UniqueConstraint("invoice_id", "generation", name="uq_settlements_invoice_generation"),
    )
    op.create_index("ix_settlements_merchant", "settlements", ["merchant", "id"], unique=False)
    op.create_table(
        "token_risks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.LargeBinary(length=20), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=True),
        sa.Column("accepted_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["chain_id"], ["chains.chain_id"], name=op.f("fk_token_risks_chain_id")),
        sa.PrimaryKeyConstraint(
            "chain_id", "token", "block_number", "log_index", "kind", "subject", name=op.f("pk_token_risks")
        ),
    )
    op.create_table(
        "tokens",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("decimals BETWEEN 0 AND 77", name=op.f("ck_tokens_decimals")),
        sa.ForeignKeyConstraint(["chain_id"], ["chains.chain_id"], name=op.f("fk_tokens_chain_id")),
        sa.PrimaryKeyConstraint("chain_id", "address", name=op.f("pk_tokens")),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("sender", sa.LargeBinary(length=20), nullable=False),
        sa.Column("recipient", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", Uint256(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("block_time", UtcDateTime(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("allocation", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("invoice_id", sa.Text(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("recorded_at", UtcDateTime(), nullable=False),
        sa.Column("final_at", UtcDateTime(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(allocation = 'invoice') = (invoice_id IS NOT NULL)", name=op.f("ck_transfers_allocated_to_one")
        ),
        sa.CheckConstraint(
            "(allocation = 'unmatched') = (reason IS NOT NULL)", name=op.f("ck_transfers_unmatched_has_reason")
        ),
        sa.CheckConstraint("allocation IN ('invoice','unmatched','dismissed')", name=op.f("ck_transfers_allocation")),
        sa.CheckConstraint("status IN ('detected','final','orphaned')", name=op.f("ck_transfers_status")),
        sa.ForeignKeyConstraint(["chain_id"], ["chains.chain_id"], name=op.f("fk_transfers_chain_id")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name=op.f("fk_transfers_invoice_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint(
            "chain_id", "tx_hash", "token", "sender", "recipient", "amount", "ordinal", name="uq_transfers_identity"
        ),
    )
    op.create_index("ix_transfers_allocation", "transfers", ["allocation", "id"], unique=False)
    op.create_index("ix_transfers_chain_block", "transfers", ["chain_id", "block_number"], unique=False)
    op.create_index(
        "ix_transfers_detected",
        "transfers",
        ["chain_id", "block_number"],
        unique=False,
        sqlite_where=sa.text("status = 'detected'"),
        postgresql_where=sa.text("status = 'detected'"),
    )
    op.create_index("ix_transfers_invoice", "transfers", ["invoice_id"], unique=False)
    op.create_index(
        "uq_transfers_final_place",
        "transfers",
        ["chain_id", "tx_hash", "log_index"],
        unique=True,
        sqlite_where=sa.text("status = 'final'"),
        postgresql_where=sa.text("status = 'final'"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime(), nullable=True),
        sa.Column("claimed_until", UtcDateTime(), nullable=True),
        sa.Column("last_attempt_at", UtcDateTime(), nullable=True),
        sa.Column("last_status_code", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("status IN ('pending','delivered','dead')", name=op.f("ck_webhook_deliveries_status")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint("endpoint_id", "event_id", name="uq_webhook_deliveries_endpoint_event"),
    )
    op.create_index(
        "ix_webhook_deliveries_dead",
        "webhook_deliveries",
        ["id"],
        unique=False,
        sqlite_where=sa.text("status = 'dead'"),
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["endpoint_id", "next_attempt_at", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "payment_evidence",
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sources", sa.JSON(), nullable=False),
        sa.Column("proof", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("proof_failure", sa.Text(), nullable=True),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.Column("read_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_payment_evidence_transfer_id")),
        sa.PrimaryKeyConstraint("transfer_id", "block_hash", name=op.f("pk_payment_evidence")),
    )
    op.create_table(
        "refunds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("settlement_id", sa.Text(), nullable=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.LargeBinary(length=20), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sender", sa.LargeBinary(length=20), nullable=False),
        sa.Column("recipient", sa.LargeBinary(length=20), nullable=False),
        sa.Column("amount", Uint256(), nullable=False),
        sa.Column("refunded_at", UtcDateTime(), nullable=False),
        sa.Column("refunded_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_refunds_settlement_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_refunds_transfer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("chain_id", "tx_hash", "log_index", name="uq_refunds_place"),
    )
    op.create_index("ix_refunds_transfer", "refunds", ["transfer_id"], unique=False)
    op.create_table(
        "reversals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("settlement_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reversed_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_reversals_settlement_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reversals")),
        sa.UniqueConstraint("settlement_id", name="uq_reversals_settlement"),
    )
    op.create_table(
        "settlement_lines",
        sa.Column("settlement_id", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("transfer_id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("token_address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("decimals", sa.Integer(), nullable=False),
        sa.Column("amount_settled", Uint256(), nullable=False),
        sa.Column("amount_surplus", Uint256(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("payer", sa.LargeBinary(length=20), nullable=False),
        sa.Column("pay_to", sa.LargeBinary(length=20), nullable=False),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_settlement_lines_settlement_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_settlement_lines_transfer_id")),
        sa.PrimaryKeyConstraint("settlement_id", "index", name=op.f("pk_settlement_lines")),
    )
    op.create_index("ix_settlement_lines_transfer", "settlement_lines", ["transfer_id"], unique=False)
    op.create_table(
        "webhook_attempts",
        sa.Column("seq", Sequence64, autoincrement=True, nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["webhook_deliveries.id"], name=op.f("fk_webhook_attempts_delivery_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_webhook_attempts")),
    )
    op.create_index("ix_webhook_attempts_at", "webhook_attempts", ["at"], unique=False)
    op.create_index("ix_webhook_attempts_delivery", "webhook_attempts", ["delivery_id", "seq"], unique=False)
