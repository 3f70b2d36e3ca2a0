"""Safety policies: which answers are masked or rejected because of their safety result."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import VectorizedCall, distinct
from skytells_nb.accessor.results import CompletionColumns
from skytells_nb.engine.operations.cached import findings_text
from skytells_nb.errors import InputError, RowError, warn
from skytells_nb.types.safety import SEVERITIES, Finding, Safety, severity_rank

Action = Literal["keep", "mask", "raise"]

ANY = "*"
"""As a category: every category that the policy does not name."""
DETECTED = "medium"
"""The severity of findings without one, such as a detected jailbreak or protected material."""
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
"""Known categories of the service; it may add others."""


def _rank(finding: Finding) -> float:
    detected = severity_rank(DETECTED) if finding.detected else 0.0
    rank = severity_rank(finding.severity)
    return max(detected, rank if rank == 0 else max(rank, severity_rank(LEVELS[0])))


def _check(category: Any, threshold: Any) -> None:
    if not isinstance(category, str) or not category:
        raise InputError(f"A safety category must be a name such as 'violence', got {category!r}.")
    # A misspelled category would silently match nothing; one that resembles no known category may be a new one.
    near = difflib.get_close_matches(category, CATEGORIES, n=1, cutoff=0.75)
    if category != ANY and category not in CATEGORIES and near:
        raise InputError(f"There is no safety category {category!r}. Did you mean {near[0]!r}?")
    if threshold is not None and threshold not in LEVELS:
        raise InputError(
            f"The threshold of {category!r} must be {', '.join(map(repr, LEVELS))} or None, got {threshold!r}."
        )


@dataclass(frozen=True)
class SafetyPolicy:
    """The severity from which answers are filtered, by category, and the action for filtered answers.

    ``thresholds`` maps categories to "low", "medium" or "high"; ``"*"`` stands for every other category, ``None``
    excludes a category. Findings without a severity count as "medium", an unknown severity as "low". Every policy
    filters what the service itself filtered; ``unchecked=True`` filters answers without a safety result too.
    ``action`` is "mask" (a missing value instead of the answer) or "raise".

    >>> policy = SafetyPolicy({"violence": "low", "*": "high"})
    >>> policy.reason(Safety((Finding("completion", 0, "violence", "medium"),)))
    'violence (medium)'
    """

    thresholds: Mapping[str, str | None]
    action: Action = "mask"
    unchecked: bool = False

    def __post_init__(self) -> None:
        if self.action not in ("keep", "mask", "raise"):
            raise InputError(f"The action of a safety policy must be 'mask' or 'raise', got {self.action!r}.")
        if not isinstance(self.thresholds, Mapping) or (not self.thresholds and self.action != "keep"):
            raise InputError(f"thresholds must be a dict such as {{'violence': 'low'}}, got {self.thresholds!r}.")
        for category, threshold in self.thresholds.items():
            _check(category, threshold)

    @classmethod
    def preset(cls, name: str, action: Action = "mask") -> SafetyPolicy:
        """Return a policy of ``PRESETS`` with another action: ``SafetyPolicy.preset("STRICT", "raise")``."""
        policy = PRESETS.get(name) if isinstance(name, str) else None
        if policy is None:
            raise InputError(f"There is no safety policy {name!r}. The presets are: {', '.join(PRESETS)}.")
        return cls(policy.thresholds, action, policy.unchecked)

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
            f"safety must be 'keep', 'mask', 'raise', one of {', '.join(PRESETS)}, or a dict of thresholds such as "
            f"{{'violence': 'low'}}, got {given!r}."
        )

    @property
    def acts(self) -> bool:
        """Whether this policy filters anything."""
        return self.action != "keep"

    def reason(self, safety: Safety | None) -> str | None:
        """Return why an answer with this safety result is filtered, ``None`` if it is not."""
        if not self.acts or safety is None:
            return None
        exceeding = [finding for finding in safety.findings if self._filters(finding)]
        if exceeding:
            worst = max(exceeding, key=lambda finding: (finding.filtered, _rank(finding)))
            grade = worst.severity if severity_rank(worst.severity) else "filtered" if worst.filtered else "detected"
            return f"{worst.category} ({grade})"
        if safety.blocked:
            return "blocked"
        return "not checked" if self.unchecked and not safety.checked else None

    def _filters(self, finding: Finding) -> bool:
        threshold = self.thresholds.get(finding.category, self.thresholds.get(ANY))
        return finding.filtered or (threshold is not None and _rank(finding) >= severity_rank(threshold))


KEEP = SafetyPolicy(MappingProxyType({}), "keep")
"""Nothing is filtered; the details hold the safety results."""

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


def is_filtered(policy: SafetyPolicy, results: Sequence[Safety | None]) -> NDArray[np.bool_]:
    """Return which answers the policy filters, bool (n,); a row without an answer (``None``) is never filtered."""
    each, codes = distinct(results)
    filtered = np.fromiter((policy.reason(safety) is not None for safety in each), dtype=np.bool_, count=len(each))
    return filtered[codes]


MAX_NAMED = 5
"""Rows and reasons that a message names."""


def apply_policy(
    policy: SafetyPolicy, answers: CompletionColumns, columns: Mapping[Any, pd.Series[Any]], call: VectorizedCall
) -> dict[Any, pd.Series[Any]]:
    """Return the columns with missing values for filtered answers; one warning has their number and the reasons.

    Raises RowError if the policy's action is "raise" and an answer is filtered; all answers are in the cache then.
    """
    reasons = _reasons(policy, answers)
    if policy.action == "mask":
        # A blocked prompt is missing and reported already.
        reasons = {row: reason for row, reason in reasons.items() if row not in answers.report.errors}
    if not reasons:
        return dict(columns)
    counts = Counter(reasons.values()).most_common(MAX_NAMED)
    summary = ", ".join(f"{reason} in {count:,}" for reason, count in counts)
    message = f"The safety policy filters {len(reasons):,} of {len(answers.rows):,} answers: {summary}."
    if policy.action == "raise":
        index = answers.column.index
        shown = ", ".join(repr(index[row]) for row in list(reasons)[:MAX_NAMED])
        more = f", and {len(reasons) - MAX_NAMED:,} more" if len(reasons) > MAX_NAMED else ""
        raise RowError(
            f"{message} Rows: {shown}{more}. Pass safety='mask' to get missing values instead.",
            report=answers.report,
        )
    if call.on_error == "warn":
        warn(f"{message} They are missing; details=True shows the safety results.")
    is_masked = np.zeros(len(answers.rows), dtype=np.bool_)
    is_masked[list(reasons)] = True
    return {name: _mask(series, is_masked) for name, series in columns.items()}


def _mask(series: pd.Series[Any], is_masked: NDArray[np.bool_]) -> pd.Series[Any]:
    """Return the column with missing values in these rows; ``None`` in a column of objects, as without an answer."""
    return series.mask(is_masked, None) if series.dtype == object else series.mask(is_masked)


def _reasons(policy: SafetyPolicy, answers: CompletionColumns) -> dict[int, str]:
    """Return why rows are filtered, by position."""
    if not policy.acts:
        return {}
    each, codes = distinct(answers.rows)
    # Most safety results of a column are equal, and evaluating one takes ten times as long as a look-up.
    known: dict[tuple[bool, str], str | None] = {}
    of_each: list[str | None] = []
    for completed in each:
        if completed is None:
            of_each.append(None)
            continue
        key = (completed.blocked, findings_text(completed.findings))
        if key not in known:
            known[key] = policy.reason(completed.safety)
        of_each.append(known[key])
    filtered = np.array([reason is not None for reason in of_each], dtype=np.bool_)[codes]
    return {row: reason for row in np.flatnonzero(filtered).tolist() if (reason := of_each[codes[row]]) is not None}


SAFETY_COLUMNS = ["row", "source", "index", "category", "severity", "filtered", "detected", "checked"]


def tidy_findings(column: pd.Series[Any], labels: pd.Index[Any], name: str) -> pd.DataFrame:
    """Return the findings of a column of JSON texts, a row for each, with the label of its row in ``row``.

    Each text is parsed once: most rows have equal ones. Raises InputError for a text that is no list of findings.
    """
    codes, texts = pd.factorize(column)
    parsed = [_parse_findings(text, name) for text in texts]
    lengths = np.array([*map(len, parsed), 0], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    row_lengths = lengths[codes]
    ends = np.cumsum(row_lengths)
    total = int(row_lengths.sum())
    positions = np.arange(total) + np.repeat(starts[codes] - (ends - row_lengths), row_lengths)
    table = pd.DataFrame([finding for found in parsed for finding in found], columns=SAFETY_COLUMNS[1:])
    tidy = table.take(positions).reset_index(drop=True)
    # As a list, whose dtype is that of the labels which occur.
    with_findings = np.flatnonzero(row_lengths)
    occurring: pd.Series[Any] = pd.Series(list(labels.take(with_findings)), dtype=None if total else object)
    rows = occurring.take(np.repeat(np.arange(len(with_findings)), row_lengths[with_findings])).reset_index(drop=True)
    return as_findings(tidy.assign(row=rows))


def as_findings(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of findings with its columns in order, and their dtypes."""
    return table[SAFETY_COLUMNS].astype({"filtered": bool, "checked": bool, "detected": "boolean"})


def _parse_findings(text: Any, name: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(finding, dict) for finding in found):
        raise InputError(
            f"Column {name!r} must hold JSON lists of findings, as details=True writes, got {str(text)[:40]!r}."
        )
    return found
