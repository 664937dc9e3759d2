"""`UnknownWords`: refusals in words nobody has collected, told once each. Holds no log: who is told is the caller's.

They are treated as passing (`chains.errors.Unknown`), which is wrong for some: somebody has to read each and add
its wording to `chains.classify`. Told on every attempt, they would fill the log instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from chains.errors import Unknown

KEPT_MAX = 200
"""Wordings remembered; a provider that answers noise is told of so often, and from then on only counted."""

_NUMBERS = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", re.IGNORECASE)
"""What differs between two refusals in the same words: heights, hashes, request ids."""


class UnknownWords:
    """Tells of each unknown wording of each provider, the first time it comes."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        """`tell(provider, text)`: the text as the exception has it, secrets taken out."""
        self._tell = tell
        self._told: set[tuple[str, str]] = set()

    def note(self, provider: str, error: Exception) -> None:
        """Passes over whatever is not `Unknown`."""
        if not isinstance(error, Unknown) or len(self._told) >= KEPT_MAX:
            return
        wording = (provider, _NUMBERS.sub("#", str(error)))
        if wording not in self._told:
            self._told.add(wording)
            self._tell(provider, str(error))
