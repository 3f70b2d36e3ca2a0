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


def findings(results: Any, source: Source, index: int = 0) -> tuple[Finding, ...]:
    """Return the findings in one ``content_filter_results`` mapping; none for other values.

    A blocklist has one of three forms (a result, a result with details, a list of entries) and is filtered if any part
    of it is. An ``error`` entry means that the filter did not run: categories that are not flagged are unchecked.
    """
    if not _is_mapping(results):
        return ()
    failed = results.get("error") is not None
    parsed: list[Finding] = []
    for category, result in results.items():
        if category == "error":
            continue
        if _is_mapping(result):
            filtered = bool(result.get("filtered")) or _any_filtered(result.get("details"))
            severity = result.get("severity")
            detected = result.get("detected")
        elif isinstance(result, list):
            filtered, severity, detected = _any_filtered(result), None, None
        else:
            continue
        finding = Finding(
            source,
            index,
            str(category),
            severity if isinstance(severity, str) else None,
            filtered,
            bool(detected) if detected is not None else None,
        )
        if failed and not (finding.filtered or finding.detected or severity_rank(finding.severity) > 0):
            finding = replace(finding, checked=False, severity=None)
        parsed.append(finding)
    if failed:
        parsed.append(Finding(source=source, index=index, category=UNCHECKED, checked=False))
    return tuple(parsed)


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    # The abstract class alone takes five times as long, a dozen times for each completion.
    return type(value) is dict or isinstance(value, Mapping)


def _any_filtered(entries: Any) -> bool:
    return isinstance(entries, list) and any(isinstance(e, Mapping) and bool(e.get("filtered")) for e in entries)


class PromptFilterResult(ResponseModel):
    """Chat: the result for one prompt, at the root of the response."""

    prompt_index: int = 0
    content_filter_results: dict[str, Any] | None = None


class ContentFilter(ResponseModel):
    """Responses: one result, of the prompt or of the completion."""

    blocked: bool = False
    source_type: str = "completion"
    content_filter_raw: list[Any] | None = None
    content_filter_results: dict[str, Any] | None = None
    content_filter_offsets: dict[str, Any] | None = Field(default=None)


def prompt_findings(results: Iterable[PromptFilterResult] | None) -> tuple[Finding, ...]:
    """Return the findings of chat's root ``prompt_filter_results``."""
    return tuple(
        finding for r in results or () for finding in findings(r.content_filter_results, "prompt", r.prompt_index)
    )
