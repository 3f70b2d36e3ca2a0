"""``cluster`` and ``topics``: the subjects of a column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import DETERMINISTIC, SimilarityMethods, check_count
from skytells_nb.accessor.call import DryRunComplete, dry_run_of
from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.accessor.options import (
    ModelOptions,
    check_options,
    expand_options,
    given_parameters,
    model_parameters,
)
from skytells_nb.accessor.results import build_job, complete_texts, embed_texts
from skytells_nb.accessor.text_columns import Texts, resolve_texts
from skytells_nb.accessor.text_or_vector_column import EmbeddingOptions, TextOrVectorColumn
from skytells_nb.columns import column_of, from_matrix
from skytells_nb.embedding_columns import UnitVectors, unit_vectors_of
from skytells_nb.engine.engine import OnError
from skytells_nb.errors import InputError, warn
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.topics.names import (
    CONTRASTING_SYSTEM,
    NAME_CHARACTERS,
    SCHEMA,
    TEXT_CHARACTERS,
    contrasting_prompt,
    read_name,
    shorten,
    unique_names,
)
from skytells_nb.topics.tree import TopicParts, parts_of_topics
from skytells_nb.topics.words import distinctive_words, has_word_of, join_words
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.kmeans import MAX_CLUSTERS, Clusters, choose_n_clusters, kmeans

ClusterNames: TypeAlias = Literal["model", "words"] | bool | None
"""What ``name=`` takes."""

MEMBERS = 8
"""Members of a cluster that the model sees, those most similar to its center."""
OTHERS = 6
"""Other clusters, the most similar ones, of which it sees one member each."""


def prompts(clusters: Clusters, texts: Texts) -> list[str | None]:
    """Return a prompt for each cluster from the texts (m,) of its vectors; ``None`` if none of them has a text."""
    shown = [_examples(clusters, texts, number, MEMBERS) for number in range(len(clusters.centers))]
    return [
        contrasting_prompt(members, [shown[other][0] for other in _neighbors(clusters.centers, number) if shown[other]])
        for number, members in enumerate(shown)
    ]


def most_similar_first(similarity: Floats) -> Any:
    """Return positions by cosine with the center, the highest first, equal ones in order."""
    return np.argsort(-similarity, kind="stable")


def _examples(clusters: Clusters, texts: Texts, number: int, most: int) -> list[str]:
    """Return the different texts of the members most similar to a center."""
    members = np.flatnonzero(clusters.labels == number)
    examples: dict[str, None] = {}
    for row in members[most_similar_first(clusters.similarity[members])]:
        text = texts[row]
        if text is not None and text.strip():
            examples.setdefault(shorten(" ".join(text.split()), TEXT_CHARACTERS))
        if len(examples) == most:
            break
    return list(examples)


def _neighbors(centers: Floats, number: int) -> list[int]:
    order = most_similar_first(centers @ centers[number])
    return [int(other) for other in order if other != number][:OTHERS]


class ClusterMethods(SimilarityMethods):
    """The ``cluster`` and ``topics`` methods."""

    @expand_options(ModelOptions, defaults=DETERMINISTIC)
    def cluster(
        self,
        column: Any = "embedding",
        n: int | None = None,
        *,
        name: ClusterNames = "model",
        like: pd.DataFrame | None = None,
        text: Any = None,
        into: Any = "cluster",
        model: str | None = None,
        dimensions: int | None = None,
        chat_model: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[ModelOptions],
    ) -> pd.DataFrame:
        """Add a category for the subject of each row, and the similarity to the center of its cluster.

        k-means on the directions of the embeddings; the same input returns the same clusters. The categories are in
        order of size, the largest first.

        Parameters
        ----------
        column : hashable, default "embedding"
            Name of a column of texts, which are embedded first, or of embeddings.
        n : int, optional
            Number of clusters; by default the one from 2 to 20 with the highest mean silhouette (by cosine, on a sample
            of 2,000 rows). There are fewer where there are fewer different embeddings.
        name : {"model", "words"} or None, default "model"
            Where the names come from. "model": a chat model names each cluster in one request, from the eight texts
            most similar to the center and one of each of the six most similar clusters, all cut to 300 characters.
            "words": up to three words or phrases that set the texts of a cluster apart from all others (class TF-IDF),
            without a request. A name of the model that is missing, cut, given twice, repeats itself or shares no word
            with the texts gives way to such words. With ``None`` the categories are integers from 0. ``True`` is
            "model", ``False`` is None.
        like : pandas.DataFrame, optional
            A frame that has the same column and ``into`` from an earlier call: each row gets the cluster of it whose
            center is most similar, with its name, and no model names anything.
        text : hashable, optional
            Name of the column of texts to name clusters by, where ``column`` holds embeddings; by default the only
            column of texts.
        into : hashable, default "cluster"
            Name of the new column; ``<into>_score`` (float32) is the cosine with the center.
        model : str, optional
            Name of the embedding model; by default that of the session.
        chat_model : str, optional
            Name of the chat model that names the clusters; by default that of the session.

        Returns
        -------
        pandas.DataFrame
            The frame with both columns, missing for rows without an embedding or with one of zeros.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or holds neither texts nor embeddings; nothing is sent.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat naps", "kittens sleep", "stocks fell", "shares dropped"]})
        >>> df.skytells.cluster("text", n=2, name=False, progress=False)["cluster"].tolist()
        [0, 0, 1, 1]
        """
        check_options(options, self.cluster)
        parameters = model_parameters(options, params, DETERMINISTIC)
        most = None if n is None else check_count("n", n)
        if isinstance(name, (bool, np.bool_)):
            name = "model" if name else None
        if name not in ("model", "words", None):
            raise InputError(
                f'name must be "model", "words", None, True or False, got {name!r}. '
                "The column of texts is named by text=."
            )
        chat_only = given_parameters(options) + (["params"] if params is not None else [])
        if chat_only and (name != "model" or like is not None):
            given = "like=" if like is not None else f"name={name!r}"
            raise InputError(f"{chat_only[0]} is for a chat model, and {given} asks none. Leave it out.")
        self._check_into(into, column)
        if like is not None:
            earlier = _Earlier(like, column, into, n, progress)
        source = TextOrVectorColumn(self._frame, column, "cluster", progress)
        rows = int(source.present.sum())
        if most is not None and most > rows:
            raise InputError(
                f"n must be at most the number of rows of {column!r} that are not missing, {rows:,}, got {most}."
            )
        texts = self._texts_to_name(source, text) if name and rows and like is None else None
        asks = texts is not None and name == "model"
        unfinished = self._missing({into: pd.CategoricalDtype([]), self._suffixed(into, "score"): "float32"})
        with self._runs("cluster", on_error, progress, options, unfinished) as runs:
            if asks and options.get("budget") is not None:
                runs.check_budget_for(chat_model)
            embedding = EmbeddingOptions(model, dimensions)
            centers = earlier.centers(runs, embedding) if like is not None else None
            found = source.vectors(runs, embedding, last=not asks)
            dry_run = dry_run_of(options)
            if dry_run is not None and dry_run.has_placeholders and texts is not None and asks:
                _names(_expected_clusters(source, most), texts[source.present], runs, chat_model, parameters)
                dry_run.notes += [] if most else [f"upper limit for {MAX_CLUSTERS} clusters; set n= for an exact count"]
                raise DryRunComplete
            vectors = _with_direction(found)
            if not len(vectors):
                empty: pd.Series[Any] = pd.Series(pd.Categorical([None] * len(self._frame), categories=[]))
                score = self._column_at(np.empty(0, dtype=np.float32), vectors.rows, "float32")
                return self._with({into: empty, self._suffixed(into, "score"): score}, runs.report)
            if centers is not None:
                clusters = _assign(vectors.matrix, centers)
                names: Any = earlier.names
            else:
                if most is None:
                    with runs.step("choosing the number of clusters", unit="candidates") as choosing:
                        most = choose_n_clusters(vectors.matrix, on_progress=choosing, on_share=choosing.set_share)
                # How many passes it takes is not known before.
                with runs.step("clustering", unit="passes") as on_progress:
                    clusters = kmeans(vectors.matrix, most, on_progress=on_progress)
                names = range(len(clusters.centers))
            if texts is not None:
                own = texts[vectors.rows]
                given_names = _names(clusters, own, runs, chat_model, parameters) if asks else [None] * len(names)
                names = good_names(given_names, own.tolist(), clusters.labels)
            codes = np.full(len(self._frame), -1, dtype=np.int64)
            codes[vectors.rows] = clusters.labels
            new = {
                into: pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(list(names)))),
                self._suffixed(into, "score"): self._column_at(clusters.similarity, vectors.rows, "float32"),
            }
            return self._with(new, runs.report)

    def topics(
        self,
        into: Any = "cluster",
        *,
        text: Any = None,
        examples: int = 3,
        levels: Literal[1, 2] = 1,
        column: Any = "embedding",
    ) -> pd.DataFrame:
        """Return a table of the clusters that ``cluster`` found, the largest first; nothing is sent.

        Parameters
        ----------
        into : hashable, default "cluster"
            Name of the column of clusters.
        text : hashable, optional
            Name of the column of texts; by default the only column of texts.
        examples : int, default 3
            Number of different texts to show for each cluster, those most similar to the center first.
        levels : {1, 2}, default 1
            With 2, each cluster is followed by its parts: two to five directions of its vectors, named by the words
            that set them apart, as a map and an explorer show them on a closer look. Fewer than 40 rows have no parts.
        column : hashable, default "embedding"
            Name of the column of embeddings that ``levels=2`` needs.

        Returns
        -------
        pandas.DataFrame
            A row for each cluster: ``name``, ``size`` (rows), ``share`` (of the rows that have a cluster) and
            ``examples``, a list of texts. With two levels also ``part_of``, missing for a cluster.

        Raises
        ------
        InputError
            If a column is missing or is not one that ``cluster`` made, or the column of texts is not clear.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat naps", "kittens sleep", "stocks fell", "shares dropped"]})
        >>> df.skytells.cluster("text", n=2, name=False, progress=False).skytells.topics()["size"].tolist()
        [2, 2]
        """
        most = check_count("examples", examples)
        if levels not in (1, 2):
            raise InputError(f"levels must be 1 or 2, got {levels!r}.")
        groups, scores = column_of(self._frame, into), column_of(self._frame, self._suffixed(into, "score"))
        if not isinstance(groups.dtype, pd.CategoricalDtype):
            raise InputError(f"Column {into!r} must hold the categories that cluster() makes, got {groups.dtype}.")
        texts = resolve_texts(self._frame, text, "The examples", exclude=[into])
        codes = groups.cat.codes.to_numpy()
        order = most_similar_first(np.nan_to_num(scores.to_numpy(dtype=np.float32, na_value=-1), nan=-1))
        clustered = max(int((codes >= 0).sum()), 1)

        def record(name: Any, labels: Any, number: int) -> dict[str, Any]:
            members = order[labels[order] == number]
            shown = list(dict.fromkeys(texts[row] for row in members if texts[row] is not None))[:most]
            return {"name": name, "size": len(members), "share": len(members) / clustered, "examples": shown}

        topics = [record(name, codes, number) for number, name in enumerate(groups.cat.categories)]
        by_size = sorted((at for at, topic in enumerate(topics) if topic["size"]), key=lambda at: -topics[at]["size"])
        names = ["name", "size", "share", "examples"]
        if levels == 1:
            return pd.DataFrame([topics[at] for at in by_size], columns=names)
        parts = self._parts(codes, groups.cat.categories, texts, column)
        rows: list[dict[str, Any]] = []
        for at in by_size:
            rows.append({**topics[at], "part_of": None})
            for part, (topic, name) in enumerate(zip(parts.topics, parts.names, strict=True)):
                if topic == at and name:
                    rows.append({**record(name, parts.labels, part), "part_of": topics[at]["name"]})
        return pd.DataFrame(rows, columns=["name", "part_of", *names[1:]])

    def _parts(self, codes: Any, names: Any, texts: Texts, column: Any) -> TopicParts:
        """The parts of clusters by the vectors of their rows, labels by row of the frame."""
        column_of(self._frame, column, hint=" Pass the column of embeddings as column=.")
        found = _with_direction(unit_vectors_of(self._frame, column))
        own = ["" if isinstance(name, (int, np.integer)) else str(name) for name in names]
        parts = parts_of_topics(found.matrix, codes[found.rows], texts[found.rows].tolist(), own)
        labels = np.full(len(codes), -1, dtype=np.int64)
        labels[found.rows] = parts.labels
        return TopicParts(labels, parts.topics, parts.names)

    def _texts_to_name(self, source: TextOrVectorColumn, text: Any) -> Texts:
        if source.texts is not None and text is None:
            return source.texts
        return resolve_texts(self._frame, text, "The names of clusters")


def _with_direction(vectors: UnitVectors) -> UnitVectors:
    """Leave out vectors of zeros, which are equally similar to all centers."""
    some = vectors.matrix.any(axis=1)
    return vectors if some.all() else UnitVectors(vectors.matrix[some], vectors.rows[some])


def _expected_clusters(source: TextOrVectorColumn, n: int | None) -> Clusters:
    """Return clusters of equal sizes, for an estimate of what it costs to name those that are not known yet."""
    rows = int(source.present.sum())
    count = min(n or MAX_CLUSTERS, rows)
    return Clusters(
        labels=np.arange(rows, dtype=np.int64) % count,
        similarity=np.zeros(rows, dtype=np.float32),
        centers=np.zeros((count, 1), dtype=np.float32),
    )


def _names(
    clusters: Clusters, texts: Texts, runs: MultiRun, model: str | None, parameters: Mapping[str, Any]
) -> list[str | None]:
    """Return the model's name for each cluster, from the texts (m,) of its members."""
    call = runs.call()
    silent = replace(call, on_error="null") if call.on_error == "warn" else call
    job = build_job(silent, model, CONTRASTING_SYSTEM, SCHEMA, parameters, "name")
    inputs = np.array([*prompts(clusters, texts), None], dtype=object)[:-1]
    answers = complete_texts(silent, job, inputs, pd.RangeIndex(len(inputs)), "name", SCHEMA)
    runs.add(answers.report)
    if answers.report.failed and call.on_error == "warn":
        reasons = "; ".join(answers.report.reasons())
        warn(f"The model did not name {answers.report.failed:,} of {len(inputs):,} clusters. {reasons}.")
    return [None if fields is None else fields["name"] for fields in answers.column]


