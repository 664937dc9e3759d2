"""A migrated SQLite database in memory: for tests of many short lives, which a disk would only slow."""

from __future__ import annotations

from pathlib import Path

from settler.storage.engine import Database


async def in_memory(template: Path) -> Database:
    """A new one, as the migrated file `template` is."""
    db = await Database.open("sqlite://")
    image = bytearray(template.read_bytes())
    image[18] = image[19] = 1  # no write-ahead log: there is none in memory
    async with db._writer.connect() as conn:
        raw = await conn.get_raw_connection()
        driver = raw.driver_connection
        assert driver is not None
        await driver._execute(driver._conn.deserialize, bytes(image))
    return db
