"""An inverted file: vectors in lists by their nearest center, of which a search reads only the nearest ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from skytells_nb.vectors.arrays import (
    BLOCK_ELEMENTS,
    Floats,
    Indices,
    distinct_rows,
    has_direction,
    row_blocks,
    unit_vectors,
)
from skytells_nb.vectors.kmeans import SEED, fit_centers, sample_rows
from skytells_nb.vectors.neighbors import nearest_by_cosine

ROWS_PER_LIST = 500
"""Mean length of a list; twice as many cost a fifth more time at a recall of 0.99, half as many a third more."""
MAX_LISTS = 4096
TRAINING_ROWS_PER_LIST = 32
CALIBRATION_ROWS = (500, 4000)
"""Rows whose exact neighbors are compared at first, and at most where few of them have any."""
MIN_CALIBRATION_QUERIES = 200
"""Rows with neighbors after which the calibration stops."""
MAX_STATED_RECALL = 0.9999
MIN_PROBES = 4
QUERY_ROWS = 4096
"""Queries that are searched together."""
DEFAULT_RECALL = 0.99
MAX_EXACT_PAIRS = 20_000_000_000
"""Pairs of which all are compared unless ``recall`` asks otherwise: minutes on two cores."""
MIN_INDEX_ROWS = 20_000
"""Vectors below which an index costs more than it saves."""
MAX_PROBED_SHARE = 0.3
"""Share of the lists above which comparing all pairs costs less than searching lists."""


class InvertedFile:
    """Unit vectors (n, d) in lists by the nearest of their centers, with a measured recall.

    A search compares a query with the vectors of the ``n_probes`` lists whose centers are nearest to it. How many that
    are is measured for the data: for a sample of queries the exact neighbors are found by brute force, and
    ``n_probes`` is the smallest number of lists that contains the share ``recall`` of them, averaged over the queries.

    The vectors are copied in the order of their lists, so that a list is one block of memory. With ``empty=True`` the
    lists are filled by :meth:`add`.

    Jégou, H., Douze, M. and Schmid, C. (2011), Product quantization for nearest neighbor search, IEEE TPAMI 33,
    117-128, section IV, without the quantization.
    """

    def __init__(self, matrix: Floats, *, empty: bool = False) -> None:
        self._matrix = matrix
        rng = np.random.default_rng(SEED)
        n_lists = int(np.clip(len(matrix) // ROWS_PER_LIST, 1, MAX_LISTS))
        self.centers = fit_centers(sample_rows(matrix, n_lists * TRAINING_ROWS_PER_LIST, rng), n_lists, rng)
        self.n_probes = self.n_lists = len(self.centers)
        self.recall = 1.0
        self._list_of = np.concatenate([(matrix[block] @ self.centers.T).argmax(axis=1) for block in self._blocks()])
        sizes = np.bincount(self._list_of, minlength=self.n_lists)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._counts = np.zeros(self.n_lists, dtype=np.int64)
        # Allocated lazily by the system: pages that are never written take no memory.
        self._vectors = np.empty_like(matrix)
        self._rows = np.empty(len(matrix), dtype=np.int64)
        if not empty:
            for block in row_blocks(matrix):
                self.add(np.arange(len(matrix))[block])

    def _blocks(self) -> Iterator[slice]:
        step = max(1, BLOCK_ELEMENTS // self.n_lists)
        return (slice(start, start + step) for start in range(0, len(self._matrix), step))

    def add(self, rows: Indices) -> None:
        """Add these rows of the matrix to their lists."""
        lists = self._list_of[rows]
        order = np.argsort(lists, kind="stable")
        lists, rows = lists[order], rows[order]
        firsts = np.searchsorted(lists, lists)
        at = self._starts[lists] + self._counts[lists] + np.arange(len(lists)) - firsts
        self._vectors[at] = self._matrix[rows]
        self._rows[at] = rows
        self._counts += np.bincount(lists, minlength=self.n_lists)

    def calibrate(
        self,
        queries: Floats,
        neighbors: Callable[[Floats], Indices],
        recall: float,
        *,
        itself: Indices | None = None,
        made_at: float | None = None,
    ) -> None:
        """Set ``n_probes`` to the smallest number of lists with this recall, and ``recall`` to the measured one.

        ``queries`` is a sample in random order, and ``itself`` the rows that it was taken from, which are not their own
        neighbors. ``neighbors`` returns the rows that count, by the cosines (n,) of a query. Where few queries have
        any, ``made_at`` completes the sample with neighbors made for it: vectors with this cosine with a query, in the
        direction of another one.
        """
        # How many neighbors are in the list that is nearest to their query, in the second nearest, and so on.
        found, measured = np.zeros(self.n_lists), 0
        queries = queries[: CALIBRATION_ROWS[1]]
        step = max(1, BLOCK_ELEMENTS // len(self._matrix))
        for start in range(0, len(queries), step):
            if start >= CALIBRATION_ROWS[0] and measured >= MIN_CALIBRATION_QUERIES:
                break
            block = queries[start : start + step]
            cosines = block @ self._matrix.T
            if itself is not None:
                cosines[np.arange(len(block)), itself[start : start + step]] = -np.inf
            to_centers = -(block @ self.centers.T)
            for row, to_center in zip(cosines, to_centers, strict=True):
                near = neighbors(row)
                if len(near):
                    # The number of lists that are nearer to the query than that of the neighbor.
                    ranks = np.searchsorted(np.sort(to_center), to_center[self._list_of[near]])
                    found += np.bincount(ranks, minlength=self.n_lists) / len(near)
                    measured += 1
        if made_at is not None and measured < MIN_CALIBRATION_QUERIES:
            ranks = self._ranks_of_made_neighbors(queries[: MIN_CALIBRATION_QUERIES - measured], made_at)
            found += np.bincount(ranks, minlength=self.n_lists)
            measured += len(ranks)
        share = np.cumsum(found) / max(measured, 1)
        enough = int(np.searchsorted(share, recall - 1e-9)) + 1
        self.n_probes = int(np.clip(enough, min(MIN_PROBES, self.n_lists), self.n_lists))
        # A sample that lists of a part contain whole does not make the search exact.
        most = 1.0 if self.n_probes == self.n_lists else MAX_STATED_RECALL
        self.recall = min(round(float(share[self.n_probes - 1]), 4), most)

    def _ranks_of_made_neighbors(self, rows: Floats, cosine: float) -> Indices:
        """Return for vectors made at this cosine with the rows how many lists are nearer than that of the row."""
        towards = np.roll(rows, 1, axis=0)
        towards = unit_vectors(towards - (towards * rows).sum(axis=1, keepdims=True) * rows)
        made = np.float32(cosine) * rows + np.float32(np.sqrt(max(1 - cosine * cosine, 0))) * towards
        own = (rows @ self.centers.T).argmax(axis=1)
        products = made @ self.centers.T
        nearer = products > products[np.arange(len(rows)), own][:, None]
        return np.asarray(nearer.sum(axis=1), dtype=np.int64)

    def search(self, queries: Floats) -> Iterator[tuple[Indices, Indices, Floats]]:
        """Yield for each list the positions (m,) of the queries that search it, its rows (c,), the products (m, c)."""
        from threadpoolctl import threadpool_limits

        products = queries @ self.centers.T
        if self.n_probes < self.n_lists:
            probes = np.argpartition(products, -self.n_probes, axis=1)[:, -self.n_probes :]
        else:
            probes = np.broadcast_to(np.arange(self.n_lists), products.shape)
        lists = probes.ravel()
        order = np.argsort(lists, kind="stable")
        bounds = np.searchsorted(lists[order], np.arange(self.n_lists + 1))
        positions = order // probes.shape[1]
        # The products of lists are small: sharing one between threads takes longer than the product, twenty times as
        # long where other processes use the cores.
        with threadpool_limits(limits=1, user_api="blas"):
            for number in np.flatnonzero((bounds[1:] > bounds[:-1]) & (self._counts > 0)).tolist():
                members = slice(self._starts[number], self._starts[number] + self._counts[number])
                chosen = positions[bounds[number] : bounds[number + 1]]
                yield chosen, self._rows[members], queries[chosen] @ self._vectors[members].T

    def nearest(self, queries: Floats, k: int) -> tuple[Indices, Floats]:
        """Return the positions (q, k) of the most similar vectors that are found, and their cosines (q, k).

        The best comes first; of equal ones, the earlier position. Where fewer are found, the rest has the position -1
        and the cosine -inf.
        """
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for positions, members, products in self.search(queries):
            columns = top_columns(products, k)
            values = np.concatenate([best[positions], np.take_along_axis(products, columns, axis=1)], axis=1)
            candidates = np.concatenate([rows[positions], members[columns]], axis=1)
            top = top_columns(values, k)
            best[positions] = np.take_along_axis(values, top, axis=1)
            rows[positions] = np.take_along_axis(candidates, top, axis=1)
        # Equal vectors have equal cosines, which those from products of lists are not to the last bit.
        step = max(1, BLOCK_ELEMENTS // (k * queries.shape[1]))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            exact = (self._matrix[rows[part]] * queries[part, None, :]).sum(axis=2, dtype=np.float64)
            best[part] = np.where(rows[part] >= 0, np.clip(exact, -1, 1), -np.inf)
        order = np.lexsort((rows, -best), axis=1)
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)


def nearest_approximately(
    queries: Floats,
    known: Floats,
    k: int,
    *,
    recall: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Indices, Floats, float]:
    """Return the nearest known vectors as ``nearest_by_cosine`` does, and the measured recall.

    ``recall=None`` compares all pairs if there are at most 20 billion, else asks for a recall of 0.99. Equal vectors
    are compared once. Where fewer than ``k`` are found, the rest has the position -1. ``on_progress`` gets the
    number of queries that are done, 0 once the vectors are prepared.
    """
    asked, source = distinct_rows(queries)
    rows, members = distinct_rows(known)
    distinct_queries = queries if len(asked) == len(queries) else queries[asked]
    distinct_known = known if len(rows) == len(known) else known[rows]

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done * len(queries) // len(asked))

    positions, cosines, measured = _nearest_distinct(distinct_queries, distinct_known, source, k, recall, report)
    if len(rows) < len(known):
        positions, cosines = _with_equal_rows(positions, cosines, members, min(k, len(known)))
    if len(asked) < len(queries):
        positions, cosines = positions[source], cosines[source]
    return positions, cosines, measured


def _nearest_distinct(
    queries: Floats,
    known: Floats,
    source: Indices,
    k: int,
    recall: float | None,
    on_progress: Callable[[int], None],
) -> tuple[Indices, Floats, float]:
    """Return the nearest of distinct vectors; ``source`` is the query of each row, of which a sample is drawn."""
    if recall is None:
        recall = 1.0 if len(queries) * len(known) <= MAX_EXACT_PAIRS else DEFAULT_RECALL
    if recall >= 1 or len(known) < MIN_INDEX_ROWS:
        return *nearest_by_cosine(queries, known, k, on_progress=on_progress), 1.0
    index = InvertedFile(known)
    # A vector of zeros is as near to one list as to another.
    directed = has_direction(queries)
    sample = np.random.default_rng(SEED).permutation(source[directed[source]])[: CALIBRATION_ROWS[1]]
    index.calibrate(queries[sample], lambda cosines: top_columns(cosines[None, :], k)[0], recall)
    on_progress(0)
    if index.n_probes > MAX_PROBED_SHARE * index.n_lists:
        return *nearest_by_cosine(queries, known, k, on_progress=on_progress), 1.0
    positions = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), QUERY_ROWS):
        part = slice(start, start + QUERY_ROWS)
        positions[part], cosines[part] = index.nearest(queries[part], k)
        on_progress(min(start + QUERY_ROWS, len(queries)))
    zeros = np.flatnonzero(~directed)
    positions[zeros], cosines[zeros] = nearest_by_cosine(queries[zeros], known, k)
    return positions, cosines, index.recall


def _with_equal_rows(positions: Indices, cosines: Floats, members: Indices, k: int) -> tuple[Indices, Floats]:
    """Return the nearest rows (q, k) from the nearest distinct vectors; ``members`` is the vector of each row."""
    ordered = np.argsort(members, kind="stable")
    counts = np.bincount(members)
    starts = np.cumsum(counts) - counts
    rows = np.full((len(positions), k), -1, dtype=np.int64)
    similarity = np.full((len(positions), k), -np.inf, dtype=np.float32)
    step = max(1, BLOCK_ELEMENTS // (8 * positions.shape[1] * k))
    for start in range(0, len(positions), step):
        vectors, cosine = positions[start : start + step], cosines[start : start + step]
        # Of each vector at most k rows, the earliest, can be among the k nearest.
        number = np.arange(k)
        exists = (number < counts[vectors][:, :, None]) & (vectors >= 0)[:, :, None]
        each = ordered[np.where(exists, starts[vectors][:, :, None] + number, 0)].reshape(len(vectors), -1)
        values = np.where(exists, cosine[:, :, None], -np.inf).reshape(len(vectors), -1)
        order = np.lexsort((each, -values), axis=1)[:, :k]
        best = np.take_along_axis(values, order, axis=1)
        rows[start : start + step] = np.where(np.isneginf(best), -1, np.take_along_axis(each, order, axis=1))
        similarity[start : start + step] = best
    return rows, similarity


def top_columns(values: Floats, k: int) -> Indices:
    """Return the columns (m, min(k, c)) of the highest values of each row, in any order."""
    if k == 1:
        return np.asarray(values.argmax(axis=1)[:, None], dtype=np.int64)
    if k >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.asarray(np.argpartition(values, -k, axis=1)[:, -k:], dtype=np.int64)
