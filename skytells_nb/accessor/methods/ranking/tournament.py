"""The best of many by comparing two at a time: a knock-out tournament, replayed without those already found."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Compare = Callable[[Sequence[tuple[int, int]]], Sequence[int]]
"""Returns the winner of each of these pairs."""


def rounds_of(n: int) -> int:
    """Return the rounds of a tournament of so many.

    >>> rounds_of(1), rounds_of(8), rounds_of(9)
    (0, 3, 4)
    """
    return max(0, n - 1).bit_length()


def most_comparisons(n: int, k: int) -> int:
    """Return how many comparisons the best ``k`` of ``n`` take at most: n - 1 for the first, log2 n for each other.

    >>> most_comparisons(1000, 10)
    1089
    """
    return max(0, n - 1) + max(0, min(k, n) - 1) * rounds_of(n)


def best(n: int, k: int, compare: Compare) -> list[int]:
    """Return the best ``k`` of the numbers below ``n``, best first, in at most ``most_comparisons(n, k)`` comparisons.

    With a total order the result is exact. Each round of the first tournament is compared at once; each further one
    plays again on the way of the number that was found (Knuth, The Art of Computer Programming 3, 5.2.3).
    """
    if not n:
        return []
    leaves = 1 << rounds_of(n)
    # A heap of winners by number of the node; those of the leaves are the numbers themselves.
    winners: list[int | None] = [number if 0 <= number < n else None for number in range(-leaves, leaves)]
    start = leaves // 2
    while start:
        _play(winners, range(start, 2 * start), compare)
        start //= 2
    found: list[int] = []
    while len(found) < min(k, n):
        champion = winners[1]
        if champion is None:
            break
        found.append(champion)
        node = leaves + champion
        winners[node] = None
        while node > 1 and len(found) < min(k, n):
            node //= 2
            _play(winners, (node,), compare)
    return found


def _play(winners: list[int | None], nodes: Sequence[int], compare: Compare) -> None:
    pairs, places = [], []
    for node in nodes:
        left, right = winners[2 * node], winners[2 * node + 1]
        if left is None or right is None:
            winners[node] = right if left is None else left
        else:
            pairs.append((left, right))
            places.append(node)
    if pairs:
        for node, winner in zip(places, compare(pairs), strict=True):
            winners[node] = winner
