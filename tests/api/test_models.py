"""The models as the single source: their schemas can be made, and say what is checked."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from settler.api import models, queries
from settler.domain.drafting import MAX_OPTIONS
from settler.domain.invoices import Match
from tests.support.db import sqlite_alone

db_url = sqlite_alone

BODIES = (models.InvoiceCreate, models.InvoiceCancel, models.EndpointCreate, models.Nothing)
QUERIES = (
    queries.InvoiceQuery,
    queries.TransferQuery,
    queries.SettlementQuery,
    queries.EventQuery,
    queries.EndpointQuery,
    queries.DeliveryQuery,
)


@pytest.mark.parametrize("model", BODIES + QUERIES)
def test_schema__of_every_model__is_closed(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False


def test_schema__of_an_invoice__says_the_bounds() -> None:
    properties = models.InvoiceCreate.model_json_schema()["properties"]
    assert properties["amount"]["type"] == "string"
    assert properties["options"]["maxItems"] == MAX_OPTIONS
    assert properties["reference"]["maxLength"] == 200


def test_to_request__fills_in_what_was_left_out() -> None:
    body = models.InvoiceCreate.model_validate_json(
        '{"amount": "1.5", "reference": "r", "options": [{"chain": "base", "token": "USDC"}]}'
    )
    request = body.to_request()
    assert (request.merchant, request.amount, request.expires_in_s) == ("default", "1.5", None)
    assert (request.options[0].match, request.options[0].pay_to) == (Match.ADDRESS, None)
    assert body.to_request("acme").merchant == "acme"
