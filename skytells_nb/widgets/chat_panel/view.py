"""The panel's widget: the state that a page needs to show a conversation, also after a reload."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, List, Unicode

from skytells_nb.widgets.display import read_assets


class PanelView(anywidget.AnyWidget):
    """State as traits, events as messages in both directions.

    From the page, each answered by ``accepted`` or ``refused``: ``send`` and ``edit`` (``text``, and ``turn``, the
    number of a question), ``retry``, ``new`` (chat), ``attach`` (``name`` of a variable; with a buffer an image),
    ``detach`` (``name``); further ``stop``, ``variables``, answered by their ``names``, and ``cell`` (``text`` of a new
    cell, where the page cannot make one), answered by ``cell``. To the page: ``{"kind": "part", "id": …, "html": …}``
    replaces the segment of the growing answer with this id; ``saved`` is the transcript to save in the notebook. No
    trait ever holds an API key.
    """

    _esm = read_assets("page.js", "chat_turns.js", "chat_panel.js")
    _css = read_assets("page.css", "chat_panel.css")

    title = Unicode(help="Heading of the panel.").tag(sync=True)
    turns = List(Dict(), help="The turns as transcript.turns_for_page returns them.").tag(sync=True)
    busy = Bool(False, help="Whether an answer is in flight.").tag(sync=True)
    notice = Unicode(help="Why the last question was not answered, where earlier answers stay.").tag(sync=True)
    attachments = List(Dict(), help="What goes along with the next question: name and kind.").tag(sync=True)
    totals = Unicode(help="Tokens and cost so far, as text.").tag(sync=True)
    models = List(Unicode(), help="Names of the models to choose from.").tag(sync=True)
    model = Unicode(help="The model that the next question goes to.").tag(sync=True)
    system = Unicode(help="The system text of the conversation.").tag(sync=True)
    saved_class = Unicode(help="Class of the saved transcript, which a page with this view hides.").tag(sync=True)
