"""The methods of ``df.skytells``, by what they do."""

from __future__ import annotations

from skytells_nb.accessor.methods.classify import Classify
from skytells_nb.accessor.methods.extract import Extract
from skytells_nb.accessor.methods.filter import Filter
from skytells_nb.accessor.methods.moderate import Moderate
from skytells_nb.accessor.methods.summarize import Summarize
from skytells_nb.accessor.methods.translate import Translate


class TextMethods(Classify, Extract, Filter, Summarize, Translate, Moderate):
    """Methods that ask a chat model about each text, or about groups of them."""
