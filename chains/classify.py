"""What a provider's refusal means: raw JSON-RPC and HTTP failures to the exceptions of `chains.errors`. Pure.

Text first, then code, then HTTP status: one code means many things (-32005 is a rate limit, a span cap, a result cap
and a disabled method, depending on who answers), and gateways put 429 into HTTP 200. The order of the rules is the
meaning: "block range limit exceeded" must be seen as a range before "limit exceeded" is seen as a rate. Collected
wordings with their sources: chains/data/refusals.json.

What it does not do: decide what follows. Unknown wordings are `Transient` with the label `unknown`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from chains.errors import (
    BlockNotFound,
    ChainError,
    FilterTooLong,
    HistoryPruned,
    MethodUnsupported,
    RangeTooWide,
    RateLimited,
    Rejected,
    ResultTooLarge,
    Reverted,
    Timeout,
    Transient,
    Unknown,
)

MAX_READ_CHARS = 2_000
"""How much of a provider's text is searched; it may be a whole HTML page."""

MAX_MESSAGE_CHARS = 240
"""How much of it an exception repeats."""

BACKOFF_FLOOR_S = 0.25
"""Infura's `backoff_seconds` may be 0 (INFURA/infura#201): asking again at once is what it complains about."""

RetryAfter = float | None
Build = Callable[[str, RetryAfter], ChainError]


def classify(
    message: str,
    *,
    code: int | float | str | None = None,
    data: bytes = b"",
    http_status: int | None = None,
    retry_after_s: float | None = None,
) -> ChainError:
    """The exception for one refusal: by text, then code, then HTTP status. Never raises itself, whatever it is given.

    `message`: the provider's text (the body, where it was no JSON-RPC). `data`: the raw JSON of the error's `data`.
    `retry_after_s`: of the HTTP header; without one, `data.rate.backoff_seconds` is used.
    """
    text = _one_line(message)
    wait_s = retry_after_s if retry_after_s is not None else _backoff_s(data)
    build = _by_text(text) or _by_code(code) or _by_status(http_status) or _unknown
    return build(text or _untold(code, http_status), wait_s)


def suggested_span(text: str) -> int | None:
    """Blocks per request the message offers, `None` if it names none.

    An explicit range counts exactly, when it is no inverted one. A bare number is lowered by one, since some providers
    count `to - from` and some `to - from + 1`, and the wording does not tell.
    """
    if (offered := _EXPLICIT_HEX.search(text)) is not None:
        return _length(int(offered[1], 16), int(offered[2], 16))
    if (offered := _EXPLICIT_DECIMAL.search(text)) is not None:
        return _length(int(offered[1]), int(offered[2]))
    for pattern in _CAPS:
        if (named := pattern.search(text)) is not None:
            return _cap_minus_one(named["n"], named.groupdict().get("k"))
    return None


# -- rules: the first that matches decides -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    build: Build


def _too_wide(text: str, _: RetryAfter) -> ChainError:
    return RangeTooWide(_clipped(text), max_span=suggested_span(text))


def _too_large(text: str, _: RetryAfter) -> ChainError:
    explicit = _EXPLICIT_HEX.search(text) or _EXPLICIT_DECIMAL.search(text)
    return ResultTooLarge(_clipped(text), max_span=suggested_span(text) if explicit else None)


def _rate_limited(text: str, wait_s: RetryAfter) -> ChainError:
    return RateLimited(_clipped(text), retry_after_s=wait_s)


def _plain(error: type[ChainError]) -> Build:
    return lambda text, _: error(_clipped(text))


_unknown = _plain(Unknown)


def _rules(build: Build, *patterns: str) -> list[_Rule]:
    return [_Rule(re.compile(pattern, re.IGNORECASE), build) for pattern in patterns]


