"""What a column of a frame holds, for the charts: numbers, dates, categories, and the order of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from skytells_nb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Sort = Literal["count", "value"] | Sequence[Any]
"""How categories are sorted: by their rows, by themselves, or as listed."""


def is_numeric(values: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, of any dtype; booleans are categories."""
    import pandas as pd

    types = pd.api.types
    return types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)


def on_scale(values: pd.Series[Any], max_categories: int) -> pd.Series[Any]:
    """Return a column that has a scale, of whatever dtype, as numbers or dates; any other unchanged.

    Decimals become floats, durations seconds, under the name ``"seconds"``. Periods and dates without a time become
    their first moments where there are more of them than categories that can be told apart.

    >>> import datetime
    >>> import pandas as pd
    >>> on_scale(pd.Series([datetime.timedelta(minutes=1), None]), 20).tolist()
    [60.0, nan]
    """
    import pandas as pd

    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "decimal":
        return values.astype("float64")
    if kind in ("timedelta", "timedelta64"):
        return pd.to_timedelta(values).dt.total_seconds().rename("seconds")
    if kind == "period" and values.nunique() > max_categories:
        return pd.Series(pd.PeriodIndex(values).to_timestamp(), index=values.index, name=values.name)
    if kind == "date" and values.nunique() > max_categories:
        return pd.to_datetime(values)
    return values


def category_names(values: pd.Series[Any]) -> list[str]:
    """Return the name of each value's category, as :func:`category_order` has them."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        # Of categories with missing values tolist() returns others: floats for whole numbers.
        names = [str(name) for name in values.cat.categories.tolist()]
        return [names[code] if code >= 0 else "" for code in values.cat.codes.tolist()]
    return [value_name(value) for value in values.tolist()]


def value_name(value: Any) -> str:
    """The name of a value as a category: a whole number has no point, as a column with missing values makes floats.

    >>> value_name(2.0), value_name(0.5), value_name(True)
    ('2', '0.5', 'True')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def category_order(values: pd.Series[Any]) -> list[str] | None:
    """Return the names of the categories that occur in their order, ``None`` if they have none.

    Ordered categories, intervals (also those of ``pandas.cut``) and periods have one.

    >>> import pandas as pd
    >>> category_order(pd.Series(pd.Categorical(["high", "low"], ["low", "mid", "high"], ordered=True)))
    ['low', 'high']
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        if not values.cat.ordered:
            return None
        names: list[Any] = values.cat.remove_unused_categories().cat.categories.tolist()
    elif isinstance(values.dtype, (pd.IntervalDtype, pd.PeriodDtype)):
        names = values.dropna().drop_duplicates().sort_values().tolist()
    else:
        return None
    return [str(name) for name in names]


def sorted_categories(values: pd.Series[Any], counts: Mapping[str, int], sort: Sort | None) -> list[str]:
    """Return the names of the categories in the order of a legend: their own, or the most frequent first.

    ``counts`` has the rows of each category. ``sort`` says otherwise: ``"count"``, ``"value"`` (numbers by size, texts
    by the alphabet, ordered categories as they are), or a list of values that come first.

    >>> import pandas as pd
    >>> sorted_categories(pd.Series([10, 9, 9]), {"10": 1, "9": 2}, "value")
    ['9', '10']
    """
    by_count = sorted(counts, key=lambda name: -counts[name])
    own = category_order(values)
    if sort is None:
        return by_count if own is None else own
    if isinstance(sort, str):
        if sort not in ("count", "value"):
            raise InputError(f'sort must be "count", "value" or a list of values, got {sort!r}.')
        if sort == "count":
            return by_count
        return own if own is not None else _by_value(values)
    wanted = [value_name(value) for value in sort]
    if not set(wanted).intersection(counts):
        raise InputError(f"sort must have values of the column, such as {by_count[0]!r}, got {list(sort)[:3]!r}.")
    first = [name for name in dict.fromkeys(wanted) if name in counts]
    return first + [name for name in own or by_count if name not in first]


def _by_value(values: pd.Series[Any]) -> list[str]:
    """The names of categories in the order of the values, of the names if they have none."""
    import pandas as pd

    distinct = values.dropna()
    try:
        found = sorted(distinct.drop_duplicates().tolist())
    except TypeError:
        found = sorted({value_name(value) for value in distinct.tolist()})
    if isinstance(values.dtype, pd.CategoricalDtype):
        known = set(category_names(distinct))
        return [name for name in map(str, found) if name in known]
    return list(dict.fromkeys(map(value_name, found)))
