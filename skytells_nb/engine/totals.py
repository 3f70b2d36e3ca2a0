"""What a session used, over all its calls."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Totals:
    """What was used: requests, tokens, US dollars (``None`` where a price was not known), safety verdicts."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    filtered: int = 0
    blocked: int = 0
    unchecked: int = 0
    by_model: dict[str, Totals] = field(default_factory=dict)

    def add(self, model: str, requests: int, tokens_in: int, tokens_out: int, cost: float | None) -> None:
        for totals in (self, self.by_model.setdefault(model, Totals())):
            totals.requests += requests
            totals.input_tokens += tokens_in
            totals.output_tokens += tokens_out
            totals.cost = None if cost is None or totals.cost is None else totals.cost + cost
