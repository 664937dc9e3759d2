"""When each watched address changed last, so that what changed since can be read; they are retired, never deleted.

A column that the database fills, and triggers: the release before writes rows as it did, and they are numbered too.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "watched_addresses", sa.Column("changed", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index("ix_watched_addresses_changed", "watched_addresses", ["changed"])
    if op.get_bind().dialect.name == "postgresql":
        _number_on_postgresql()
    else:
        _number_on_sqlite()


def _number_on_postgresql() -> None:
    """By the transaction that writes: who knows which were at work at one moment knows what he cannot have seen then.

    ALWAYS: also for rows that a replica applies, or that are restored: the numbers of another server mean nothing here.
    """
    op.execute("""
        CREATE FUNCTION settler_number_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.changed := pg_current_xact_id()::text::bigint;
            RETURN NEW;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER watched_addresses_are_numbered BEFORE INSERT OR UPDATE ON watched_addresses"
        " FOR EACH ROW EXECUTE FUNCTION settler_number_change()"
    )
    op.execute("ALTER TABLE watched_addresses ENABLE ALWAYS TRIGGER watched_addresses_are_numbered")
    op.execute("""
        CREATE FUNCTION settler_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% are retired, never deleted', TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    op.execute(
        "CREATE TRIGGER watched_addresses_are_not_deleted BEFORE DELETE ON watched_addresses"
        " FOR EACH ROW EXECUTE FUNCTION settler_refuse_delete()"
    )


def _number_on_sqlite() -> None:
    """One more than the highest: there is one writer at a time, and no number is free again while no row is deleted."""
    numbered = (
        "BEGIN UPDATE watched_addresses SET changed = (SELECT max(changed) + 1 FROM watched_addresses)"
        " WHERE address = NEW.address; END"
    )
    op.execute("CREATE TRIGGER watched_addresses_added AFTER INSERT ON watched_addresses " + numbered)
    op.execute(
        "CREATE TRIGGER watched_addresses_changed"
        " AFTER UPDATE OF address, watched_since, retired_at, has_references ON watched_addresses " + numbered
    )
    op.execute(
        "CREATE TRIGGER watched_addresses_no_delete BEFORE DELETE ON watched_addresses"
        " BEGIN SELECT RAISE(ABORT, 'watched_addresses are retired, never deleted'); END"
    )