_RULES: tuple[_Rule, ...] = (
    # a size that names a range of its own is about size, though it speaks of ranges as well
    *_rules(
        _too_large,
        r"log response size exceeded",
        r"returned more than [\d,.]+ results",
        r"exceeds max results",
    ),
    # a contract's own words may hold anything: they are recognised before anything is looked for in them
    *_rules(
        _plain(Reverted),
        r"execution reverted|\brevert\b|reverted with",
        r"invalid opcode|stack underflow|invalid jump|vm execution error|out of gas",
    ),
    *_rules(_plain(BlockNotFound), r"block range extends beyond", r"outofrange|out of range"),
    *_rules(_plain(Rejected), r"invalid block range params"),
    *_rules(
        _too_wide,
        r"limited to (a )?[\d,.]+k? ?(blocks? )?range",
        r"too wide blocks? range|blocks? range (is )?too (wide|large|high|big)|range (is )?too (large|wide)",
        r"requested too many blocks|ranges over [\d,.]+ blocks|number of requested blocks",
        r"range [\d,.]+ exceeds limit|exceed(s|ed)? (the )?(max(imum)?|allowed)( allowed)?( block)? range",
        r"blocks distance|range allowed for your plan|block range (limit|threshold) exceeded",
        r"limit the query to at most|block range (greater than|exceeds)|must be smaller than size",
        r"up to an? [\d,.]+k? block range|no backend is currently healthy|range threshold exceeded",
        r"larger than max block range|bigger than max ?block ?range|allowed block range|query requested more than",
    ),
    *_rules(
        _plain(FilterTooLong),
        r"max addresses or topics|contains \d+ filters|exceeded max allowed addresses",
    ),
    *_rules(
        _too_large,
        r"response size (should not|exceeded)|response (is )?too (big|large)",
        r"batch too large|logs matched by query exceeds|more than [\d,.]+ logs",
    ),
    *_rules(
        _plain(HistoryPruned),
        r"pruned|receipt not available for from block|failed to get logs for block #",
        r"data before txnum|missing trie node|no state available for block|historical state",
        r"no historical rpc|requested data is not available|base height|is not available \(requested height",
    ),
    *_rules(
        _plain(MethodUnsupported),
        r"not a supported commitment|malformed blocknumber|invalid blockhash (finalized|safe)|`(safe|finalized)` isn't",
        r"method .*(not found|does not exist|not supported|not available|not whitelisted|not allowed)",
        r"not allowed to access method|not included in your current plan|unsupported method|method not found",
        r"^limit exceeded$",  # public BSC nodes: eth_getLogs is switched off (bnb-chain/bsc#1215)
    ),
    *_rules(
        _plain(BlockNotFound),
        r"header not found|unknown block|(block|header|finalized|safe) (block )?not found|blocks specified in filter",
        r"unfinalized data|after last accepted block|invalid block (height|range)|current blockchain height",
        r"could not find finalizeblock|expect block number from id|greater than (the )?latest|currently canonical",
        r"null round|chainexception: unexpected error \(code=40000\)|height must be less",
    ),
    *_rules(
        _plain(Rejected),
        r"must (be )?authenticated?|unauthori[sz]ed|token is invalid|on another chain|(invalid|missing) api ?key",
        r"key is inactive|monthly capacity|reached the free tier|parse error|without 0x prefix|invalid request",
        r"invalid argument \d",
    ),
    *_rules(
        _rate_limited,
        r"too many requests|rate limit|request limit|rate exceeded|compute units|credits limited|request count",
        r"exceeded the quota|too much load|no server available|requests limited to|upgrade your tier|error code: 1015",
    ),
    *_rules(
        _plain(Timeout),
        r"time(d)? ?-?out|deadline exceeded",
    ),
    *_rules(
        _plain(Transient),
        r"backend fetch failed|bad gateway|service (temporarily )?unavailable|error decoding response|internal error",
        r"neither result nor error|batch response|cancelled due to validation errors in batch",
        r"connection (reset|refused)",
    ),
)

