"""Where the tags of a simulated chain stand: so many blocks behind the head, or held where they are."""

from __future__ import annotations

from chains.model import Tag


class SimTags:
    """Tags never go back by themselves: not when a fork makes the chain shorter, only with the chain below them."""

    def __init__(self, *, safe_lag: int | None, finalized_lag: int | None) -> None:
        """A lag of `None`: the chain does not know that tag."""
        self._lags: dict[Tag, int | None] = {Tag.LATEST: 0, Tag.SAFE: safe_lag, Tag.FINALIZED: finalized_lag}
        self._floors: dict[Tag, int] = {}
        """How far a tag was when last the chain became another."""
        self._held: dict[Tag, int] | None = None

    def copy(self) -> SimTags:
        made = SimTags(safe_lag=self._lags[Tag.SAFE], finalized_lag=self._lags[Tag.FINALIZED])
        made._floors = dict(self._floors)
        made._held = None if self._held is None else dict(self._held)
        return made

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def height_of(self, tag: Tag, head: int, *, behind: int = 0) -> int | None:
        """`behind`: to a node that trails the head so far. `None`: the chain does not know the tag."""
        seen = max(0, head - behind)
        lag = self._lags[tag]
        if tag is Tag.LATEST or lag is None:
            return seen if tag is Tag.LATEST else None
        at = seen - lag
        if not behind:
            at = max(at, self._floors.get(tag, 0))
        if self._held is not None:
            at = min(at, self._held[tag])
        return max(0, min(at, seen))

    def move(self, finalized_lag: int | None, safe_lag: int | None) -> None:
        """Other lags; this alone may take a tag back."""
        self._lags[Tag.FINALIZED], self._lags[Tag.SAFE] = finalized_lag, safe_lag
        self._floors.clear()

    def hold(self, is_held: bool, head: int) -> None:
        """Holds the tags where they are, or lets them catch up."""
        if is_held == self.is_held:
            return
        self.keep(head)
        self._held = dict(self._floors) if is_held else None

    def keep(self, head: int) -> None:
        """To be told before the chain becomes another."""
        for tag in (Tag.SAFE, Tag.FINALIZED):
            self._floors[tag] = self.height_of(tag, head) or 0
