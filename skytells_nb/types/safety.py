"""Safety results: from the three fields of the service to one flat list of findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from pydantic import Field

from skytells_nb.types.base import ResponseModel

Source = Literal["prompt", "completion"]

SEVERITIES = ("safe", "low", "medium", "high")
"""Severity levels, least first; a response may contain others, which rank above ``safe`` and below ``low``."""

INCOMPLETE = ("interrupted", "truncated", "error")
"""Finish reasons of this library, for what had arrived of a stream; its result would have come at the end."""

_RAN = frozenset({"", "ok", "success", "succeeded", "complete", "completed", "done", "safe", "pass", "passed"})
"""What the status of a check says that ran; services have no common words for the others, such as "timeout"."""

UNCHECKED = "all"
"""Category of the finding for a check that the filter could not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The filter's result for one category, in the prompt or in one completion."""

    source: Source
    index: int
    category: str
    severity: str | None = None
    filtered: bool = False
    detected: bool | None = None
    checked: bool = True


@dataclass(frozen=True, slots=True)
class Safety:
    """Every finding of one exchange.

    ``filtered`` is true if something was withheld, ``severity`` is the highest one (``None`` if nothing was graded),
    and ``checked`` is false if the filter returned no result: a missing result is not a pass.
    """

    findings: tuple[Finding, ...] = ()
    blocked: bool = False

    @property
    def filtered(self) -> bool:
        return self.blocked or any(f.filtered for f in self.findings)

    @property
    def checked(self) -> bool:
        return bool(self.findings) and all(f.checked for f in self.findings)

    @property
    def severity(self) -> str | None:
        graded = [f.severity for f in self.findings if f.severity is not None]
        return max(graded, key=_severity_order, default=None)

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """The findings above ``safe``: filtered, detected or graded."""
        return tuple(f for f in self.findings if f.filtered or f.detected or severity_rank(f.severity) > 0)

    def merge(self, other: Safety) -> Safety:
        """Merge two results: OR of filtered and detected, the higher severity."""
        merged: dict[tuple[Source, int, str], Finding] = {}
        for new in (*self.findings, *other.findings):
            key = (new.source, new.index, new.category)
            old = merged.get(key)
            merged[key] = new if old is None else _worst(old, new)
        return Safety(tuple(merged.values()), self.blocked or other.blocked)

    def records(self) -> list[dict[str, Any]]:
        """Return one dict for each finding: source, index, category, severity, filtered, detected, checked."""
        # Without a loop over the names, which takes twice as long, for every completion.
        return [
            {
                "source": f.source,
                "index": f.index,
                "category": f.category,
                "severity": f.severity,
                "filtered": f.filtered,
                "detected": f.detected,
                "checked": f.checked,
            }
            for f in self.findings
        ]

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]], *, blocked: bool = False) -> Safety:
        return cls(tuple(Finding(**record) for record in records), blocked)


def severity_rank(severity: str | None) -> float:
    """Return the rank of a severity: 0 safe, 1 low, 2 medium, 3 high; an unknown name is 0.5, ``None`` 0."""
    if severity is None:
        return 0.0
    name = severity.lower()
    return float(SEVERITIES.index(name)) if name in SEVERITIES else 0.5


def _severity_order(severity: str) -> tuple[float, str]:
    """By rank, names of one rank alphabetically, so that the result does not depend on the order of merging."""
    return severity_rank(severity), severity


def _worst(old: Finding, new: Finding) -> Finding:
    detected = None if old.detected is None and new.detected is None else bool(old.detected or new.detected)
    graded = [severity for severity in (old.severity, new.severity) if severity is not None]
    return replace(
        old,
        severity=max(graded, key=_severity_order, default=None),
        filtered=old.filtered or new.filtered,
        detected=detected,
        checked=old.checked and new.checked,
    )


RESULTS = ("content_filter_results", "content_filter_result")
"""Names of the mapping of results: upstream sends the singular too."""


def findings(results: Any, source: Source, index: int = 0) -> tuple[Finding, ...]:
    """Return the findings in one ``content_filter_results`` mapping, or a list of results; none for other values.

    A blocklist has one of three forms (a result, a result with details, a list of entries) and is filtered if any part
    of it is. An ``error`` entry means that the filter did not run: categories that are not flagged are unchecked. A
    category whose result is an error, empty or not readable is unchecked too: what was not said is not a pass.
    """
    if not _is_mapping(results):
        results = results_by_category(results)
        if results is None:
            return ()
    failed = _says_error(results.get("error"))
    parsed: list[Finding] = []
    for category, result in results.items():
        if category == "error":
            continue
        # Nearly every result: a grade or a detection, and nothing else.
        plain = type(result) is dict and len(result) == 2 and result.get("filtered") is False
        if plain and type(grade := result.get("severity")) is str and grade in SEVERITIES:
            finding = Finding(source, index, category, grade)
        elif plain and result.get("detected") is False:
            finding = Finding(source, index, category, None, False, False)
        else:
            finding = _finding(str(category), result, source, index)
        if failed and finding.checked and not _is_flagged(finding):
            finding = replace(finding, checked=False, severity=None)
        parsed.append(finding)
    if failed:
        parsed.append(Finding(source=source, index=index, category=UNCHECKED, checked=False))
    return tuple(parsed)


