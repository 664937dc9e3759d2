"""Answers over HTTP are bounded in bytes, one by one and together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chains.errors import ResultTooLarge
from chains.post import Post

BOUND = 1_000


@dataclass
class Node:
    """Answers with as many bytes as it is asked for; the last of them when it may."""

    url: str = ""
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = int(await request.text())
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * (asked - 1))
        await self.may_end.wait()
        await response.write(b"x")
        return response


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    app = web.Application()
    app.router.add_post("/", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/"))
        yield made
        made.may_end.set()


@pytest.fixture
async def post(node: Node) -> AsyncIterator[Post]:
    made = Post(node.url, max_connections=4, max_bytes=BOUND)
    yield made
    await made.close()


async def test_exchange__one_answer_beyond_the_bound__is_too_large_and_the_next_is_read(node: Node, post: Post) -> None:
    node.may_end.set()
    for _ in range(3):
        with pytest.raises(ResultTooLarge, match="1000 bytes"):
            await post.exchange(b"1001", [1])
        assert len((await post.exchange(b"1000", [1])).body) == BOUND


async def test_exchange__two_at_once_beyond_the_bound__one_of_them_is_too_large(node: Node, post: Post) -> None:
    """Found by the fault proxy: eight answers of 64 MB at once were each within the bound of one."""
    asked = [asyncio.create_task(post.exchange(b"600", [n])) for n in (1, 2)]
    (refused,), (other,) = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert isinstance(refused.exception(), ResultTooLarge)
    node.may_end.set()
    assert len((await other).body) == 600


async def test_exchange__canceled_half_way__gives_its_bytes_back(node: Node, post: Post) -> None:
    half_way, refused = (asyncio.create_task(post.exchange(b"900", [n])) for n in (1, 2))
    (done,), _ = await asyncio.wait([half_way, refused], return_when=asyncio.FIRST_COMPLETED)
    half_way = refused if done is half_way else half_way
    assert isinstance(done.exception(), ResultTooLarge), "the other has its bytes"
    half_way.cancel()
    await asyncio.gather(half_way, return_exceptions=True)
    node.may_end.set()
    assert len((await post.exchange(b"1000", [3])).body) == BOUND
