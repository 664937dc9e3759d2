"""The way into the operator's pages: log in with an API key, and be known by a sealed cookie from then on.

With `auth = "none"` there is no login: whoever reaches the port is let in, by a name of this machine alone, and forms
carry a mark of this process. What does not belong here: the pages behind it (`ops`), what the cookie says
(`session`).
"""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote

import structlog
from aiohttp import web

from settler.api.auth import MAX_KEY_CHARS, Caller, caller_of, everybody
from settler.api.call import Services
from settler.api.errors import Problem
from settler.api.limits import Limiter
from settler.api.pages import ops_cookies
from settler.api.pages.forms import read_form
from settler.api.pages.ops_visit import FORM_MARK, HEADERS, HOME, Visit, go_to
from settler.api.pages.render import page
from settler.api.pages.session import NONCE_BYTES, Seal, Session, key_id_of, opened
from settler.api.route import Route
from settler.storage import api_keys, ops_sessions
from settler.storage.api_keys import Scope

log = structlog.get_logger(__name__)

LOGIN_PATH = "/ops/login"
LOGOUT_PATH = "/ops/logout"
MAX_NEXT_CHARS = 500
_SEAL_BYTES = 32
_OURS = re.compile(r"/ops(?:/[A-Za-z0-9_/-]*)?(?:\?[A-Za-z0-9_.=&%+-]*)?", re.ASCII)
"""Where a login may lead: a page of ours and nowhere else."""
_MARK = re.compile(r"[0-9a-f]{32}", re.ASCII)

_WRONG = "That is no live key. Paste the whole of it, as `settler api-key create` showed it: sk_ and 64 characters."
_ROTATED = "That key was rotated. Log in with the one that took its place."
_BLIND = "That key does not have the scope read, without which there is nothing to see here."
_NO_COOKIE = (
    "Your browser did not send back the cookie of this form. Try once more. If that does not help: cookies are taken "
    "over https, or over plain http at an IP address or at localhost."
)

