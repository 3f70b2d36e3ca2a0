"""The catalog as types: prices in one unit and currency, or none."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.serialization import validate
from skytells_nb.errors import SkytellsWarning
from skytells_nb.types.models import Model, Price, Vendor, tokens_per_unit

PRICES = st.floats(0, 1000, allow_subnormal=False)


def price(*criteria: dict[str, Any], **pricing: Any) -> Price | None:
    return Model.model_validate({"pricing": {"criterias": list(criteria), **pricing}}).price


def criterion(field: str, amount: Any, unit: str | None = None) -> dict[str, Any]:
    return {"field": field, "billable_price": amount, "unit": unit}


@given(PRICES, PRICES, st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_cost_is_the_sum_of_both_directions(into: float, out: float, tokens_in: int, tokens_out: int) -> None:
    cost = Price(into, out).cost(tokens_in, tokens_out)
    assert cost == pytest.approx(into * tokens_in / 1e6 + out * tokens_out / 1e6)
    assert Price(into, out).cost(tokens_in) == pytest.approx(into * tokens_in / 1e6)


@given(PRICES, PRICES)
def test_prices_of_a_token_and_of_a_million_are_the_same_price(into: float, out: float) -> None:
    million = price(criterion("input_tokens", into, "million_token"), criterion("output_tokens", out, "million_token"))
    one = price(criterion("input_tokens", into / 1e6, "token"), criterion("output_tokens", out / 1e6, "token"))
    assert million == Price(into, out)
    assert one is not None
    assert (one.input, one.output) == pytest.approx((into, out))


def test_the_unit_of_a_criterion_comes_before_that_of_the_model() -> None:
    both = (criterion("input_tokens", 2.0, "million_token"), criterion("output_tokens", 3e-6))
    assert price(*both, unit="token") == Price(2.0, pytest.approx(3.0))


@pytest.mark.parametrize(
    ("criteria", "pricing"),
    [
        ([], {}),
        ([criterion("output_tokens", 1.0, "million_token")], {}),
        ([criterion("input_tokens", None, "million_token")], {}),
        ([criterion("input_tokens", 1.0, "image")], {}),
        ([criterion("input_tokens", 1.0)], {}),
        ([criterion("input_tokens", 1.0, "million_token")], {"currency": "EUR"}),
    ],
)
def test_no_price_where_input_has_none_in_dollars_for_tokens(criteria: list[Any], pricing: dict[str, Any]) -> None:
    assert price(*criteria, **pricing) is None


@pytest.mark.parametrize(
    ("unit", "tokens"),
    [
        ("token", 1),
        ("tokens", 1),
        ("per_token", 1),
        ("USD/token", 1),
        ("thousand_token", 1e3),
        ("thousand_tokens", 1e3),
        ("1k_tokens", 1e3),
        ("1K tokens", 1e3),
        ("per 1,000 tokens", 1e3),
        ("kilotoken", 1e3),
        ("hundred_tokens", 100),
        ("million_tokens", 1e6),
        ("1M tokens", 1e6),
        ("$/1M tokens", 1e6),
        ("1000000_tokens", 1e6),
        ("MTok", 1e6),
        ("billion_tokens", 1e9),
        ("1e6 tokens", 1e6),
        ("usd_per_token", 1),
        ("USD per 1M input tokens", 1e6),
        ("million output tokens", 1e6),
        ("1K token(s)", 1e3),
    ],
)
def test_a_price_of_any_number_of_tokens_is_converted(unit: str, tokens: float) -> None:
    assert tokens_per_unit(unit) == tokens
    both = (criterion("input_tokens", tokens * 2e-6, unit), criterion("output_tokens", tokens * 3e-6, unit))
    converted = price(*both)
    assert converted is not None
    assert (converted.input, converted.output) == pytest.approx((2.0, 3.0))


@pytest.mark.parametrize(
    "unit", ["second", "image", "request", "character", "1k_characters", "0_tokens", "token_second", "", None]
)
def test_a_price_of_anything_else_is_refused_in_words(unit: str | None) -> None:
    assert tokens_per_unit(unit) is None
    for criteria in (
        [criterion("input_tokens", 0.5, unit)],
        [criterion("input_tokens", 0.5, "token"), criterion("output_tokens", 0.5, unit)],
    ):
        model = Model.model_validate({"pricing": {"criterias": criteria}})
        assert model.price is None
        assert model.price_problem is not None
        assert model.price_problem.startswith("it is 0.5 US dollars per")


def test_what_else_makes_a_price_none_is_said() -> None:
    def problem(*criteria: dict[str, Any], **pricing: Any) -> str | None:
        return Model.model_validate({"pricing": {"criterias": list(criteria), **pricing}}).price_problem

    assert problem(criterion("input_tokens", 1.0, "token"), currency="eur") == "it is in EUR, not in US dollars"
    assert problem(criterion("input_tokens", -1.0, "token")) == "-1 US dollars is not a valid price"
    assert problem(criterion("input_tokens", 1.0, "token")) is None
    assert problem() is None
    assert Model.model_validate({}).price_problem is None


@pytest.mark.parametrize("text", ["$0.50", "0.5", " US$ .5 ", "0.50 USD", "$5e-1", "0.5 US dollars"])
def test_a_price_in_words_is_converted(text: str) -> None:
    both = [criterion(f"{kind}_tokens", text, "million_token") for kind in ("input", "output")]
    assert price(*both) == Price(0.5, 0.5)
    each = [criterion(f"{kind}_tokens", f"{text} per 1K tokens", None) for kind in ("input", "output")]
    assert price(*each) == Price(500.0, 500.0)
    amount = {"type": "embedding", "pricing": {"amount": f"{text} / million tokens", "unit": "million_token"}}
    assert Model.model_validate(amount).price == Price(0.5, 0.0)


@pytest.mark.parametrize(
    "amount",
    [
        *("0,50", "1,000.50", "€0.50", "0.50 EUR", "free", "5 cents", "$0.50/1k tokens", "$1 per call", "about $1"),
        *(True, {"usd": 0.5}, [0.5]),
    ],
)
def test_a_price_that_cannot_be_read_is_quoted(amount: Any) -> None:
    quote = re.escape(f"it is {str(amount)!r}, which cannot be read as US dollars per token")
    forms: list[Any] = [
        {"criterias": [criterion("input_tokens", amount, "million_token")]},
        {"criterias": [criterion("input_tokens", 1.0, "token"), criterion("output_tokens", amount, "million_token")]},
        {"amount": amount, "unit": "million_token"},
        *([amount] if not isinstance(amount, dict) else [{"criterias": amount}]),
    ]
    for pricing in forms:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkytellsWarning)
            model = validate(Model, {"type": "embedding", "pricing": pricing}, request_id=None)
        assert model.price is None
        assert re.fullmatch(quote, model.price_problem or "")


def test_prices_in_another_form_are_quoted_whole() -> None:
    model = Model.model_validate({"pricing": {"prompt": "0.0000005", "completion": "0.000001"}})
    assert model.price is None
    assert "'prompt': '0.0000005', 'completion'" in (model.price_problem or "")


def test_one_amount_is_the_price_of_a_model_without_output_only() -> None:
    """It may be that of input alone, and output costs several times as much."""
    pricing = {"amount": 0.02, "unit": "million_token"}
    assert Model.model_validate({"type": "embedding", "pricing": pricing}).price == Price(0.02, 0.0)
    assert Model.model_validate({"type": "embedding", "pricing": {**pricing, "unit": "second"}}).price is None
    chat = Model.model_validate({"type": "chat", "pricing": pricing})
    assert chat.price is None
    assert chat.price_problem == "it has one price instead of separate input and output prices"


def test_what_is_no_price_of_these_tokens_is_passed_over() -> None:
    cached = criterion("cached_input_tokens", 0.1, "second")
    assert price(criterion("input_tokens", 1.0, "million_token"), cached) == Price(1.0, 0.0)


@pytest.mark.parametrize("currency", [None, "", "USD", "usd"])
def test_dollars_are_the_currency_where_none_is_named(currency: str | None) -> None:
    assert price(criterion("input_tokens", 0.0, "million_token"), currency=currency) == Price(0.0, 0.0)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [(None, False), ({}, False), ({"openai_compatible": False}, False), ({"openai_compatible": True}, True)],
)
def test_a_model_is_served_here_where_the_catalog_says_so(metadata: Any, expected: bool) -> None:
    assert validate(Model, {"metadata": metadata}, request_id=None).openai_compatible is expected


def test_a_model_may_lack_everything() -> None:
    model = Model.model_validate({})
    assert (model.name, model.namespace, model.price, model.vendor) == ("", "", None, Vendor())
    assert (model.capabilities, model.metadata, model.openai_compatible, model.billable) == ([], {}, False, None)
