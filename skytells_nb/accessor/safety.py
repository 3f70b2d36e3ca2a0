"""Safety policies: which verdicts an answer may have to be shown."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.errors import InputError, RowError, warn
from skytells_nb.types.safety import SEVERITIES, Finding, Safety, severity_rank

Action = Literal["keep", "mask", "raise"]

ANY = "*"
"""In the place of a category: every category that is not named."""
DETECTED = "medium"
"""The severity of what is only detected and not graded, such as a jailbreak or protected material."""
LEVELS = SEVERITIES[1:]
CATEGORIES = (
    "hate",
    "self_harm",
    "sexual",
    "violence",
    "profanity",
    "jailbreak",
    "indirect_attack",
    "protected_material_text",
    "protected_material_code",
    "custom_blocklists",
    "ungrounded_material",
)
"""Categories that the service is known to name; others may come."""


def _rank(finding: Finding) -> float:
    detected = severity_rank(DETECTED) if finding.detected else 0.0
    rank = severity_rank(finding.severity)
    return max(detected, rank if rank == 0 else max(rank, severity_rank(LEVELS[0])))


def _check(category: Any, threshold: Any) -> None:
    if not isinstance(category, str) or not category:
        raise InputError(f"A safety category is a name such as 'violence'; found {category!r}.")
    # A misspelt category would silently let everything through; one that resembles none may be the service's own.
    near = difflib.get_close_matches(category, CATEGORIES, n=1, cutoff=0.75)
    if category != ANY and category not in CATEGORIES and near:
        raise InputError(f"There is no safety category {category!r}. Did you mean {near[0]!r}?")
    if threshold is not None and threshold not in LEVELS:
        raise InputError(
            f"The threshold of {category!r} is {', '.join(map(repr, LEVELS))} or None; found {threshold!r}."
        )


@dataclass(frozen=True)
class SafetyPolicy:
    """From which severity on an answer is withheld, by category, and what happens then.

    ``thresholds`` maps categories to "low", "medium" or "high"; ``"*"`` stands for every category not named, ``None``
    leaves a category out. What is only detected counts as "medium", a severity that nobody knows as "low". An answer or
    prompt that the service itself filtered is withheld under every policy. ``unchecked=True`` withholds as well what
    the service gave no verdict on. ``action`` is "mask" (null in the place of the answer) or "raise".

    >>> policy = SafetyPolicy({"violence": "low", "*": "high"})
    >>> policy.reason(Safety((Finding("completion", 0, "violence", "medium"),)))
    'violence (medium)'
    """

    thresholds: Mapping[str, str | None]
    action: Action = "mask"
    unchecked: bool = False

    def __post_init__(self) -> None:
        if self.action not in ("keep", "mask", "raise"):
            raise InputError(f"The action of a safety policy is 'mask' or 'raise'; found {self.action!r}.")
        if not isinstance(self.thresholds, Mapping) or (not self.thresholds and self.action != "keep"):
            raise InputError(f"Thresholds are a dict such as {{'violence': 'low'}}; found {self.thresholds!r}.")
        for category, threshold in self.thresholds.items():
            _check(category, threshold)

    @classmethod
    def preset(cls, name: str, action: Action = "mask") -> SafetyPolicy:
        """A policy of ``PRESETS``, with another action: ``SafetyPolicy.preset("STRICT", "raise")``."""
        found = PRESETS.get(name) if isinstance(name, str) else None
        if found is None:
            raise InputError(f"There is no safety policy {name!r}. The presets are: {', '.join(PRESETS)}.")
        return cls(found.thresholds, action, found.unchecked)

    @classmethod
    def of(cls, given: Any) -> SafetyPolicy:
        """The policy that ``safety=`` names: an action, a preset, thresholds by category, or a policy.

        "mask" and "raise" take the thresholds of MODERATE.
        """
        if isinstance(given, SafetyPolicy):
            return given
        if isinstance(given, Mapping):
            return cls(given)
        if given == "keep":
            return KEEP
        if given in ("mask", "raise"):
            return cls.preset("MODERATE", given)
        if isinstance(given, str) and given in PRESETS:
            return PRESETS[given]
        raise InputError(
            f"safety is 'keep', 'mask', 'raise', one of {', '.join(PRESETS)}, or a dict of thresholds such as "
            f"{{'violence': 'low'}}; found {given!r}."
        )

    @property
    def acts(self) -> bool:
        """Whether this policy withholds anything."""
        return self.action != "keep"

    def reason(self, verdict: Safety | None) -> str | None:
        """Why an answer with this verdict is withheld, in a few words; ``None`` where it is not."""
        if not self.acts or verdict is None:
            return None
        against = [finding for finding in verdict.findings if self._forbids(finding)]
        if against:
            worst = max(against, key=lambda finding: (finding.filtered, _rank(finding)))
            how = worst.severity if severity_rank(worst.severity) else "filtered" if worst.filtered else "detected"
            return f"{worst.category} ({how})"
        if verdict.blocked:
            return "blocked"
        return "not checked" if self.unchecked and not verdict.checked else None

    def _forbids(self, finding: Finding) -> bool:
        threshold = self.thresholds.get(finding.category, self.thresholds.get(ANY))
        return finding.filtered or (threshold is not None and _rank(finding) >= severity_rank(threshold))


KEEP = SafetyPolicy(MappingProxyType({}), "keep")
"""Everything is shown; verdicts are in the details."""

PRESETS: Mapping[str, SafetyPolicy] = MappingProxyType(
    {
        "STRICT": SafetyPolicy(MappingProxyType({ANY: "low"})),
        "MODERATE": SafetyPolicy(MappingProxyType({ANY: "medium"})),
        "MINIMAL": SafetyPolicy(MappingProxyType({ANY: "high"})),
        "CHILD_SAFE": SafetyPolicy(MappingProxyType({ANY: "low"}), unchecked=True),
        "ENTERPRISE": SafetyPolicy(MappingProxyType({"hate": "low", "sexual": "low", ANY: "medium"}), unchecked=True),
    }
)
"""Policies by the names of the official SDK's templates; the thresholds are this library's."""

SafetyChoice: TypeAlias = (
    Literal["keep", "mask", "raise", "STRICT", "MODERATE", "MINIMAL", "CHILD_SAFE", "ENTERPRISE"]
    | Mapping[str, str | None]
    | SafetyPolicy
)
"""What ``safety=`` takes."""


def is_filtered(policy: SafetyPolicy, verdicts: Sequence[Safety | None]) -> NDArray[np.bool_]:
    """Which of these answers the policy withholds, bool (n,); ``None`` is a row without an answer, never withheld."""
    return np.fromiter(
        (policy.reason(verdict) is not None for verdict in verdicts), dtype=np.bool_, count=len(verdicts)
    )


NAMED = 5
"""Rows and reasons that a message names."""


def apply_policy(
    policy: SafetyPolicy, answers: CompletionColumns, made: Mapping[Any, pd.Series[Any]], call: VectorizedCall
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


def _reasons(policy: SafetyPolicy, answers: CompletionColumns) -> dict[int, str]:
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
