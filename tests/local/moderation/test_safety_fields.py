"""Fields of the service's answers that say what was scored, and how severe it is."""

from __future__ import annotations

import asyncio

from local_fakes import WordModerator

from skytells_nb.local.moderation.safety_fields import CompletionModerator


def test_a_growing_text_is_scored_window_by_window() -> None:
    """A caller learns when the severities are new; what is left is scored at the end, and the highest stay."""

    async def grow() -> None:
        moderator = CompletionModerator(WordModerator())
        assert not await moderator.add("violence:low ")
        assert set(moderator.severities.values()) == {"safe"}
        assert await moderator.add("word " * 400)
        assert moderator.severities["violence"] == "low"
        assert not await moderator.add("violence:high ")
        assert moderator.severities["violence"] == "low"
        await moderator.finish()
        assert moderator.severities["violence"] == "high"
        assert await moderator.add("word " * 800)
        assert moderator.severities["violence"] == "high"

    asyncio.run(grow())
