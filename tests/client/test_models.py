"""The catalog and its prices."""

from __future__ import annotations

from typing import Any

import pytest
from answers import replying

from skytells_nb.errors import AuthenticationError, InputError, InvalidResponseError, ModelNotFoundError
from skytells_nb.types.models import LISTED_PRICES, Model, Price

ROUTER = {
    "name": "DeepBrain Router",
    "namespace": "deepbrain-router",
    "type": "text",
    "privacy": "public",
    "vendor": {"name": "Skytells", "verified": True, "slug": "skytells"},
    "billable": True,
    "pricing": {
        "amount": 0.5,
        "currency": "USD",
        "unit": "million_token",
        "criterias": [
            {"field": "input_tokens", "operator": "==", "value": True, "billable_price": 0.5, "unit": "million_token"},
            {
                "field": "output_tokens",
                "operator": "==",
                "value": True,
                "billable_price": 1.25,
                "unit": "million_token",
            },
        ],
    },
    "capabilities": ["text-to-text", "chat"],
    "metadata": {"edge_compatible": False, "openai_compatible": True, "cold_boot": False},
    "status": "operational",
}
IMAGES = {"name": "Pictures", "namespace": "pictures", "type": "image", "metadata": None, "vendor": None}


@pytest.mark.parametrize("body", [[ROUTER, IMAGES], {"object": "list", "data": [ROUTER, IMAGES]}])
def test_the_catalog_is_a_bare_array_or_a_list_object(body: Any) -> None:
    with replying(body) as (client, server):
        models = client.models.list()
        (exchange,) = server.exchanges
    assert [m.namespace for m in models] == ["deepbrain-router", "pictures"]
    assert [m.openai_compatible for m in models] == [True, False]
    assert (exchange.method, exchange.path, exchange.body) == ("GET", "/v1/models", b"")


def test_fields_that_are_null_or_missing_count_as_missing() -> None:
    with replying([{"name": None, "namespace": "x"}, {}]) as (client, _):
        assert [(m.name, m.namespace, m.price) for m in client.models.list()] == [("", "x", None), ("", "", None)]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": 5}, 5, ["text"], [[]]])
def test_what_is_no_catalog_is_not_trusted(body: Any) -> None:
    with replying(body) as (client, _), pytest.raises(InvalidResponseError):
        client.models.list()


def test_the_unified_envelope_of_the_catalog_is_read() -> None:
    body = {
        "status": False,
        "response": "No.",
        "error": {"http_status": 401, "message": "No.", "error_id": "UNAUTHORIZED"},
    }
    with replying(body, 401) as (client, _), pytest.raises(AuthenticationError):
        client.models.list()


def test_one_model_by_its_name() -> None:
    with replying(ROUTER) as (client, server):
        assert client.models.retrieve("deepbrain-router").price == Price(0.5, 1.25)
        client.models.retrieve("own/name with space")
        assert [e.path for e in server.exchanges] == [
            "/v1/models/deepbrain-router",
            "/v1/models/own%2Fname%20with%20space",
        ]


def test_a_model_that_is_not_there() -> None:
    body = {"error": {"message": "No.", "error_id": "MODEL_NOT_FOUND", "http_status": 404}}
    with replying(body, 404) as (client, _), pytest.raises(ModelNotFoundError):
        client.models.retrieve("x")


@pytest.mark.parametrize("name", ["", None, 5])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with replying(ROUTER) as (client, server):
        with pytest.raises(InputError, match="id"):
            client.models.retrieve(name)
        assert server.exchanges == []


def priced(**pricing: Any) -> Price | None:
    return Model.model_validate({"namespace": "x", "pricing": {**ROUTER["pricing"], **pricing}}).price  # type: ignore[dict-item]


def test_prices_are_for_a_million_tokens() -> None:
    assert priced() == Price(0.5, 1.25)
    per_token = [{"field": "input_tokens", "billable_price": 5e-7}, {"field": "output_tokens", "billable_price": 1e-6}]
    price = priced(unit="token", criterias=per_token)
    assert price is not None
    assert price.input == pytest.approx(0.5)
    assert price.output == pytest.approx(1.0)


def test_an_embedding_model_has_no_price_for_output() -> None:
    assert priced(criterias=[{"field": "input_tokens", "billable_price": 0.02}]) == Price(0.02, 0.0)


@pytest.mark.parametrize(
    "pricing",
    [
        {"currency": "EUR"},
        {"criterias": None},
        {"criterias": []},
        {"criterias": [{"field": "output_tokens", "billable_price": 1}]},
        {"criterias": [{"field": "input_tokens", "billable_price": None}]},
        {"criterias": [{"field": "input_tokens", "billable_price": 1, "unit": "image"}]},
    ],
)
def test_a_price_that_is_not_said_is_not_guessed(pricing: dict[str, Any]) -> None:
    assert priced(**pricing) is None


def test_the_cost_of_tokens() -> None:
    assert Price(0.5, 1.25).cost(1_000_000, 2_000_000) == 3.0
    assert Price(0.5, 1.25).cost(0) == 0.0


def test_the_listed_prices_are_those_of_the_product_page() -> None:
    assert set(LISTED_PRICES) == {"gpt-5", "gpt-5.4", "gpt-5.3-codex", "deepbrain-router"}
    assert set(LISTED_PRICES.values()) == {Price(0.5, 1.25)}
