"""The model catalog and its prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from skytells_nb.types.base import ResponseModel

DEFAULT_MODEL = "deepbrain-router"
DEFAULT_EMBEDDING_MODEL = "skytells-embed-3-small"


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


class PriceCriterion(ResponseModel):
    field: str = ""
    billable_price: float | None = None
    unit: str | None = None


class Pricing(ResponseModel):
    amount: float | None = None
    currency: str | None = None
    unit: str | None = None
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
        """US dollars for a million tokens, ``None`` if the catalog has no price in them."""
        if self.pricing is None or (self.pricing.currency or "USD").upper() != "USD":
            return None
        prices: dict[str, float] = {}
        for criterion in self.pricing.criterias or ():
            scale = {"million_token": 1.0, "token": 1e6}.get(criterion.unit or self.pricing.unit or "")
            if scale is not None and criterion.billable_price is not None:
                prices[criterion.field] = criterion.billable_price * scale
        if "input_tokens" not in prices:
            return None
        return Price(prices["input_tokens"], prices.get("output_tokens", 0.0))
