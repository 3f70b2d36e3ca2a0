"""What the safety filter found, in words: one wording for cell and panel."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skytells_nb.wire.safety import Finding, Safety, severity_rank

_SOURCES = {"prompt": "the prompt", "completion": "the answer"}


def found_words(flagged: Iterable[Finding], *, filtered: bool = True) -> str:
    """Categories with what was found in them, and where; with ``filtered``, which of them were withheld.

    >>> found_words([Finding("prompt", 0, "self_harm", "high", filtered=True)])
    'self harm high filtered in the prompt'
    """

    def facts(finding: Finding) -> list[str]:
        graded = finding.severity if severity_rank(finding.severity) > 0 else None
        found = graded or ("detected" if finding.detected else "")
        return [found, "filtered" if filtered and finding.filtered else ""]

    return _placed(flagged, facts)


def looked_words(safety: Safety) -> str:
    """What the filter looked at, and where, whatever it found."""
    return _placed(safety.findings, lambda finding: [])


def speaks_of_answer(safety: Safety) -> bool:
    """Whether there is any verdict on the answer: one on the prompt alone says nothing of it."""
    return any(finding.source == "completion" for finding in safety.findings)


def _placed(findings: Iterable[Finding], facts: Callable[[Finding], list[str]]) -> str:
    said: dict[str, list[str]] = {}
    for finding in findings:
        words = " ".join(filter(None, [finding.category.replace("_", " "), *facts(finding)]))
        said.setdefault(_SOURCES[finding.source], []).append(words)
    return "; ".join(f"{', '.join(dict.fromkeys(words))} in {place}" for place, words in said.items())
