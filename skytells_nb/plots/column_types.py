"""What a column of a frame holds, for the charts: numbers, dates, categories, and the order of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
    return [str(value) for value in values.tolist()]


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
