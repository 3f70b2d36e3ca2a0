"""The methods of ``df.skytells``, by what they do."""

from __future__ import annotations

from skytells_nb.accessor.methods.classify.classify import Classify
from skytells_nb.accessor.methods.cluster import ClusterMethods
from skytells_nb.accessor.methods.dedupe import DedupeMethod
from skytells_nb.accessor.methods.extract import Extract
from skytells_nb.accessor.methods.filter import Filter
from skytells_nb.accessor.methods.join import JoinMethod
from skytells_nb.accessor.methods.moderate import Moderate
from skytells_nb.accessor.methods.ranking.rank import Rank
from skytells_nb.accessor.methods.ranking.score import Score
from skytells_nb.accessor.methods.ranking.search import SearchMethods
from skytells_nb.accessor.methods.summarize import Summarize
from skytells_nb.accessor.methods.translate import Translate


class TextMethods(Classify, Extract, Filter, Summarize, Translate, Moderate, Score, Rank):
    """Methods that ask a chat model about each text, or about groups of them."""


class VectorMethods(SearchMethods, DedupeMethod, ClusterMethods, JoinMethod):
    """Methods that compare rows by their embeddings.

    Every ``column`` holds texts, which are embedded first (and cached), or embeddings, for which nothing is sent and no
    key is needed. Similarity is the cosine of two embeddings, computed exactly, in blocks. Rows without an embedding
    (missing or failed) are similar to none.
    """
