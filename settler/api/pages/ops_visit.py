"""One request of an operator's page: who is there, what the form said, and the answers that pages give."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel

from settler.api.call import Call
from settler.api.invalid import validate_query
from settler.api.pages import ops_text
from settler.api.pages.render import page
from settler.api.pages.session import Seal, Session
from settler.api.queries import NoQuery
from settler.api.route import Route
from settler.storage.api_keys import Scope

HOME = "/ops"
HEADERS: Mapping[str, str] = {
    # With no-referrer, a browser says `Origin: null` with a form: it could not be told from another site's.
    "Referrer-Policy": "same-origin",
    "Vary": "Cookie",
}
FORM_MARK = "form_mark"
"""The field of every form that proves it is of this session."""
ONCE = "once"
"""The field of a form that tells it from another: sent twice, it has its effect once."""
ONCE_BYTES = 16
_DONE = "done"
_ONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a form was not taken, to be shown beside it with what was typed."""

    form: str
    status: HTTPStatus
    problems: tuple[str, ...]
    fields: Mapping[str, str]

    def typed(self, form: str, name: str) -> str:
        return self.fields.get(name, "") if form == self.form else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit(Call):
    seal: Seal
    form_mark: str
    session: Session | None
    """`None`: no keys are asked for, so that there is nothing to log out of."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What the form said, without what proves that it is ours."""

    def may(self, scope: str) -> bool:
        return scope in self.caller.scopes

    @property
    def is_bound(self) -> bool:
        """Sees one merchant's objects alone."""
        return self.caller.merchant is not None

    def explorer(self, chain: str, chain_id: int) -> str | None:
        """The web site that shows the chain's transactions, where one is known."""
        offer = self.services.catalog.get(chain)
        return offer.explorer if offer is not None and offer.chain_id == chain_id else None

    @property
    def once(self) -> str | None:
        """What tells this form from another; `None` where it said nothing of use."""
        text = self.fields.get(ONCE, "")
        return text if _ONCE.fullmatch(text) else None

    def asked(self, model: type[M]) -> M:
        """The query string as `model`; what a filter leaves empty counts as left out. Raises `InvalidRequest`."""
        assert model is self.route.query, f"{self.route.path} says it takes another query string than it reads"
        query = self.request.query
        return validate_query(model, {name: text for name, text in query.items() if text and name != _DONE})

    def page(
        self, template: str, *, status: int = HTTPStatus.OK, refused: Refused | None = None, **values: Any
    ) -> web.Response:
        """The template with `values`, in which nothing moves a cursor or turns the direction of what is read."""
        return page(
            template,
            status=status if refused is None else refused.status,
            headers=HEADERS,
            **ops_text.plain(values),
            visit=self,
            who=ops_text.plain(self.caller.name),
            place=self.request.path,
            refused=None if refused is None else ops_text.plain_refusal(refused),
            done=self._done(),
            now=self.services.clock.now(),
            new_once=self._new_once,
            words=ops_text,
        )

    def see(self, path: str, done: str) -> web.Response:
        """303 to a page that says what was done: one of `ops_text.DONE`."""
        assert done in ops_text.DONE, f"{done} says nothing"
        return go_to(f"{path}?{_DONE}={done}.{self.seal.mark('done', self.form_mark, path, done)}")

    def _done(self) -> str | None:
        """What was done, if it was us who said so, to this session, about this page."""
        code, _, mark = self.request.query.get(_DONE, "").partition(".")
        is_ours = code in ops_text.DONE and self.seal.fits(mark, "done", self.form_mark, self.request.path, code)
        return ops_text.DONE[code] if is_ours else None

    def _new_once(self) -> str:
        return self.services.entropy(ONCE_BYTES).hex()


PageHandler = Callable[[Visit], Awaitable[web.Response]]


def page_route(
    method: Literal["GET", "POST"],
    path: str,
    scope: Scope,
    handler: PageHandler,
    *,
    query: type[BaseModel] = NoQuery,
) -> Route:
    """A page, said as the API's calls are."""

    async def entered(call: Call) -> web.StreamResponse:
        assert isinstance(call, Visit), "the door makes a visit of every request"
        return await handler(call)

    return Route(method=method, path=path, scope=scope, handler=entered, summary=handler.__name__, query=query)


def go_to(path: str) -> web.Response:
    """303: to be asked for with GET."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path, "Cache-Control": "no-store", **HEADERS})
