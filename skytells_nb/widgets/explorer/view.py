"""The explorer's widget: what a page needs to show it, also after a reload."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, Int, List, Unicode

from skytells_nb.widgets.assets import read_assets


class ExplorerView(anywidget.AnyWidget):
    """Small traits down, points and selections as messages.

    What belongs to each point travels in messages with buffers, asked for by ``{"kind": "ready"}``: traits are saved
    with a notebook, and 100,000 points would be in it twice. From the page: ``select`` (buffer of point numbers,
    uint32), ``hover``, ``ask``, ``name``, ``take`` (select all shown) and ``group`` (select a named one). To the
    page: ``points`` (uint16 x and y in turn), ``codes`` (uint8), ``selected``, ``lit`` and ``kept`` (uint32 point
    numbers), ``hovered`` and ``saved``.
    """

    _esm = read_assets("page.js", "explorer_raster.js", "explorer_map.js", "explorer.js")
    _css = read_assets("page.css", "explorer.css")

    title = Unicode(help="Heading of the explorer.").tag(sync=True)
    caption = Unicode(help="How many rows, laid out how.").tag(sync=True)
    columns = List(Dict(), help="Columns to colour by: number and label.").tag(sync=True)
    color = Int(-1, help="The number of the column that gives the colours, -1 for none.").tag(sync=True)
    palette = List(Unicode(), help="One colour for each code.").tag(sync=True)
    legend = Dict(help="The legend as explorer_colors makes it.").tag(sync=True)
    hidden = List(Int(), help="Codes that the legend has switched off.").tag(sync=True)
    question = Unicode(help="The question whose nearest rows are lit.").tag(sync=True)
    search = Unicode(help="Words that the rows are filtered by.").tag(sync=True)
    searchable = Bool(help="Whether there are texts to search and to name.").tag(sync=True)
    page = Int(0, help="The page of the table, from 0.").tag(sync=True)
    table = Dict(help="The rows of that page and what they are.").tag(sync=True)
    groups = List(Dict(), help="Named selections: name, count and place on the map.").tag(sync=True)
    busy = Unicode(help="What is under way, empty for nothing.").tag(sync=True)
    status = Unicode(help="What the last question or name came to.").tag(sync=True)
    saved_class = Unicode(help="Class of the static form, which a page with this view does not show.").tag(sync=True)
