"""``cluster`` and ``topics``: what a column is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import SimilarityMethods, check_count
from skytells_nb.accessor.call import RunOptions, check_options
from skytells_nb.accessor.embeddings import EmbeddingOptions, TextOrVectorColumn, UnitVectors
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.results import build_job, complete_texts
from skytells_nb.accessor.text_columns import Texts, belonging_texts, column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.report import ProgressCallback
from skytells_nb.errors import InputError, warn
from skytells_nb.vectors.arrays import Floats
from skytells_nb.vectors.kmeans import Clusters, choose_n_clusters, kmeans

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
    shown = [_examples(clusters, texts, number, MEMBERS) for number in range(len(clusters.centers))]
    return [
        _prompt(members, [shown[other][0] for other in _neighbours(clusters.centers, number) if shown[other]])
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
    members = np.flatnonzero(clusters.labels == number)
    found: dict[str, None] = {}
    for row in members[nearest_first(clusters.similarity[members])]:
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


class ClusterMethods(SimilarityMethods):
    """Groups of rows that mean similar things."""

    def cluster(
        self,
        column: Any = "embedding",
        n: int | None = None,
        *,
        name: bool = True,
        text: Any = None,
        into: Any = "cluster",
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with a category ``into`` for what each row is about, and its nearness to the centre.

        k-means on the directions of the embeddings; the same input gives the same clusters. ``n`` is their number; left
        out, it is the one from 2 to 20 with the highest mean silhouette (by cosine, on a sample of 2,000 rows). There
        are fewer where there are fewer different embeddings. ``<into>_score`` (float32) is the cosine with the centre.
        Both are null for rows without an embedding, or with one of zeros.

        The categories are in order of size, the largest first. ``chat_model`` names them, in one request each, from the
        eight texts nearest to the centre and one of each of the six nearest clusters, all cut to 300 characters; names
        that it gives twice get a number, and one that it could not give is "cluster" and a number. The texts are those
        of ``column``, or for embeddings those of the column ``text``, which may be left out where only one has texts.
        ``name=False`` asks no model: the categories are the whole numbers from 0.

        >>> df = pd.DataFrame({"text": ["a cat naps", "kittens sleep", "stocks fell", "shares dropped"]})
        >>> df.skytells.cluster("text", n=2, name=False, progress=False)["cluster"].tolist()
        [0, 0, 1, 1]
        """
        check_options(options)
        most = None if n is None else check_count("n", n)
        if not isinstance(name, bool):
            raise InputError(f"name is True or False; found {name!r}. The column of texts is named by text=.")
        self._check_into(into, column)
        source = TextOrVectorColumn(self._frame, column)
        rows = int(source.present.sum())
        if most is not None and most > rows:
            raise InputError(f"n={most} is more than the {rows:,} rows of {column!r} that are not null.")
        texts = self._texts_to_name(source, text) if name and rows else None
        with self._runs("cluster", on_error, progress, options) as runs:
            if texts is not None and options.get("budget") is not None:
                runs.check_budget_for(chat_model)
            vectors = _with_direction(source.vectors(runs, EmbeddingOptions(model, dimensions)))
            if not len(vectors):
                empty: pd.Series[Any] = pd.Series(pd.Categorical([None] * len(self._frame), categories=[]))
                score = self._placed(np.empty(0, dtype=np.float32), vectors.rows, "float32")
                return self._with({into: empty, self._beside(into, "score"): score}, runs.report)
            found = kmeans(vectors.matrix, most or choose_n_clusters(vectors.matrix))
            numbers = range(len(found.centers))
            names = numbers if texts is None else _names(found, texts[vectors.rows], runs, chat_model)
            codes = np.full(len(self._frame), -1, dtype=np.int64)
            codes[vectors.rows] = found.labels
            made = {
                into: pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(list(names)))),
                self._beside(into, "score"): self._placed(found.similarity, vectors.rows, "float32"),
            }
            return self._with(made, runs.report)

    def topics(self, into: Any = "cluster", *, text: Any = None, examples: int = 3) -> pd.DataFrame:
        """A table of what ``cluster`` found, the largest first; sends nothing.

        Columns: ``name``, ``size`` (rows), ``share`` (of the rows that have a cluster) and ``examples``, a list of up
        to that many different texts of the column ``text``, those nearest to the centre first. ``text`` may be left out
        where only one column has texts.

        >>> df = pd.DataFrame({"text": ["a cat naps", "kittens sleep", "stocks fell", "shares dropped"]})
        >>> df.skytells.cluster("text", n=2, name=False, progress=False).skytells.topics()["size"].tolist()
        [2, 2]
        """
        most = check_count("examples", examples)
        groups, scores = column_of(self._frame, into), column_of(self._frame, self._beside(into, "score"))
        if not isinstance(groups.dtype, pd.CategoricalDtype):
            raise InputError(
                f"Column {into!r} holds {groups.dtype}, and topics are the categories that cluster() makes."
            )
        texts = belonging_texts(self._frame, text, "The examples", other_than=[into])
        codes = groups.cat.codes.to_numpy()
        order = nearest_first(np.nan_to_num(scores.to_numpy(dtype=np.float32, na_value=-1), nan=-1))
        records = []
        for number, name in enumerate(groups.cat.categories):
            members = order[codes[order] == number]
            shown = list(dict.fromkeys(texts[row] for row in members if texts[row] is not None))[:most]
            if len(members):
                records.append((name, len(members), len(members) / int((codes >= 0).sum()), shown))
        table = pd.DataFrame(records, columns=["name", "size", "share", "examples"])
        return table.sort_values("size", ascending=False, kind="stable", ignore_index=True)

    def _texts_to_name(self, source: TextOrVectorColumn, text: Any) -> Texts:
        if source.texts is not None and text is None:
            return source.texts
        return belonging_texts(self._frame, text, "The names of clusters")


def _with_direction(vectors: UnitVectors) -> UnitVectors:
    """Without the vectors of zeros, which are nearer to no centre than to another."""
    some = vectors.matrix.any(axis=1)
    return vectors if some.all() else UnitVectors(vectors.matrix[some], vectors.rows[some])


def _names(found: Clusters, texts: Texts, runs: MultiRun, model: str | None) -> list[str]:
    """A name for each cluster from its members' texts (m,)."""
    call = runs.call()
    asked = replace(call, on_error="null") if call.on_error == "warn" else call
    job = build_job(asked, model, SYSTEM, SCHEMA, {"temperature": 0.0}, "name")
    shown = np.array([*prompts(found, texts), None], dtype=object)[:-1]
    answers = complete_texts(asked, job, shown, pd.RangeIndex(len(shown)), "name", SCHEMA)
    runs.add(answers.report)
    if answers.report.failed and call.on_error == "warn":
        reasons = "; ".join(answers.report.reasons())
        warn(f"{answers.report.failed:,} of {len(shown):,} clusters have no name from the model. {reasons}.")
    return unique_names([None if fields is None else fields["name"] for fields in answers.column])
