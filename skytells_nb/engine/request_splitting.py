"""A request in parts: some of its inputs each, because together they were rejected, unanswered or too expensive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.context import RunContext
from skytells_nb.engine.planning import PlannedRequest, pack_requests, token_estimates
from skytells_nb.engine.service.request_size import RequestSize, SplitGroup

Numbers = NDArray[np.int64]


def halves(request: PlannedRequest) -> list[Numbers]:
    """Return the inputs of a request in two parts."""
    middle = len(request.numbers) // 2
    return [request.numbers[:middle], request.numbers[middle:]]


def in_parts(request: PlannedRequest, parts: Sequence[Numbers], context: RunContext) -> list[PlannedRequest]:
    """Return a request for each part of the inputs, with its share of the tokens."""
    tokens, estimated = (value / len(request.numbers) for value in (request.tokens, request.estimated))
    return [
        PlannedRequest(part, int(context.weights[part].sum()), tokens * len(part), estimated * len(part))
        for part in parts
    ]


def fitting_parts(request: PlannedRequest, size: RequestSize, context: RunContext) -> list[PlannedRequest]:
    """Return the requests that a request becomes within the bounds of ``size``: itself, if it fits."""
    count, most = len(request.numbers), size.max_tokens or request.estimated
    fits = count == 1 or (count <= (size.max_inputs or count) and request.estimated <= most)
    if fits and not request.too_large:
        return [request]
    estimates = token_estimates(context.plan.texts(request.numbers)) + context.job.overhead_tokens
    parts = pack_requests(request.numbers, estimates, max_items=size.max_inputs or count, max_tokens=max(1, int(most)))
    if len(parts) == 1 and request.too_large:
        parts = halves(request)
    bounded = size.max_inputs is not None or size.max_tokens is not None
    group = SplitGroup(len(parts), size.by_size, size.rejections) if request.too_large and bounded else None
    starts = np.cumsum([0, *(len(part) for part in parts)])[:-1]
    return [
        PlannedRequest(
            part,
            int(context.weights[part].sum()),
            request.tokens * estimated / request.estimated,
            float(estimated),
            group=group,
        )
        for part, estimated in zip(parts, np.add.reduceat(estimates, starts).tolist(), strict=True)
    ]
