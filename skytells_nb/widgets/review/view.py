"""The review's widget: the state that a page needs to show one row, also after a reload."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, Int, List, Unicode

from skytells_nb.widgets.display import read_assets


class ReviewView(anywidget.AnyWidget):
    """State as traits, what a person does as messages.

    From the page, always with the number of the ``row`` that it shows: ``judge`` (``label``, -1 for none), ``note``
    (``text``), ``go`` (``by`` -1 or 1), ``next`` (unjudged), ``undo``, and ``annotator`` (``name``). Each but a note is
    answered by ``done``. The model's label of a row is in no trait before the row is judged.
    """

    _esm = read_assets("page.js", "review.js")
    _css = read_assets("page.css", "review.css")

    title = Unicode(help="Heading of the review.").tag(sync=True)
    caption = Unicode(help="What the rows are, and where judgments are stored.").tag(sync=True)
    labels = List(Unicode(), help="The labels to choose from.").tag(sync=True)
    annotators = List(Unicode(), help="Names to choose from.").tag(sync=True)
    annotator = Unicode(help="Who judges now.").tag(sync=True)
    shown = Dict(help="The row: its number, texts, what was judged and noted, and then the model's label.").tag(
        sync=True
    )
    judged = Int(0, help="Rows that this annotator judged.").tag(sync=True)
    total = Int(0, help="Rows to judge.").tag(sync=True)
    can_undo = Bool(False, help="Whether there is something to take back.").tag(sync=True)
    status = Unicode(help="What happened last.").tag(sync=True)
    file = Unicode(help="The file of the judgments.").tag(sync=True)
    saved_class = Unicode(help="Class of the static output, which a page with this view hides.").tag(sync=True)
