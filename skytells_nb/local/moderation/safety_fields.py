"""Converts the moderator's severities to the service's safety fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skytells_nb.local.cancellable_work import Cancelled, WorkCancelled, run_in_thread
from skytells_nb.local.protocols import TextModerator
from skytells_nb.types.safety import SEVERITIES, severity_rank

CATEGORIES = ("hate", "self_harm", "sexual", "violence")
FILTER_ERROR = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
"""Replaces the filter results when the filter is unavailable."""

_WINDOW = 240
"""Characters of a completion that are scored at once: a few sentences."""

_SAFE = dict.fromkeys((*CATEGORIES, "jailbreak"), "safe")


async def score(moderator: TextModerator, texts: Sequence[str]) -> dict[str, str]:
    """Return the highest severity of each category over all texts."""
    non_empty = [text for text in texts if text.strip()]
    if not non_empty:
        return dict(_SAFE)

    def work(cancelled: Cancelled) -> list[dict[str, str]]:
        scores: list[dict[str, str]] = []
        for text in non_empty:
            if cancelled():
                raise WorkCancelled
            scores += moderator.score([text])
        return scores

    return highest_severities([_SAFE, *await run_in_thread(work)])


def highest_severities(scores: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the highest severity of each category."""
    return {name: max((s.get(name, "safe") for s in scores), key=severity_rank) for name in _SAFE}


def prompt_results(severities: Mapping[str, str], *, block: bool = False, down: bool = False) -> dict[str, Any]:
    """Return the ``content_filter_results`` of a prompt; ``block`` raises violence to high."""
    if down:
        return dict(FILTER_ERROR)
    if block:
        severities = {**severities, "violence": "high"}
    results = {name: _severity_result(severities[name]) for name in CATEGORIES}
    rank = severity_rank(severities["jailbreak"])
    results["jailbreak"] = {
        "filtered": rank >= SEVERITIES.index("high"),
        "detected": rank >= SEVERITIES.index("medium"),
    }
    return {name: results[name] for name in sorted(results)}


def completion_results(severities: Mapping[str, str], *, whole: bool, down: bool = False) -> dict[str, Any]:
    """Return the ``content_filter_results`` of a completion; a ``whole`` one also has the protected-material keys."""
    if down:
        return dict(FILTER_ERROR)
    results = {name: _severity_result(severities[name]) for name in CATEGORIES}
    if whole:
        for name in ("protected_material_code", "protected_material_text"):
            results[name] = {"filtered": False, "detected": False}
    return results


def is_filtered(results: Mapping[str, Any]) -> bool:
    """Whether any category is filtered."""
    return any(isinstance(result, Mapping) and bool(result.get("filtered")) for result in results.values())


def content_filter(results: Mapping[str, Any], source: str, length: int) -> dict[str, Any]:
    """Return an entry of ``content_filters``; ``length`` is the number of characters that were scored."""
    return {
        "blocked": is_filtered(results),
        "source_type": source,
        "content_filter_raw": [],
        "content_filter_results": dict(results),
        "content_filter_offsets": {"start_offset": 0, "end_offset": length, "check_offset": 0},
    }


def _severity_result(severity: str) -> dict[str, Any]:
    return {"filtered": severity_rank(severity) >= SEVERITIES.index("high"), "severity": severity}


class CompletionModerator:
    """Scores a growing completion window by window, and records the highest severities."""

    def __init__(self, moderator: TextModerator) -> None:
        self._moderator = moderator
        self._window = ""
        self._unscored = 0
        self.severities = dict(_SAFE)

    async def add(self, text: str) -> bool:
        """Add text; return whether it completed a window, so that :attr:`severities` was updated."""
        self._window += text
        self._unscored += len(text)
        if self._unscored < _WINDOW:
            return False
        await self.finish()
        return True

    async def finish(self) -> None:
        """Score the remaining text."""
        if self._unscored:
            self.severities = highest_severities([self.severities, await score(self._moderator, [self._window])])
            # The next window starts with the end of this one, so that every sentence is scored as a whole.
            self._window, self._unscored = self._window[-_WINDOW // 2 :], 0
