"""Figures: a frame goes in, a plotly figure comes out; nothing is fetched and nothing is shown.

Importing this is light: plotly, pandas and UMAP load when the first figure is drawn.
"""

from skytells_nb.plots.safety import safety
from skytells_nb.plots.semantic_map import semantic_map
from skytells_nb.plots.theme import summary

__all__ = ["safety", "semantic_map", "summary"]