def results_by_category(results: Any) -> dict[str, Any] | None:
    """Return a list of results, each with its category or under it, as a mapping; ``None`` for other values.

    Of several results for one category the worst counts. An entry that cannot be read leaves everything unchecked.

    >>> results_by_category([{"category": "hate", "severity": "low"}, {"violence": {"severity": "safe"}}])
    {'hate': {'severity': 'low'}, 'violence': {'severity': 'safe'}}
    """
    if not isinstance(results, list) or not any(map(_is_mapping, results)):
        return None
    found: dict[str, Any] = {}
    for entry in results:
        name = next((n for n in _CATEGORY if isinstance(entry.get(n), str)), None) if _is_mapping(entry) else None
        if name is not None:
            read: dict[str, Any] = {entry[name]: {n: value for n, value in entry.items() if n != name}}
        else:
            read = dict(entry) if _is_mapping(entry) else {}
        merge_results(found, read or {UNCHECKED: None})
    return found


_CATEGORY = ("category", "name", "type", "label", "id")
"""Names of the member that holds the category of a result in a list."""


def merge_results(kept: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Keep the worst result of each category."""
    for category, result in new.items():
        old = kept.get(category)
        if old is None or (result and is_worse({category: result}, {category: old})):
            kept[category] = result


def model_findings(owner: ResponseModel, source: Source, index: int = 0) -> tuple[Finding, ...]:
    """Return the findings of a part of a response, whichever name its results have.

    Results that are neither a mapping nor a list of results are unchecked as a whole.
    """
    results, extra = getattr(owner, RESULTS[0]), owner.__pydantic_extra__
    found = findings(results, source, index) if results else ()
    if extra and (RESULTS[0] in extra or RESULTS[1] in extra):
        for name in RESULTS:
            results = extra.get(name)
            if results is not None and not _is_mapping(results) and results_by_category(results) is None:
                found += (Finding(source, index, UNCHECKED, checked=False),)
            found += findings(results, source, index)
    return found


def _finding(category: str, result: Any, source: Source, index: int) -> Finding:
    if not _is_mapping(result):
        if isinstance(result, list):
            withheld = _any_filtered(result)
            return Finding(source, index, category, None, withheld, None, withheld or _ran_all(result))
        # A bare grade instead of a result.
        grade, has_value = _severity(result)
        return Finding(source, index, category, grade, False, None, has_value)
    filtered, detected = _truth(result.get("filtered")), _truth(result.get("detected"))
    if result.get("blocked") is not None or result.get("flagged") is not None:
        # The same under other names; of both the worse counts.
        filtered = _truth(result.get("blocked")) or filtered
        detected = _truth(result.get("flagged")) or detected
    severity = _severity(result.get("severity"))[0]
    listed = result.get("details")
    withheld = bool(filtered) or _any_filtered(listed)
    has_value = filtered is not None or detected is not None or severity is not None or bool(listed)
    # A value that cannot be read may have been a flag, and an error beside values means that they are not a result.
    clear = all(
        value is not None or result.get(name) is None
        for name, value in (("filtered", filtered), ("detected", detected), ("severity", severity))
    )
    finding = Finding(source, index, category, severity, withheld, detected)
    if (has_value and clear and _ran_all([result, listed])) or _is_flagged(finding):
        return finding
    return replace(finding, checked=False, severity=None)


def _is_flagged(finding: Finding) -> bool:
    return bool(finding.filtered or finding.detected or severity_rank(finding.severity) > 0)


def _truth(value: Any) -> bool | None:
    """Return a yes or no, also one written as text or number; ``None`` for anything else."""
    if value is True or value is False:
        return value
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    return None


_TRUTHS = {
    **dict.fromkeys(("true", "yes", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "0", "0.0"), False),
}


def _severity(value: Any) -> tuple[str | None, bool]:
    """Return the name of a severity, and whether one was given: as text, or as a number from 0 (safe) to 7.

    Upstream grades 2 as low, 4 as medium and 6 as high. A number between 0 and 1 is of another scale: an unknown name.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            name = text.lower()
            return (name if name in SEVERITIES else text) or None, bool(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None, False
    if 0 < value < 1:
        return f"{value:g}", True
    grade = 0 if value == 0 else 1 if value < 4 else 2 if value < 6 else 3
    return SEVERITIES[grade], True


def _says_error(value: Any) -> bool:
    """Whether the value of an ``error`` entry says that there was one."""
    return value is not None and value is not False


def _ran_all(parts: Any) -> bool:
    """Whether none of a result, its details and their entries says that its check did not run to its end."""
    if isinstance(parts, list):
        return all(map(_ran_all, parts))
    if not _is_mapping(parts):
        return True
    status, code = parts.get("status"), parts.get("status_code")
    if (isinstance(status, str) and status.strip().lower() not in _RAN) or status is False:
        return False
    if any(isinstance(number, int) and number >= 400 for number in (status, code)):
        return False
    return not (
        _says_error(parts.get("error"))
        or any(parts.get(name) for name in ("error_code", "error_message", "errors"))
        or any(_truth(parts.get(name)) is False for name in ("checked", "evaluated", "completed", "success", "ran"))
        or any(_truth(parts.get(name)) for name in ("skipped", "timed_out", "failed", "unavailable", "disabled"))
    )


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    # The abstract class alone takes five times as long, a dozen times for each completion.
    return type(value) is dict or isinstance(value, Mapping)


def _any_filtered(entries: Any) -> bool:
    if _is_mapping(entries):
        # Details in the form of one entry, or of entries by their names.
        parts = [entry for entry in entries.values() if _is_mapping(entry)]
        return bool(_truth(entries.get("filtered"))) or any(bool(_truth(part.get("filtered"))) for part in parts)
    return isinstance(entries, list) and any(map(_any_filtered, entries))


def with_unchecked(safety: Safety, answered: Iterable[int]) -> Safety:
    """Return the safety result with a finding for each answer (by index) of which the filter says nothing.

    Only where the service reports safety at all: without any finding, nothing counts as checked anyway.
    """
    if not safety.findings:
        return safety
    seen = {f.index for f in safety.findings if f.source == "completion"}
    silent = tuple(Finding("completion", i, UNCHECKED, checked=False) for i in answered if i not in seen)
    return Safety(safety.findings + silent, safety.blocked) if silent else safety


class PromptFilterResult(ResponseModel):
    """Chat: the result for one prompt, at the root of the response."""

    prompt_index: int = 0
    content_filter_results: dict[str, Any] | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found in the prompt; an entry without any result says that it was not checked."""
        found = model_findings(self, "prompt", self.prompt_index)
        if found or not (RESULTS[0] in self.model_fields_set or any(n in (self.model_extra or {}) for n in RESULTS)):
            return found
        return (Finding("prompt", self.prompt_index, UNCHECKED, checked=False),)


class ContentFilter(ResponseModel):
    """Responses: one result, of the prompt or of the completion."""

    blocked: bool = False
    source_type: str = "completion"
    content_filter_raw: list[Any] | None = None
    content_filter_results: dict[str, Any] | None = None
    content_filter_offsets: dict[str, Any] | None = Field(default=None)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found; an entry without any result, unless it blocked, says that nothing was checked."""
        source: Source = "prompt" if self.source_type == "prompt" else "completion"
        found = model_findings(self, source)
        if found or self.blocked or RESULTS[0] not in self.model_fields_set:
            return found
        return (Finding(source, 0, UNCHECKED, checked=False),)


def prompt_findings(results: Iterable[PromptFilterResult] | None) -> tuple[Finding, ...]:
    """Return the findings of chat's root ``prompt_filter_results``."""
    return tuple([finding for result in results for finding in result.findings]) if results else ()


def root_findings(owner: ResponseModel) -> tuple[Finding, ...]:
    """Return the findings of results at the root of a chat response, where some gateways send them."""
    extra = owner.__pydantic_extra__
    if not extra:
        return ()
    found = tuple(finding for name in RESULTS for finding in findings(extra.get(name), "completion"))
    for name in ("prompt_annotations", "prompt_filter_result"):
        for entry in _entries(extra.get(name)):
            found += PromptFilterResult.model_construct(**entry).findings
    return found


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the entries of a list that may be one entry by itself."""
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if _is_mapping(entry)]


def is_worse(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether one mapping of results says something worse than another: filtered, detected, a higher severity."""

    def severity_key(results: Mapping[str, Any]) -> tuple[bool, bool, float]:
        found = findings(results, "completion")
        return (
            any(f.filtered for f in found),
            any(bool(f.detected) for f in found),
            max((severity_rank(f.severity) for f in found), default=0.0),
        )

    return severity_key(new) > severity_key(old)
