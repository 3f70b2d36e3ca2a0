"""The pandas accessors ``df.skytells`` and ``series.skytells``, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from skytells_nb.accessor.frame import FrameAccessor
    from skytells_nb.accessor.series import SeriesAccessor


def frame_accessor(frame: pd.DataFrame) -> FrameAccessor:
    """Return the accessor of a frame."""
    from skytells_nb.accessor.frame import FrameAccessor

    return FrameAccessor(frame)


def series_accessor(series: pd.Series[Any]) -> SeriesAccessor:
    """Return the accessor of a column."""
    from skytells_nb.accessor.series import SeriesAccessor

    return SeriesAccessor(series)


def register() -> None:
    """Register the accessors with pandas. Idempotent."""
    import pandas as pd

    if getattr(pd.DataFrame, "skytells", None) is not frame_accessor:
        # pandas only calls the accessor; a function defers the import of the real classes until then.
        pd.api.extensions.register_dataframe_accessor("skytells")(frame_accessor)  # type: ignore[type-var]
        pd.api.extensions.register_series_accessor("skytells")(series_accessor)  # type: ignore[type-var]
