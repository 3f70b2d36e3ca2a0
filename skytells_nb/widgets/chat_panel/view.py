"""The panel's widget: the state that a page needs to show a conversation, also after a reload."""

from __future__ import annotations

import anywidget
from traitlets import Bool, Dict, List, Unicode

from skytells_nb.widgets.assets import read_assets


class PanelView(anywidget.AnyWidget):
    """Traits down, messages both ways.

    From the page: ``{"kind": "send", "text": …}``, answered by ``accepted`` or ``refused``, and ``{"kind": "stop"}``.
    To the page: ``{"kind": "part", "id": …, "html": …}`` is a part of the growing answer, in the place of the one with
    its id; ``saved`` is what the notebook's file should hold of the conversation. No trait ever holds a key.
    """

    _esm = read_assets("page.js", "chat_panel.js")
    _css = read_assets("page.css", "chat_panel.css")

    title = Unicode(help="Heading of the panel.").tag(sync=True)
    turns = List(Dict(), help="The turns as panel_transcript.turns_for_page makes them.").tag(sync=True)
    busy = Bool(False, help="Whether an answer is under way.").tag(sync=True)
    totals = Unicode(help="Tokens and cost so far, in words.").tag(sync=True)
    models = List(Unicode(), help="Names to choose from.").tag(sync=True)
    model = Unicode(help="The model that the next question goes to.").tag(sync=True)
    system = Unicode(help="The system text of the conversation.").tag(sync=True)
    saved_class = Unicode(help="Class of the saved transcript, which a page with this view does not show.").tag(
        sync=True
    )
