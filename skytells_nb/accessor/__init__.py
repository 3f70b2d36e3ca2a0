"""The pandas door: ``df.skytells`` and ``series.skytells``, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from skytells_nb.accessor.frame import FrameAccessor
    from skytells_nb.accessor.series import SeriesAccessor


def frame_accessor(frame: pd.DataFrame) -> FrameAccessor:
    """Language models over the columns of this frame."""
    from skytells_nb.accessor.frame import FrameAccessor

    return FrameAccessor(frame)


def series_accessor(series: pd.Series[Any]) -> SeriesAccessor:
    """Language models over this column."""
    from skytells_nb.accessor.series import SeriesAccessor

    return SeriesAccessor(series)


def register() -> None:
    """Put the accessors on pandas; a second call changes nothing."""
    import pandas as pd

    if getattr(pd.DataFrame, "skytells", None) is not frame_accessor:
        # pandas only calls what it is given; a function keeps the real classes unloaded until then.
        pd.api.extensions.register_dataframe_accessor("skytells")(frame_accessor)  # type: ignore[type-var]
        pd.api.extensions.register_series_accessor("skytells")(series_accessor)  # type: ignore[type-var]
