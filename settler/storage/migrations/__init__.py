"""How the tables came to be, revision after revision: alembic's scripts, run by `settler.storage.migrate`.

The sum of the revisions equals `settler.storage.schema` (a test compares them on SQLite and on PostgreSQL). A
released revision is never edited, and leaves the workers of the release before it working.
"""