PageAnswer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """Who is let in."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._own = Seal(services.entropy(_SEAL_BYTES))
        """Of this process: for forms where nobody logs in."""
        monotonic = services.clock.monotonic
        self._of_address = Limiter(rate_per_s=1 / 6, burst=10, monotonic=monotonic, name="login")
        self._of_all = Limiter(rate_per_s=20, burst=100, monotonic=monotonic, name="login")
        """Attempts to log in, of one address and of all. No guess finds a key of 256 bits: this bounds what they
        cost.
        """

    def guarded(self, route: Route) -> PageAnswer:
        """The page behind the login, its forms and its scope."""

        async def answered(request: web.Request) -> web.StreamResponse:
            is_form = request.method == "POST"
            if is_form:
                ops_cookies.refuse_foreign(request)
            entered = await self._enter(request, route)
            if entered is None:
                return self._to_login(request)
            visit, session = entered
            if is_form:
                visit = replace(visit, fields=await _own_form(visit))
            visit.caller.require(route.scope)
            response = await route.handler(visit)
            self._renew(request, response, visit.seal, session)
            return response

        return answered

    async def show_login(self, request: web.Request) -> web.StreamResponse:
        next_ = _next(request.query.get("next", ""))
        if self._services.auth == "none" or await self._session(request) is not None:
            return go_to(next_)
        return self._login_page(request, next_)

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        if self._services.auth == "none":
            return go_to(HOME)
        ops_cookies.refuse_foreign(request)
        fields = await read_form(request)
        next_ = _next(fields.get("next", ""))
        held = ops_cookies.read(request, ops_cookies.LOGIN) or ""
        if not held or not hmac.compare_digest(held.encode(), fields.get(FORM_MARK, "").encode()):
            return self._login_page(request, next_, said=_NO_COOKIE)
        return await self._try_key(request, fields.get("key", "").strip(), next_)

    async def log_out(self, visit: Visit) -> web.Response:
        """The session ends, also where its cookie was copied to."""
        if visit.session is not None:
            async with self._services.db.write() as conn:
                await ops_sessions.end(conn, visit.session.nonce)
        response = go_to(LOGIN_PATH)
        ops_cookies.drop(visit.request, response, ops_cookies.SESSION)
        return response

    async def _try_key(self, request: web.Request, text: str, next_: str) -> web.StreamResponse:
        self._bound(request)
        now = self._services.clock.now()
        could_be = 0 < len(text) <= MAX_KEY_CHARS and text.isascii() and text.isprintable()
        async with self._services.db.read() as conn:
            found = await api_keys.find_current(conn, text) if could_be else None
            was_rotated = could_be and found is None and await api_keys.find_live(conn, text, now=now) is not None
        if found is None:
            log.warning("ops.login_refused", address=self._services.limits.address_of(request))
            return self._login_page(request, next_, said=_ROTATED if was_rotated else _WRONG)
        key, key_hash = found
        if Scope.READ not in key.scopes:
            return self._login_page(request, next_, said=_BLIND)
        session = Session.begin(key.id, now=now, entropy=self._services.entropy(NONCE_BYTES))
        async with self._services.db.write() as conn:
            await ops_sessions.begin(conn, session.nonce, key_id=key.id, now=now)
        response = go_to(next_)
        ops_cookies.put(request, response, ops_cookies.SESSION, session.sealed(Seal.of_key(key_hash)))
        ops_cookies.drop(request, response, ops_cookies.LOGIN)
        log.info("ops.logged_in", key_id=key.id)
        return response

    def _bound(self, request: web.Request) -> None:
        """Counts an attempt. Raises `Problem` 429."""
        wait_s = self._of_address.take(self._services.limits.address_of(request))
        if wait_s is None:  # what one address tries beyond its own bound costs the others nothing
            wait_s = self._of_all.take("")
        if wait_s is not None:
            seconds = math.ceil(wait_s)
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"there were too many attempts to log in; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )

    def _login_page(self, request: web.Request, next_: str, *, said: str | None = None) -> web.Response:
        held = ops_cookies.read(request, ops_cookies.LOGIN) or ""
        # kept: the form may be open in another tab
        mark = held if _MARK.fullmatch(held) else self._services.entropy(NONCE_BYTES).hex()
        response = page(
            "login.html",
            status=HTTPStatus.OK if said is None else HTTPStatus.FORBIDDEN,
            headers=HEADERS,
            said=said,
            next_=next_,
            form_mark=mark,
        )
        ops_cookies.put(request, response, ops_cookies.LOGIN, mark)
        return response

    async def _enter(self, request: web.Request, route: Route) -> tuple[Visit, Session | None] | None:
        """Who is there; `None`: nobody we know."""
        if self._services.auth == "none":
            return self._visit(request, route, everybody(request), self._own, self._own.mark("form"), None), None
        found = await self._session(request)
        if found is None:
            return None
        session, caller, seal = found
        return self._visit(request, route, caller, seal, session.form_mark(seal), session), session

    def _visit(
        self, request: web.Request, route: Route, caller: Caller, seal: Seal, form_mark: str, session: Session | None
    ) -> Visit:
        return Visit(
            request=request,
            services=self._services,
            caller=caller,
            route=route,
            seal=seal,
            form_mark=form_mark,
            session=session,
        )

    async def _session(self, request: web.Request) -> tuple[Session, Caller, Seal] | None:
        """The session that the cookie holds, if it is open and its key is live still."""
        cookie = ops_cookies.read(request, ops_cookies.SESSION) or ""
        key_id = key_id_of(cookie)
        if key_id is None:
            return None
        now = self._services.clock.now()
        async with self._services.db.read() as conn:
            kept = await api_keys.find_live_by_id(conn, key_id)
            if kept is None:
                return None
            key, key_hash = kept
            seal = Seal.of_key(key_hash)
            session = opened(cookie, seal, now=now)
            if session is None or not await ops_sessions.is_open(conn, session.nonce, key_id=key.id):
                return None
        self._services.key_uses.note(key.id, now)
        return session, caller_of(key), seal

    def _to_login(self, request: web.Request) -> web.Response:
        """A strict cookie is not sent when a link elsewhere leads here: once more, from a page of ours, it is."""
        path = request.rel_url.raw_path_qs if request.method == "GET" else HOME
        if request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            return page("ops_onward.html", headers=HEADERS, onward=_next(path))
        return go_to(f"{LOGIN_PATH}?next={quote(_next(path), safe='')}")

    def _renew(self, request: web.Request, response: web.StreamResponse, seal: Seal, session: Session | None) -> None:
        """Used again: idle from now on. A page that refreshes itself does not count as use."""
        if session is None or request.path == LOGOUT_PATH or request.headers.get("Sec-Fetch-Dest") == "empty":
            return
        renewed = session.renewed(self._services.clock.now())
        if renewed is not None and isinstance(response, web.Response):
            ops_cookies.put(request, response, ops_cookies.SESSION, renewed.sealed(seal))


async def _own_form(visit: Visit) -> dict[str, str]:
    """What the form says. Raises `Problem` 403 for one that this session was not given."""
    fields = await read_form(visit.request)
    mark = fields.pop(FORM_MARK, "")
    if not hmac.compare_digest(mark.encode(), visit.form_mark.encode()):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            "this form is out of date: somebody logged in anew, or settler was started again, since it was opened; go "
            "back, load the page again and send it once more",
        )
    return fields


def _next(path: str) -> str:
    return path if len(path) <= MAX_NEXT_CHARS and _OURS.fullmatch(path) else HOME
