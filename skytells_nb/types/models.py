"""The model catalog and its prices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from skytells_nb.sanitize import quoted
from skytells_nb.types.base import ResponseModel

DEFAULT_MODEL = "deepbrain-router"
DEFAULT_EMBEDDING_MODEL = "skytells-embed-3-small"
MAX_TOTAL = 10_000_000
"""A total of tokens beyond this cannot be true, and tells nothing."""


def billed_tokens_out(tokens_in: int, tokens_out: int, total: int, details: Mapping[str, Any]) -> int:
    """Return the tokens out with those of reasoning, which some services count in the total or the details alone.

    >>> billed_tokens_out(5, 3, 208, {}), billed_tokens_out(5, 3, 0, {"reasoning_tokens": 200})
    (203, 203)
    >>> billed_tokens_out(5, 203, 208, {"reasoning_tokens": 200})
    203
    """
    reasoning = details.get("reasoning_tokens")
    beside = reasoning if isinstance(reasoning, int) and tokens_out < reasoning <= MAX_TOTAL else 0
    is_told = tokens_in > 0 and tokens_out > 0 and total <= MAX_TOTAL
    return max(tokens_out + beside, total - tokens_in) if is_told else tokens_out


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: float, output_tokens: float = 0) -> float:
        """US dollars for these tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000


LISTED_PRICES = {
    # The product page's table; it lists no price for any embedding model.
    "gpt-5": Price(0.50, 1.25),
    "gpt-5.4": Price(0.50, 1.25),
    "gpt-5.3-codex": Price(0.50, 1.25),
    "deepbrain-router": Price(0.50, 1.25),
}


class Vendor(ResponseModel):
    name: str = ""
    slug: str = ""
    verified: bool | None = None


class _Amount(ResponseModel):
    unit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, body: Any) -> Any:
        """Read an amount that is a text, such as ``"$0.50 per 1M tokens"``; others are left, and do not fit."""
        if not isinstance(body, Mapping):
            return body
        for name in AMOUNTS:
            value = body.get(name)
            if isinstance(value, bool):
                body = {**body, name: str(value)}
            found = _DOLLARS.fullmatch(value.strip()) if isinstance(value, str) else None
            if found is None:
                continue
            own, unit = found["unit"] or "", body.get("unit")
            if own and unit and tokens_per_unit(own) != tokens_per_unit(str(unit)):
                continue
            body = {**body, name: float(found["number"]), "unit": unit or own or None}
        return body


class PriceCriterion(_Amount):
    field: str = ""
    billable_price: float | None = None


class Pricing(_Amount):
    amount: float | None = None
    currency: str | None = None
    criterias: list[PriceCriterion] | None = None


class Model(ResponseModel):
    """One entry of the catalog; ``namespace`` is the name to pass as ``model``."""

    name: str = ""
    namespace: str = ""
    type: str = ""
    description: str = ""
    privacy: str = ""
    vendor: Vendor = Field(default_factory=Vendor)
    billable: bool | None = None
    pricing: Pricing | None = None
    capabilities: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    status: str = ""

    @property
    def openai_compatible(self) -> bool:
        """Whether this API serves the model (the catalog lists image and audio models too)."""
        return bool(self.metadata.get("openai_compatible"))

    @property
    def price(self) -> Price | None:
        """US dollars for a million tokens, ``None`` if the catalog has no price that can be converted to that."""
        prices, problem = self._prices()
        if problem is not None or "input_tokens" not in prices:
            return None
        return Price(prices["input_tokens"], prices.get("output_tokens", 0.0))

    @property
    def price_problem(self) -> str | None:
        """Why the catalog's price is not one for tokens, in words; ``None`` if it is one, or there is none."""
        return self._prices()[1]

    def _prices(self) -> tuple[dict[str, float], str | None]:
        """Return US dollars for a million tokens by field, and why one of them could not be converted."""
        pricing = self.pricing
        if pricing is None:
            raw = _raw(self, "pricing")
            return {}, None if raw is None else _unreadable(raw)
        currency = (pricing.currency or "USD").strip().upper()
        if currency not in ("USD", "US$", "$"):
            return {}, f"it is in {currency}, not in US dollars"
        criteria = [c for c in pricing.criterias or () if c.field in PRICED_FIELDS]
        raw = next((raw for one in (*criteria, pricing) if (raw := _raw(one, *AMOUNTS, "criterias")) is not None), None)
        if raw is None and pricing.amount is None and pricing.criterias is None:
            raw = pricing.model_extra or None
        if raw is not None:
            return {}, _unreadable(raw)
        stated = [(c.field, c.billable_price, c.unit or pricing.unit) for c in criteria]
        if pricing.amount is not None and all(price is None for _, price, _ in stated):
            if "embed" not in self.type.lower():
                # Taken for both, the price of input would let a budget pass several times what it is.
                return {}, "it has one price instead of separate input and output prices"
            stated = [("input_tokens", pricing.amount, pricing.unit)]
        prices: dict[str, float] = {}
        for field, price, unit in stated:
            tokens = tokens_per_unit(unit)
            if price is None:
                continue
            if tokens is None:
                named = (unit or "unnamed unit").strip().removeprefix("per ")
                return {}, f"it is {price:g} US dollars per {named}, not per token"
            if not 0 <= price < math.inf:
                return {}, f"{price:g} US dollars is not a valid price"
            prices[field] = price * (1_000_000 / tokens)
        return prices, None


def _raw(model: ResponseModel, *names: str) -> Any:
    """Return the first of these members that came and does not fit, as it came."""
    extra = model.model_extra or {}
    return next((extra[name] for name in names if extra.get(name) is not None), None)


def _unreadable(raw: Any) -> str:
    return f"it is {quoted(raw, 80)!r}, which cannot be read as US dollars per token"


AMOUNTS = ("billable_price", "amount")
"""Members that hold an amount."""
_DOLLARS = re.compile(
    r"(?i)(?:us)?\$?\s*(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:e-?\d\d?)?)\s*(?:usd|us\$|us dollars?|dollars?|\$)?"
    r"\s*(?:(?:/|per\b)\s*(?P<unit>.{1,60}))?"
)
"""Commas are left out: they may stand for thousands, or for decimals."""
PRICED_FIELDS = ("input_tokens", "output_tokens")
_MULTIPLES = {"": 1.0, "k": 1e3, "thousand": 1e3, "kilo": 1e3, "m": 1e6, "mm": 1e6, "million": 1e6, "mega": 1e6}
_MULTIPLES |= {"b": 1e9, "billion": 1e9, "hundred": 100.0}
_UNIT = re.compile(
    r"(?:(?:usd|\$)?(?:/|per))?(\d+(?:\.\d+)?(?:e\d\d?)?)?(?:x|\*)?([a-z]*?)s?(?:of)?(?:input|output|prompt|completion|text)?"
    r"token(?:s|\(s\))?"
)


def tokens_per_unit(unit: str | None) -> float | None:
    """Return the tokens in a unit of a price, such as 1,000 for ``"1k_tokens"``; ``None`` for a unit of anything else.

    >>> tokens_per_unit("million_token"), tokens_per_unit("per 1K tokens"), tokens_per_unit("second")
    (1000000.0, 1000.0, None)
    """
    plain = re.sub(r"[\s_,-]", "", (unit or "").lower())
    found = _UNIT.fullmatch(plain)
    if found is None:
        return 1e6 if plain in ("mtok", "1mtok") else 1e3 if plain in ("ktok", "1ktok") else None
    count, word = float(found[1] or 1), found[2]
    return count * _MULTIPLES[word] if word in _MULTIPLES and count > 0 else None
