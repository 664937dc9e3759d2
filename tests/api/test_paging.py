"""Lists in pages: no row twice and none left out, also while rows are added."""

from __future__ import annotations

from itertools import chain
from typing import Any

from tests.api.conftest import Api, invoice


async def add(api: Api, count: int) -> list[str]:
    made = []
    for _ in range(count):
        api.clock.advance(0.001)
        made.append((await api.post("/v1/invoices", invoice()))["id"])
    return made


async def pages(api: Api, path: str, *, between: Any = None) -> list[list[str]]:
    """The ids of each page, from the first to the last; `between` is awaited after each."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        answer = await api.get(path + cursor)
        found.append([row["id"] for row in answer["data"]])
        if answer["next_cursor"] is None:
            return found
        cursor = f"&cursor={answer['next_cursor']}"
        if between is not None:
            await between()


async def test_list__in_pages__newest_first_without_gap_or_repeat(api: Api) -> None:
    made = await add(api, 7)
    found = await pages(api, "/v1/invoices?limit=3")
    assert [len(page) for page in found] == [3, 3, 1]
    assert list(chain(*found)) == made[::-1]


async def test_list__a_full_last_page__has_no_next(api: Api) -> None:
    made = await add(api, 4)
    assert await pages(api, "/v1/invoices?limit=2") == [made[:1:-1], made[1::-1]]


async def test_list__rows_are_added_meanwhile__those_there_before_come_once(api: Api) -> None:
    made = await add(api, 6)

    async def one_more() -> None:
        await add(api, 1)

    found = list(chain(*await pages(api, "/v1/invoices?limit=1", between=one_more)))
    assert found == made[::-1]


async def test_list__with_a_filter__pages_through_what_fits(api: Api) -> None:
    made = await add(api, 5)
    for id_ in made[::2]:
        await api.post(f"/v1/invoices/{id_}/cancel", {}, status=200)
    found = list(chain(*await pages(api, "/v1/invoices?status=canceled&limit=1")))
    assert found == made[::2][::-1]


async def test_list__without_a_limit__shows_50(api: Api) -> None:
    await add(api, 51)
    found = await pages(api, "/v1/invoices?")
    assert [len(page) for page in found] == [50, 1]


async def test_events__pulled_while_more_are_written__each_comes_once_and_in_order(api: Api) -> None:
    made = await add(api, 3)
    told: list[str] = []
    after = ""
    answer: Any = None
    for round_ in range(4):
        answer = await api.get(f"/v1/events?limit=2{after}")
        told += [event["data"]["id"] for event in answer["data"]]
        if answer["data"]:
            after = f"&after={answer['data'][-1]['id']}"
        if round_ < 2:
            made += await add(api, 1)
    assert told == made
    assert answer == {"data": [], "next_cursor": None}


async def test_events__by_cursor__is_the_same_as_by_id(api: Api) -> None:
    await add(api, 3)
    first = await api.get("/v1/events?limit=1")
    by_cursor = await api.get(f"/v1/events?cursor={first['next_cursor']}")
    by_id = await api.get(f"/v1/events?after={first['data'][0]['id']}")
    assert by_cursor == by_id
    assert len(by_id["data"]) == 2
    both = f"/v1/events?cursor={first['next_cursor']}&after={first['data'][0]['id']}"
    await api.refused("GET", both, 422)
