"""The moderator's severities as the service's safety fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread

from skytells_nb.local.protocols import TextModerator
from skytells_nb.types.safety import SEVERITIES, severity_rank

CATEGORIES = ("hate", "self_harm", "sexual", "violence")
FILTER_ERROR = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
"""What stands in a verdict's place when the filter did not run."""

_WINDOW = 240
"""Characters of a completion that are scored together: a few sentences."""

_SAFE = dict.fromkeys((*CATEGORIES, "jailbreak"), "safe")


async def score(moderator: TextModerator, texts: Sequence[str]) -> dict[str, str]:
    """The highest severity of each category over these texts."""
    kept = [text for text in texts if text.strip()]
    if not kept:
        return dict(_SAFE)
    scores = await anyio.to_thread.run_sync(moderator.score, kept, abandon_on_cancel=True)
    return highest_severities([_SAFE, *scores])


def highest_severities(scores: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: max((s.get(name, "safe") for s in scores), key=severity_rank) for name in _SAFE}


def prompt_results(severities: Mapping[str, str], *, block: bool = False, down: bool = False) -> dict[str, Any]:
    """``content_filter_results`` of a prompt; ``block`` makes violence the reason of a block that was asked for."""
    if down:
        return dict(FILTER_ERROR)
    if block:
        severities = {**severities, "violence": "high"}
    results = {name: _graded(severities[name]) for name in CATEGORIES}
    found = severity_rank(severities["jailbreak"])
    results["jailbreak"] = {
        "filtered": found >= SEVERITIES.index("high"),
        "detected": found >= SEVERITIES.index("medium"),
    }
    return {name: results[name] for name in sorted(results)}


def completion_results(severities: Mapping[str, str], *, whole: bool, down: bool = False) -> dict[str, Any]:
    """``content_filter_results`` of a completion; the protected-material keys only where the answer is ``whole``."""
    if down:
        return dict(FILTER_ERROR)
    results = {name: _graded(severities[name]) for name in CATEGORIES}
    if whole:
        for name in ("protected_material_code", "protected_material_text"):
            results[name] = {"filtered": False, "detected": False}
    return results


def is_filtered(results: Mapping[str, Any]) -> bool:
    return any(isinstance(verdict, Mapping) and bool(verdict.get("filtered")) for verdict in results.values())


def content_filter(results: Mapping[str, Any], source: str, length: int) -> dict[str, Any]:
    """One entry of ``content_filters``; ``length`` is the characters looked at."""
    return {
        "blocked": is_filtered(results),
        "source_type": source,
        "content_filter_raw": [],
        "content_filter_results": dict(results),
        "content_filter_offsets": {"start_offset": 0, "end_offset": length, "check_offset": 0},
    }


def _graded(severity: str) -> dict[str, Any]:
    return {"filtered": severity_rank(severity) >= SEVERITIES.index("high"), "severity": severity}


class CompletionModerator:
    """Scores a completion as it grows, a window of text at a time, and keeps the worst it found."""

    def __init__(self, moderator: TextModerator) -> None:
        self._moderator = moderator
        self._window = ""
        self._new = 0
        self.severities = dict(_SAFE)

    async def add(self, text: str) -> bool:
        """Take more text; whether this completed a window, so that :attr:`severities` is fresh."""
        self._window += text
        self._new += len(text)
        if self._new < _WINDOW:
            return False
        await self.finish()
        return True

    async def finish(self) -> None:
        """Score what is left."""
        if self._new:
            self.severities = highest_severities([self.severities, await score(self._moderator, [self._window])])
            # The end of this window opens the next, so that no sentence is judged only in halves.
            self._window, self._new = self._window[-_WINDOW // 2 :], 0
