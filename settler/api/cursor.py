"""Cursors: where a list goes on. Opaque to callers, so that what is in them may change."""

from __future__ import annotations

import base64
import binascii

from settler.domain.ids import looks_like_id


def encode(id_: str) -> str:
    """After this id."""
    return base64.urlsafe_b64encode(id_.encode()).decode().rstrip("=")


def decode(cursor: str, prefix: str) -> str:
    """The id. Raises `ValueError` for what `encode` never gave out for a list of ids with this prefix."""
    try:
        id_ = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise _not_ours(cursor) from error
    if not looks_like_id(id_, prefix):
        raise _not_ours(cursor)
    return id_


def _not_ours(cursor: str) -> ValueError:
    return ValueError(f"{cursor[:80]!r} was not given out for this list; use `next_cursor` as it was answered")
