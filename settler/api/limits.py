"""How often a caller may ask: a token bucket each, in this process's memory.

Promises: a caller who stays below the rate is never refused; one who does not is told how long to wait (429,
`Retry-After`) and costs nobody else anything; memory is bounded however many callers there are. Several processes
behind one address count apart.

    #  burst      200 |\\            full: after burst / rate seconds of rest
    #                 | \\___
    #                 |     \\____  one taken a request, `rate` a second put back
    #  empty        0 |__________\\_ refused

Answers carry what is left, as draft-ietf-httpapi-ratelimit-headers (from its eighth version on) writes it:
`RateLimit-Policy: "key";q=200;w=2` (200 requests, full again in 2 s) and `RateLimit: "key";r=199;t=1`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Middleware

from settler.api.addresses import Network, caller_address
from settler.api.errors import Problem

STRANGERS_SHARE = 0.2
"""Of a key's rate and burst, for an address that shows no key: a page with its picture costs some 15 ms."""
CALLERS_MAX = 10_000
"""Callers remembered: about 2 MB. Of more, the one that has been away longest is forgotten, which gives it a full
bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a caller stands after a request."""

    name: str
    """Of the rule: `key`, `address`."""
    burst: int
    window_s: int
    """Seconds in which an empty bucket is full again, rounded up."""
    left: int
    reset_s: int
    """Seconds until this caller's bucket is full again, rounded up."""


class Limiter:
    """Token buckets by caller. `take` is all it takes to use one."""

    def __init__(
        self,
        *,
        rate_per_s: float,
        burst: int,
        monotonic: Callable[[], float],
        name: str = "default",
        callers_max: int = CALLERS_MAX,
    ) -> None:
        """`rate_per_s` 0: nobody is limited. `burst`: at once, for who has not asked for a while; at least 1."""
        assert rate_per_s >= 0 and burst >= 1 and callers_max >= 1, "a bucket holds something"
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._monotonic = monotonic
        self.name = name
        self._callers_max = callers_max
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """When each caller's bucket is full again, the one that asked last at the end; who is not in it has a full
        one."""

    @property
    def burst(self) -> int:
        return self._burst

    @property
    def is_on(self) -> bool:
        return self._rate_per_s > 0

    def take(self, who: str, cost: int = 1) -> float | None:
        """Takes `cost` from `who`'s bucket; `None`: granted. Else nothing is taken, and the answer is the seconds to
        wait until it could be. What costs more than the bucket holds waits for a full one.
        """
        if not self.is_on:
            return None
        now = self._monotonic()
        lacking_s = max(0.0, self._full_at.get(who, now) - now)
        after_s = lacking_s + min(cost, self._burst) / self._rate_per_s
        # a hair above: adding and taking away a clock's large number does not give the same number back
        wait_s = after_s - self._burst / self._rate_per_s
        if wait_s > 1e-6:
            return wait_s
        self._full_at[who] = now + after_s
        self._full_at.move_to_end(who)
        if len(self._full_at) > self._callers_max:
            self._full_at.popitem(last=False)
        return None

    def standing(self, who: str) -> Standing | None:
        """What `who` has left; `None` where nobody is limited. Takes nothing."""
        if not self.is_on:
            return None
        now = self._monotonic()
        lacking_s = max(0.0, self._full_at.get(who, now) - now)
        return Standing(
            name=self.name,
            burst=self._burst,
            window_s=math.ceil(self._burst / self._rate_per_s),
            left=max(0, math.floor(self._burst - lacking_s * self._rate_per_s + 1e-6)),
            reset_s=math.ceil(lacking_s),
        )

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._full_at)


class Limits:
    """The limits of the API: a bucket for each key, and one for each address that shows none."""

    def __init__(
        self,
        *,
        rate_per_s: float,
        burst: int,
        monotonic: Callable[[], float],
        proxies: Sequence[Network] = (),
        callers_max: int = CALLERS_MAX,
    ) -> None:
        """Of each key; addresses have `STRANGERS_SHARE` of it. `proxies`: whose `X-Forwarded-For` is believed.
        `rate_per_s` 0: nobody is limited.
        """
        self._proxies = tuple(proxies)
        self.keys = Limiter(
            rate_per_s=rate_per_s, burst=burst, monotonic=monotonic, name="key", callers_max=callers_max
        )
        self.addresses = Limiter(
            rate_per_s=rate_per_s * STRANGERS_SHARE,
            burst=max(1, round(burst * STRANGERS_SHARE)),
            monotonic=monotonic,
            name="address",
            callers_max=callers_max,
        )

    def admit_key(self, request: web.Request, who: str, cost: int = 1) -> None:
        """Counts a request of a known caller. Raises `Problem` 429."""
        self._admit(self.keys, request, who, cost)

    def admit_address(self, request: web.Request, cost: int = 1) -> None:
        """Counts a request of nobody known, by where it comes from. Raises `Problem` 429.

        Asked after a key was refused, not before it is looked up: who shares an address with a caller gone wild is
        let in with a good key.
        """
        self._admit(self.addresses, request, self.address_of(request), cost)

    def address_of(self, request: web.Request) -> str:
        """Who asks, as far as addresses tell: an IPv4 address, or the /64 that an IPv6 host has to itself."""
        return caller_address(request.remote, request.headers.getall("X-Forwarded-For", []), self._proxies)

    def _admit(self, limiter: Limiter, request: web.Request, who: str, cost: int) -> None:
        wait_s = limiter.take(who, cost)
        standing = limiter.standing(who)
        if standing is not None:
            request[_STANDING] = standing
        if wait_s is None:
            return
        seconds = max(1, math.ceil(wait_s))
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-requests",
            f"this {limiter.name} has asked too often; ask again in {seconds} s, and no faster than the RateLimit "
            "header of each answer allows",
            headers={"Retry-After": str(seconds)},
        )


NO_LIMITS = Limits(rate_per_s=0, burst=1, monotonic=float)
"""Nobody is limited."""

EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked by whoever watches over us, who must hear of an overload."""
_BY_KEY = "/v1/"
"""Under it callers are counted once they are known (`settler.api.call.caller_behind`)."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def limiting(limits: Limits) -> Middleware:
    """Counts by address whatever takes no key: pages, the description, and what is not there."""

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_there = request.match_info.http_exception is None
        if request.path not in EXEMPT and not (is_there and request.path.startswith(_BY_KEY)):
            limits.admit_address(request)
        return await handler(request)

    return limit


_STANDING: web.RequestKey[Standing] = web.RequestKey("settler_rate_limit_standing", Standing)


async def show_standing(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` hook: tells the caller what is left."""
    standing = request.get(_STANDING)
    if standing is not None:
        response.headers["RateLimit-Policy"] = f'"{standing.name}";q={standing.burst};w={standing.window_s}'
        response.headers["RateLimit"] = f'"{standing.name}";r={standing.left};t={standing.reset_s}'
