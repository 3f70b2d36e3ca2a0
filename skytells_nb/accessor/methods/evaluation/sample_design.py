"""How a sample of rows was drawn: kept with it, so that what is judged can be weighted as it was drawn."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from skytells_nb.errors import InputError

Pick = Literal["random", "uncertain"]

WEIGHT = "weight"
"""The column of a sample with the number of rows of the frame that each row stands for."""
ATTRIBUTE = "skytells_sample"
"""The name in ``attrs`` of a sample, which its columns and copies keep."""
_MANY_SAMPLES = 20

WHY_NOT_UNCERTAIN = (
    "The gold rows were picked by uncertainty (pick='uncertain'): they are the hard ones, and no weight makes up for "
    "the easy rows that could not be picked, so no interval from them holds for the column. Use them as examples to "
    "improve the labels, and judge a random sample (gold_sample(..., pick='random')) to measure them."
)


@dataclass(frozen=True)
class SampleDesign:
    """What a sample was stratified by beside the label, and how its rows were picked."""

    into: Any
    by: tuple[Any, ...]
    pick: Pick

    def to_attribute(self) -> dict[str, Any]:
        """Return the design as plain values, which Parquet files keep too."""
        return {"into": self.into, "by": list(self.by), "pick": self.pick}

    @classmethod
    def of_attribute(cls, value: Any) -> SampleDesign | None:
        """Return the design that ``attrs`` holds, ``None`` for anything else."""
        if not isinstance(value, Mapping) or value.get("pick") not in ("random", "uncertain"):
            return None
        return cls(value.get("into"), tuple(value.get("by") or ()), value["pick"])


_drawn: dict[int, tuple[weakref.ref[pd.DataFrame], list[tuple[SampleDesign, pd.Index[Any]]]]] = {}
"""The samples that were drawn from a frame, for as long as it lives: judgments often come back as bare values."""


def remember_sample(frame: pd.DataFrame, design: SampleDesign, index: pd.Index[Any]) -> None:
    """Keep the design of a sample of these rows for as long as the frame lives."""
    key = id(frame)
    entry = _drawn.get(key)
    if entry is None or entry[0]() is not frame:
        entry = _drawn[key] = (weakref.ref(frame, lambda _: _drawn.pop(key, None)), [])
    entry[1].append((design, index))
    del entry[1][:-_MANY_SAMPLES]


def find_design(frame: pd.DataFrame, into: Any, gold: pd.Series[Any] | pd.DataFrame, judged: pd.Index[Any]) -> Any:
    """Return the design by which the judged rows were drawn, ``None`` if it is not known.

    It is that of ``gold`` itself, else that of a sample of this frame which has all of these rows; with ``into=None``
    whatever labels it was drawn by. Raises InputError if the rows were picked by uncertainty.
    """
    design = SampleDesign.of_attribute(gold.attrs.get(ATTRIBUTE))
    if design is not None and design.pick == "uncertain":
        raise InputError(WHY_NOT_UNCERTAIN)
    if design is not None:
        # Another label column of the same rows is not what they were stratified by.
        return design if into in (None, design.into) else None
    entry = _drawn.get(id(frame))
    samples = entry[1] if entry is not None and entry[0]() is frame else []
    matching = [each for each, index in reversed(samples) if into in (None, each.into) and judged.isin(index).all()]
    random = [each for each in matching if each.pick == "random"]
    if random:
        return random[0]
    uncertain = [index for each, index in samples if each.pick == "uncertain"]
    # Also where other rows were judged beside all of them.
    if len(judged) < len(frame) and any(judged.isin(index).all() or index.isin(judged).all() for index in uncertain):
        raise InputError(WHY_NOT_UNCERTAIN)
    return None
