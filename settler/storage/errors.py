"""What can go wrong with the database as such. A constraint's refusal is SQLAlchemy's `IntegrityError`."""

from __future__ import annotations


class StorageError(Exception):
    """Base of the storage's errors."""


class InvalidDatabaseUrl(StorageError):
    """The operator's URL names no database we can open; shows no password. Caught by the CLI (exit 2)."""


class SchemaTooNew(StorageError):
    """A newer settler migrated the database: this one must not touch it. Caught by the CLI (exit 2)."""


class StorageUnavailable(StorageError):
    """Transient: connection lost, deadlock, busy, disk full. Caught by the loop, which backs off.

    At the end of a block it leaves unknown whether that block was committed: every tick may be repeated.
    """


class StorageBusy(StorageUnavailable):
    """PostgreSQL: others hold the lock that was asked for, or wait for ours. Nothing was committed."""
