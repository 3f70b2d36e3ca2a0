"""The explorer's widget: the state that a page needs to show it, also after a reload."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, Int, List, Unicode

from skytells_nb.widgets.display import read_assets


class ExplorerView(anywidget.AnyWidget):
    """Small state as traits, points and selections as messages.

    Data of each point is sent in messages with buffers, requested by ``{"kind": "ready"}``: traits are saved with a
    notebook, which would store 100,000 points twice. From the page: ``select`` (buffer of point numbers, uint32),
    ``hover``, ``ask``, ``clear_question``, ``name``, ``select_shown``, ``group`` (select a named one) and ``parts``
    (find the parts of topics). To the page:
    ``points`` (uint16, x and y in turn, and uint8 codes), ``codes``, ``marks`` (uint32 numbers of the selected, the
    highlighted and the matching points), ``hovered`` and ``saved``.
    """

    _esm = read_assets("page.js", "explorer_raster.js", "explorer_map.js", "explorer.js")
    _css = read_assets("page.css", "explorer.css")

    title = Unicode(help="Heading of the explorer.").tag(sync=True)
    caption = Unicode(help="Number of rows, and the layout.").tag(sync=True)
    columns = List(Dict(), help="Columns to color by: number and label.").tag(sync=True)
    color = Int(-1, help="The number of the column that colors the points, -1 for none.").tag(sync=True)
    palette = List(Unicode(), help="One color for each code.").tag(sync=True)
    legend = Dict(help="The legend as coloring.Coloring holds it.").tag(sync=True)
    hidden = List(Int(), help="Codes that the legend has switched off.").tag(sync=True)
    question = Unicode(help="The question whose nearest rows are highlighted.").tag(sync=True)
    search = Unicode(help="Words that the rows are filtered by.").tag(sync=True)
    searchable = Bool(help="Whether there is a column of texts to search and to name by.").tag(sync=True)
    page = Int(0, help="The page of the table, from 0.").tag(sync=True)
    table = Dict(help="The rows of that page, with a description.").tag(sync=True)
    groups = List(Dict(), help="Named selections: name, count and place on the map.").tag(sync=True)
    topics = List(Dict(), help="Topics of the map: name, count and place.").tag(sync=True)
    parts = List(Dict(), help="Parts of topics, once the page has been zoomed: name, count and place.").tag(sync=True)
    busy = Unicode(help="The request in progress, empty for none.").tag(sync=True)
    status = Unicode(help="The result of the last request.").tag(sync=True)
    saved_class = Unicode(help="Class of the static outputs, which a page with this view hides.").tag(sync=True)
