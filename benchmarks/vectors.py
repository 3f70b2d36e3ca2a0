"""Which vector belongs to which text: the server answers with it, and the check expects it."""

from __future__ import annotations

import functools
import zlib
from typing import Any

POOL_SIZE = 512


@functools.cache
def pool(dimensions: int) -> Any:
    """The unit vectors that stand for all texts, float32 (512, dimensions); the same in every process."""
    import numpy as np

    drawn = np.random.default_rng(dimensions).standard_normal((POOL_SIZE, dimensions)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def place(text: str) -> int:
    """The row of the pool that is this text's vector."""
    return zlib.crc32(text.encode()) % POOL_SIZE
