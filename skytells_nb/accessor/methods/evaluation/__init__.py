"""How good a column that a model made is, and what it says of the whole: by rows that a person judged."""

from __future__ import annotations

from skytells_nb.accessor.methods.evaluation.compare import Compare
from skytells_nb.accessor.methods.evaluation.evaluate import Evaluate
from skytells_nb.accessor.methods.evaluation.gold_sample import GoldSample
from skytells_nb.accessor.methods.evaluation.share import Share


class EvaluationMethods(GoldSample, Evaluate, Share, Compare):
    """Methods that compare a column with judged rows, or variants of a call; only ``compare`` sends anything."""
