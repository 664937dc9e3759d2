"""Whatever a stranger sends, it is a 4xx or it is done; never a fault of ours."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

import pytest

from settler.api.app import ROUTES
from tests.api.conftest import Api, address, invoice
from tests.api.test_auth import addressed

REQUESTS = 250
STRANGE: tuple[Any, ...] = (
    *(
        "",
        " ",
        "\x7f",
        "\u202e",
        "💶",
        "\ud800",
        "\0",
        "x" * 3_000,
        "'; DROP TABLE invoices",
        "../..",
        "%00",
        "1e400",
        "-0",
    ),
    *(None, True, 0, -1, 2**63, 2**256, 10**400, 0.1, 1e308, [], {}, [[]], {"": {}}, "address", "USDC", "base"),
)


def twisted(body: Any, rng: random.Random) -> Any:
    """`body` with something in it replaced, added or taken away."""
    if isinstance(body, dict) and body and rng.random() < 0.8:
        name = rng.choice(list(body))
        match rng.randrange(4):
            case 0:
                return {n: v for n, v in body.items() if n != name}
            case 1:
                return {**body, str(rng.choice(STRANGE)): rng.choice(STRANGE)}
            case _:
                return {**body, name: twisted(body[name], rng)}
    if isinstance(body, list) and body and rng.random() < 0.8:
        return [twisted(body[0], rng), *body[1:]] * rng.choice((1, 1, 2))
    return rng.choice(STRANGE)


@pytest.mark.parametrize("seed", range(2))
async def test_post_invoice__twisted_bodies__are_never_5xx(api: Api, seed: int) -> None:
    rng = random.Random(seed)
    seen: set[int] = set()
    for _ in range(REQUESTS):
        good = invoice(metadata={"k": ["v", {"n": 1}]}, currency="USD", expires_in_s=60, merchant="m")
        good["options"] *= rng.choice((1, 1, 1, 2))
        if rng.random() < 0.3:
            good["options"] = [{"chain": "base", "token": "USDC", "pay_to": address(3), "match": "amount"}]
        body = twisted(good, rng) if rng.random() < 0.9 else good
        headers = {"Content-Type": "application/json"}
        response, answer = await api.ask("POST", "/v1/invoices", data=json.dumps(body), headers=headers)
        assert response.status < 500, (body, answer)
        seen.add(response.status)
    assert {201, 400, 422} <= seen


@pytest.mark.parametrize("seed", range(2))
async def test_get__twisted_queries_and_ids__are_never_5xx(api: Api, seed: int) -> None:
    rng = random.Random(seed)
    await api.post("/v1/invoices", invoice())
    names = (
        "status",
        "reference",
        "merchant",
        "exception",
        "limit",
        "cursor",
        "after",
        "chain",
        "reason",
        "invoice_id",
    )
    texts = [quote(str(s)[:200], errors="surrogatepass") for s in STRANGE] + [
        "%ff",
        "%",
        "settled",
        "aW52Xw",
        "eip155:1",
    ]
    for _ in range(REQUESTS):
        path = rng.choice(ROUTES).path
        path = addressed(path) if rng.random() < 0.5 else path.replace("{id}", rng.choice(texts) or "x")
        query = "&".join(f"{rng.choice(names)}={rng.choice(texts)}" for _ in range(rng.randrange(3)))
        response, answer = await api.ask("GET", f"{path}?{query}")
        assert response.status < 500, (path, query, answer)
