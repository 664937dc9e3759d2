"""All of `/ops` put together: the pages and what is done on them behind their door, and how it refuses."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from settler.api.call import Services
from settler.api.errors import Handler, Problem, not_found, refusing_as
from settler.api.pages import ops, ops_actions, ops_text
from settler.api.pages.ops_door import LOGIN_PATH, LOGOUT_PATH, Door
from settler.api.pages.ops_visit import HEADERS, HOME, go_to, page_route
from settler.api.pages.render import page
from settler.storage.api_keys import Scope


def attach(app: web.Application, services: Services) -> None:
    door = Door(services)
    logout = page_route("POST", LOGOUT_PATH, Scope.READ, door.log_out)
    for route in (*ops.ROUTES, *ops_actions.ROUTES, logout):
        add = app.router.add_get if route.method == "GET" else app.router.add_post
        add(route.path, _refusing_in_pages(door.guarded(route)))
    app.router.add_get(LOGIN_PATH, _refusing_in_pages(door.show_login))
    app.router.add_post(LOGIN_PATH, _refusing_in_pages(door.log_in))
    app.router.add_get(HOME + "/", _to_home)
    app.router.add_get(HOME + "/{rest:.+}", _refusing_in_pages(_nothing))


def _refusing_in_pages(handler: Handler) -> Handler:
    return refusing_as(_problem_page, handler)


def _problem_page(problem: Problem, _request: web.Request) -> web.Response:
    status = problem.status
    # without the headers of the API: a browser is not to be asked for a bearer
    headers = {**HEADERS, **{name: text for name, text in problem.headers.items() if name in {"Retry-After", "Allow"}}}
    response = page(
        "ops_problem.html", status=status, headers=headers, problem=problem, detail=ops_text.plain(problem.detail)
    )
    if problem.closes:
        response.force_close()
    return response


async def _to_home(_request: web.Request) -> web.StreamResponse:
    response = go_to(HOME)
    response.set_status(HTTPStatus.PERMANENT_REDIRECT)
    return response


async def _nothing(_request: web.Request) -> web.StreamResponse:
    raise not_found("there is no such page")
