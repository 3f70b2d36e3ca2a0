"""An inverted file: vectors in lists by their nearest center, of which a search reads only the nearest ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from skytells_nb.vectors.arrays import BLOCK_ELEMENTS, Floats, Indices, row_blocks
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
MIN_PROBES = 4
QUERY_ROWS = 4096
"""Queries that are searched together."""
DEFAULT_RECALL = 0.99
MAX_EXACT_PAIRS = 20_000_000_000
"""Pairs of which all are compared unless ``recall`` asks otherwise: minutes on two cores."""
MIN_INDEX_ROWS = 20_000
"""Vectors below which an index costs more than it saves."""


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
        self, queries: Floats, neighbors: Callable[[Floats], Indices], recall: float, itself: Indices | None = None
    ) -> None:
        """Set ``n_probes`` to the smallest number of lists with this recall, and ``recall`` to the measured one.

        ``queries`` is a sample in random order, and ``itself`` the rows that it was taken from, which are not their own
        neighbors. ``neighbors`` returns the rows that count, by the cosines (n,) of a query. If no query has a
        neighbor, nothing can be measured, and an eighth of the lists is searched.
        """
        ranks: list[Indices] = []
        queries = queries[: CALIBRATION_ROWS[1]]
        step = max(1, BLOCK_ELEMENTS // len(self._matrix))
        for start in range(0, len(queries), step):
            if start >= CALIBRATION_ROWS[0] and len(ranks) >= MIN_CALIBRATION_QUERIES:
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
                    ranks.append(np.searchsorted(np.sort(to_center), to_center[self._list_of[near]]))
        if not ranks:
            self.n_probes = min(max(MIN_PROBES, self.n_lists // 8), self.n_lists)
            return
        weights = np.concatenate([np.full(len(rank), 1 / len(rank)) for rank in ranks]) / len(ranks)
        share = np.cumsum(np.bincount(np.concatenate(ranks), weights, minlength=self.n_lists))
        enough = int(np.searchsorted(share, recall - 1e-9)) + 1
        self.n_probes = int(np.clip(enough, min(MIN_PROBES, self.n_lists), self.n_lists))
        self.recall = float(min(share[self.n_probes - 1], 1.0))

    def search(self, queries: Floats) -> Iterator[tuple[Indices, Indices, Floats]]:
        """Yield for each list the positions (m,) of the queries that search it, its rows (c,), the products (m, c)."""
        products = queries @ self.centers.T
        if self.n_probes < self.n_lists:
            probes = np.argpartition(products, -self.n_probes, axis=1)[:, -self.n_probes :]
        else:
            probes = np.broadcast_to(np.arange(self.n_lists), products.shape)
        lists = probes.ravel()
        order = np.argsort(lists, kind="stable")
        bounds = np.searchsorted(lists[order], np.arange(self.n_lists + 1))
        positions = order // probes.shape[1]
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
    queries: Floats, known: Floats, k: int, *, recall: float | None = None
) -> tuple[Indices, Floats, float]:
    """Return the nearest known vectors as ``nearest_by_cosine`` does, and the measured recall.

    ``recall=None`` compares all pairs if there are at most 20 billion, else asks for a recall of 0.99. Where fewer than
    ``k`` are found, the rest has the position -1.
    """
    if recall is None:
        recall = 1.0 if len(queries) * len(known) <= MAX_EXACT_PAIRS else DEFAULT_RECALL
    if recall >= 1 or len(known) < MIN_INDEX_ROWS:
        return *nearest_by_cosine(queries, known, k), 1.0
    index = InvertedFile(known)
    sample = np.random.default_rng(SEED).permutation(len(queries))[: CALIBRATION_ROWS[1]]
    index.calibrate(queries[sample], lambda cosines: top_columns(cosines[None, :], k)[0], recall)
    found = [index.nearest(queries[start : start + QUERY_ROWS], k) for start in range(0, len(queries), QUERY_ROWS)]
    positions, cosines = (np.concatenate(part) for part in zip(*found, strict=True))
    return positions, cosines, index.recall


def top_columns(values: Floats, k: int) -> Indices:
    """Return the columns (m, min(k, c)) of the highest values of each row, in any order."""
    if k == 1:
        return np.asarray(values.argmax(axis=1)[:, None], dtype=np.int64)
    if k >= values.shape[1]:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.asarray(np.argpartition(values, -k, axis=1)[:, -k:], dtype=np.int64)