MEMBERS_COMPARED = 300
"""Members of a cluster whose words are compared with its name."""


def good_names(given: Sequence[str | None], texts: Sequence[str | None], labels: Any) -> list[str]:
    """Return the given names (k,), with words of the texts (m,) of a cluster where a name says nothing of them.

    A name says nothing if it is missing or cut, repeats itself, is given to another cluster too, or has no word (or a
    number that none) of the members.
    """
    names = [read_name(name or "") for name in given]
    folded = [name.casefold() for name in names]
    words = distinctive_words(texts, labels, len(names))
    chosen: list[str | None] = []
    for number, name in enumerate(names):
        members = [texts[row] for row in np.flatnonzero(labels == number)[:MEMBERS_COMPARED].tolist()]
        poor = folded.count(folded[number]) > 1 or not _describes(name, [text for text in members if text])
        chosen.append((_joined(words[number]) or name) if poor else name)
    return unique_names(chosen)


def _joined(words: list[str]) -> str:
    while len(words) > 1 and len(join_words(words)) > NAME_CHARACTERS:
        words = words[:-1]
    return join_words(words)


def _describes(name: str, members: Sequence[str]) -> bool:
    parts = re.findall(r"[^\W_]+", name.casefold())
    if not parts or name.endswith("…"):
        return False
    if len(parts) > 1 and (len(set(parts)) <= len(parts) / 2 or max(map(parts.count, parts)) > 2):
        return False
    numbers = {part for part in parts if any(character.isdigit() for character in part)}
    known = {part for text in members for part in re.findall(r"[^\W_]+", text.casefold())} if numbers else set()
    return numbers <= known and has_word_of(name, members)


