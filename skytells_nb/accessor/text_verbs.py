"""What language models do with a column of texts."""

from __future__ import annotations

from skytells_nb.accessor.classify import Classify
from skytells_nb.accessor.extract import Extract
from skytells_nb.accessor.filter import Filter
from skytells_nb.accessor.moderate import Moderate
from skytells_nb.accessor.summarize import Summarize
from skytells_nb.accessor.translate import Translate


class TextVerbs(Classify, Extract, Filter, Summarize, Translate, Moderate):
    """Verbs that ask a language model about each text, or about groups of them."""
