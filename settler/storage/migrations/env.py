"""Run by alembic: all pending revisions, in the one transaction that `settler.storage.migrate` has opened."""

from __future__ import annotations

from alembic import context

from settler.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite's DDL is transactional too, as long as the driver does not commit by itself; ours does not.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
