"""Charts: functions that take a frame and return a plotly figure, without requests and without displaying it.

The import is fast: plotly, pandas and UMAP are imported when the first figure is drawn.
"""

from skytells_nb.plots.evaluation_charts.calibration import calibration
from skytells_nb.plots.evaluation_charts.shares import shares
from skytells_nb.plots.export import save
from skytells_nb.plots.maps.semantic_map import semantic_map
from skytells_nb.plots.maps.topics_over_time import topics_over_time
from skytells_nb.plots.safety_charts.by_group import safety_by
from skytells_nb.plots.safety_charts.overview import safety
from skytells_nb.plots.safety_charts.table import filtered_rows
from skytells_nb.plots.safety_charts.timeline import safety_timeline
from skytells_nb.plots.theme import summary
from skytells_nb.plots.usage_charts.latency import latency
from skytells_nb.plots.usage_charts.rate import rate
from skytells_nb.plots.usage_charts.usage import usage

__all__ = [
    "calibration",
    "filtered_rows",
    "latency",
    "rate",
    "safety",
    "safety_by",
    "safety_timeline",
    "save",
    "semantic_map",
    "shares",
    "summary",
    "topics_over_time",
    "usage",
]


def __dir__() -> list[str]:
    return __all__
