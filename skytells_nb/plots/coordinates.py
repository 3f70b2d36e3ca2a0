"""Points that two columns of a frame give, in place of a projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytells_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def given_points(frame: pd.DataFrame, coordinates: Any) -> tuple[NDArray[np.float64], str]:
    """Points (n, 2) at two columns of numbers, ``(x, y)``, and in words where.

    Raises InputError for columns that do not exist or hold something else, and for rows without finite numbers.

    >>> import pandas as pd
    >>> given_points(pd.DataFrame({"x": [1, 2], "y": [0.5, 0.0]}), ("x", "y"))[1]
    'at x and y'
    """
    import pandas as pd

    if not isinstance(coordinates, (tuple, list)) or len(coordinates) != 2:
        raise InputError(f"coordinates are the names of two columns, (x, y); found {coordinates!r}.")
    for name in coordinates:
        if name not in frame.columns or isinstance(frame[name], pd.DataFrame):
            raise InputError(f"There is no column {name!r}, or more than one; coordinates name one column each.")
    columns = [frame[name] for name in coordinates]
    x, y = coordinates
    if not all(pd.api.types.is_numeric_dtype(column.dtype) for column in columns):
        raise InputError(f"The columns {x!r} and {y!r} are to hold numbers.")
    found = np.column_stack([column.to_numpy(dtype=np.float64, na_value=np.nan) for column in columns])
    odd = int((~np.isfinite(found).all(axis=1)).sum())
    if odd:
        raise InputError(f"{odd:,} rows have no finite coordinates in {x!r} and {y!r}.")
    return found, f"at {x} and {y}"
