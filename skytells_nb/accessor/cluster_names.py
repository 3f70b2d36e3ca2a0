"""Names for clusters: what a model is shown of each, and what is made of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skytells_nb.accessor.kmeans import Clusters
from skytells_nb.accessor.texts import Texts
from skytells_nb.accessor.vectors import Floats

MEMBERS = 8
"""Members of a cluster that the model sees, those nearest to its centre."""
OTHERS = 6
"""Other clusters, the nearest ones, of which it sees one member each."""
TEXT_CHARACTERS = 300
NAME_CHARACTERS = 60
QUOTED_OR_ENDED = " \"'“”\u2018\u2019`*.,;:"
"""What models put around a name."""
SYSTEM = "You name groups of texts by their topic, in two to five words."
QUESTION = "What is the topic of this group, and not of the others? Answer in two to five words."
SCHEMA: Mapping[str, Any] = {
    "title": "group",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def prompts(clusters: Clusters, texts: Texts) -> list[str | None]:
    """A prompt for each cluster, from the texts (m,) of its vectors; ``None`` where none of them has a text."""
    shown = [_examples(clusters, texts, number, MEMBERS) for number in range(len(clusters.centres))]
    return [
        _prompt(members, [shown[other][0] for other in _neighbours(clusters.centres, number) if shown[other]])
        for number, members in enumerate(shown)
    ]


def unique_names(given: Sequence[str | None]) -> list[str]:
    """The names in order, short and each another; a cluster without one is "cluster" and its number.

    >>> unique_names(["Cats", ' "Cats."\\n', None])
    ['Cats', 'Cats (2)', 'cluster 3']
    """
    names: list[str] = []
    for number, name in enumerate(given, 1):
        plain = cut(" ".join((name or "").split()).strip(QUOTED_OR_ENDED), NAME_CHARACTERS) or f"cluster {number}"
        tried, count = plain, 1
        while tried in names:
            count += 1
            tried = f"{plain} ({count})"
        names.append(tried)
    return names


def nearest_first(score: Floats) -> Any:
    """Positions by cosine with the centre, the highest first, equal ones in order."""
    return np.argsort(-score, kind="stable")


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _examples(clusters: Clusters, texts: Texts, number: int, most: int) -> list[str]:
    """The different texts of the members nearest to a centre."""
    members = np.flatnonzero(clusters.label == number)
    found: dict[str, None] = {}
    for row in members[nearest_first(clusters.score[members])]:
        text = texts[row]
        if text is not None and text.strip():
            found.setdefault(cut(" ".join(text.split()), TEXT_CHARACTERS))
        if len(found) == most:
            break
    return list(found)


def _neighbours(centres: Floats, number: int) -> list[int]:
    order = nearest_first(centres @ centres[number])
    return [int(other) for other in order if other != number][:OTHERS]


def _prompt(members: list[str], others: list[str]) -> str | None:
    if not members:
        return None
    groups = [("Texts of other groups:", others), ("Texts of this group:", members)]
    shown = ["\n".join([title, *(f"- {text}" for text in texts)]) for title, texts in groups if texts]
    return "\n\n".join([*shown, QUESTION])