class _Earlier:
    """The clusters of an earlier call: their names, and their centers from the vectors of its rows."""

    def __init__(self, frame: Any, column: Any, into: Any, n: int | None, progress: bool | ProgressCallback) -> None:
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"like must be a DataFrame that cluster() returned, got {type(frame).__name__}.")
        if n is not None:
            raise InputError("like= has a number of clusters. Leave out n=.")
        groups = column_of(frame, into)
        if not isinstance(groups.dtype, pd.CategoricalDtype):
            raise InputError(f"Column {into!r} of like= must hold the categories that cluster() makes.")
        self.names = groups.cat.categories
        self._codes = groups.cat.codes.to_numpy()
        self._source = TextOrVectorColumn(frame, column, "cluster", progress)

    def centers(self, runs: MultiRun, embedding: EmbeddingOptions) -> Floats:
        """The direction (k, d) of each cluster, zeros for one without rows; texts are embedded."""
        texts = self._source.texts
        if texts is None:
            vectors = self._source.vectors(runs, embedding)
        else:
            call = runs.call(last=False).without_progress()
            series, report = embed_texts(call, texts, pd.RangeIndex(len(texts)), embedding.model, embedding.dimensions)
            runs.add(report)
            vectors = UnitVectors.of(series)
        return self.directions(vectors)

    def directions(self, vectors: UnitVectors) -> Floats:
        """The direction (k, d) of the vectors of each cluster, zeros for one without rows."""
        codes = self._codes[vectors.rows]
        sums = np.zeros((len(self.names), vectors.matrix.shape[1]), dtype=np.float32)
        np.add.at(sums, codes[codes >= 0], vectors.matrix[codes >= 0])
        if not sums.any():
            raise InputError("like= has no row with a cluster and an embedding.")
        return unit_vectors(sums)


def only_centers(like: pd.DataFrame, column: Any, into: Any) -> pd.DataFrame:
    """Return a frame that ``like=`` takes in the place of this one, whose column holds embeddings.

    It has a row for each cluster, with its center.
    """
    earlier = _Earlier(like, column, into, None, False)
    centers = earlier.directions(unit_vectors_of(like, column))
    used = np.flatnonzero(centers.any(axis=1))
    names = pd.Categorical.from_codes(used, categories=earlier.names)
    return pd.DataFrame({column: from_matrix(centers[used]), into: names})


def _assign(matrix: Floats, centers: Floats) -> Clusters:
    """Assign unit vectors to the most similar of given centers; one of zeros has no rows."""
    if matrix.shape[1] != centers.shape[1]:
        raise InputError(
            f"The embeddings have {matrix.shape[1]:,} dimensions, and those of like= {centers.shape[1]:,}. "
            "Embed both with the same model and dimensions."
        )
    used = np.flatnonzero(centers.any(axis=1))
    similarity = matrix @ centers[used].T
    best = similarity.argmax(axis=1)
    return Clusters(used[best], similarity[np.arange(len(matrix)), best], centers)