_BY_CODE: dict[int, Build] = {
    -32601: _plain(MethodUnsupported),
    -32004: _plain(MethodUnsupported),
    -32700: _plain(Rejected),
    -32600: _plain(Rejected),
    -32602: _plain(Rejected),
    -32603: _plain(Transient),
    -32015: _plain(Reverted),
    -32614: _too_wide,
    -32008: _too_large,
    -32002: _plain(Timeout),
    -32007: _rate_limited,
    -32009: _rate_limited,
    -39001: _plain(BlockNotFound),
    4444: _plain(HistoryPruned),
    429: _rate_limited,
    3: _plain(Reverted),
}
"""Only codes that mean one thing wherever they were seen without a telling text; -32000 and -32005 mean nothing."""

_BY_STATUS: dict[int, Build] = {
    401: _plain(Rejected),
    402: _plain(Rejected),
    403: _plain(Rejected),
    404: _plain(Rejected),
    405: _plain(MethodUnsupported),
    408: _plain(Timeout),
    413: _too_large,
    429: _rate_limited,
    504: _plain(Timeout),
}


def _by_text(text: str) -> Build | None:
    return next((rule.build for rule in _RULES if rule.pattern.search(text)), None)


def _by_code(code: int | float | str | None) -> Build | None:
    try:
        return _BY_CODE.get(int(code)) if code is not None else None
    except (ValueError, OverflowError):
        return None


def _by_status(status: int | None) -> Build | None:
    if status is None or status < 300:
        return None
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return _plain(Transient) if status >= 500 else _plain(Rejected)


# -- numbers in messages -----------------------------------------------------------------------------------------------

_EXPLICIT_HEX = re.compile(r"range[^\[]{0,20}\[0x([0-9a-f]{1,16}),\s*0x([0-9a-f]{1,16})\]", re.IGNORECASE)
_EXPLICIT_DECIMAL = re.compile(r"with the range (\d{1,18})-(\d{1,18})", re.IGNORECASE)

_N = r"(?P<n>\d[\d,.]{0,14}\d|\d)(?P<k>k)?"
_CAPS: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern.replace("N", _N), re.IGNORECASE)
    for pattern in (
        r"limited to (?:a )?N",
        r"(?:the limit|maximum|max) is (?:set to )?N",
        r"exceeds limit of N",
        r"ranges over N blocks",
        r"max(?:imum)?(?: range)?: N",
        r"requested blocks is N",
        r"distance: N",
        r"max block range(?: =|:)? ?N",
        r"maximum block range: ?N",
        r"for your plan \(\d+ > N\)",
        r"at most N",
        r"range (?:greater than|exceeds) N",
        r"smaller than size N",
        r"maximum (?:allowed is )?N",
        r"up to an? N",
        r"requested more than N",
    )
)


def _length(first: int, last: int) -> int | None:
    return last - first + 1 if first <= last else None


def _cap_minus_one(digits: str, thousands: str | None) -> int | None:
    """`10,000`, `10.000` (European) and `10k` are all ten thousand; a limit of blocks is never a fraction."""
    number = int(re.sub(r"[,.]", "", digits)) * (1000 if thousands else 1)
    return max(1, number - 1) if number >= 1 else None


# -- texts -------------------------------------------------------------------------------------------------------------


class _Rate(msgspec.Struct):
    backoff_seconds: float = 0.0


class _RateData(msgspec.Struct):
    rate: _Rate


def _backoff_s(data: bytes) -> float | None:
    if not data:
        return None
    try:
        return max(BACKOFF_FLOOR_S, msgspec.json.decode(data, type=_RateData).rate.backoff_seconds)
    except (msgspec.DecodeError, RecursionError):
        return None


def _one_line(message: str) -> str:
    """One printable line: a provider's text ends up in logs and on terminals."""
    return " ".join("".join(char if char.isprintable() else " " for char in message[:MAX_READ_CHARS]).split())


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + "…"


def _untold(code: object, http_status: int | None) -> str:
    return f"refused without a message (code {code}, HTTP {http_status})"
