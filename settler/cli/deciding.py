"""What an operator decides on the command line: checked as the API checks it, in one transaction, by the same verbs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from settler.cli.opened import operator, with_database
from settler.cli.text import Json

if TYPE_CHECKING:
    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncConnection

    from settler.config import Settings
    from settler.domain.operator import By
    from settler.stages.operating import Operating
    from settler.storage.engine import Database

M = TypeVar("M", bound="BaseModel")


def decided(
    config: Path,
    model: type[M],
    given: Mapping[str, str],
    verb: Callable[[AsyncConnection, Operating, M, By], Awaitable[Json]],
) -> Json:
    """What `verb` shows of its object once it is committed. `given`: as `model`, which has a `reason`, takes it.

    Raises `InvalidRequest`, and what the verbs of `settler.stages.operating` raise.
    """

    async def work(settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.clock import SystemClock
        from settler.domain.operator import By
        from settler.runtime.setups import judgement_of
        from settler.stages.operating import Operating

        body = validate(model, json.dumps(given))
        by = By(who=operator(), reason=given["reason"], now=SystemClock().now())
        async with db.write() as conn:
            return await verb(conn, Operating(judgement_of(settings)), body, by)

    return with_database(config, work)
