"""A safety policy put into force on the answers of a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.policies import SafetyPolicy
from skytells_nb.accessor.runs import Call
from skytells_nb.accessor.values import Answers
from skytells_nb.errors import RowError
from skytells_nb.warn import warn

NAMED = 5
"""Rows and reasons that a message names."""


def withhold(
    policy: SafetyPolicy, answers: Answers, made: Mapping[Any, pd.Series[Any]], call: Call
) -> dict[Any, pd.Series[Any]]:
    """These columns, null in the rows whose answers the policy withholds; one warning says how many and why.

    Raises RowError where the policy's action is "raise" and a row is withheld; every answer is in the cache by then.
    """
    reasons = _reasons(policy, answers)
    if policy.action == "mask":
        # A blocked prompt is null and told of already.
        reasons = {row: reason for row, reason in reasons.items() if row not in answers.report.errors}
    if not reasons:
        return dict(made)
    ranked = Counter(reasons.values()).most_common(NAMED)
    why = ", ".join(f"{reason} in {count:,}" for reason, count in ranked)
    message = f"The safety policy withholds {len(reasons):,} of {len(answers.rows):,} answers: {why}."
    if policy.action == "raise":
        index = answers.column.index
        shown = ", ".join(repr(index[row]) for row in list(reasons)[:NAMED])
        more = f", and {len(reasons) - NAMED:,} more" if len(reasons) > NAMED else ""
        raise RowError(
            f"{message} Rows: {shown}{more}. Pass safety='mask' to have null in their place.", report=answers.report
        )
    if call.on_error == "warn":
        warn(f"{message} They are null; details=True shows the verdicts.")
    hidden = np.zeros(len(answers.rows), dtype=np.bool_)
    hidden[list(reasons)] = True
    return {name: _masked(series, hidden) for name, series in made.items()}


def _masked(series: pd.Series[Any], hidden: NDArray[np.bool_]) -> pd.Series[Any]:
    """The column, null in these rows; ``None`` in a column of objects, as where there is no answer."""
    return series.mask(hidden, None) if series.dtype == object else series.mask(hidden)


def _reasons(policy: SafetyPolicy, answers: Answers) -> dict[int, str]:
    """Why a row is withheld, by position."""
    if not policy.acts:
        return {}
    # Most verdicts of a column are the same one, and judging it takes ten times as long as knowing it again.
    judged: dict[tuple[Any, ...], str | None] = {}
    reasons: dict[int, str] = {}
    for row, completed in enumerate(answers.rows):
        if completed is None:
            continue
        key = (completed.blocked, *(tuple(finding.items()) for finding in completed.findings))
        if key not in judged:
            judged[key] = policy.reason(completed.safety)
        reason = judged[key]
        if reason is not None:
            reasons[row] = reason
    return reasons
