"""Labels to choose from: what they are, what each means, and examples of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pandas as pd

from skytells_nb.accessor.texts import column_of, texts_of
from skytells_nb.errors import InputError

MOST_FLAGS = 100
"""Labels that can be asked about at once where several may fit: properties of a strict schema where the limit is lowest
(Azure OpenAI, structured outputs)."""

Examples: TypeAlias = Sequence[tuple[str, str | Sequence[str]]] | pd.DataFrame
"""Few-shot examples: pairs of a text and its label (or labels), or a frame that has both columns."""


@dataclass(frozen=True)
class Labels:
    """The labels in order, what each means where that was said, and examples as texts with their labels."""

    names: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    other: str | None = None
    """The one for texts that none of the others fits; it is the last of ``names``."""
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, given: Any, other: str | None = None) -> Labels:
        """From a list of names, or a dict of names and what they mean; raises InputError for what is neither."""
        meanings = _meanings(given) if isinstance(given, Mapping) else {}
        names = list(meanings) if meanings else given
        if isinstance(names, (str, Mapping)) or not isinstance(names, (Sequence, pd.Index, pd.Series, pd.Categorical)):
            raise InputError(f"labels is a list of strings, or a dict of labels and what they mean; found {given!r}.")
        found = [*names, *([other] if other is not None else [])]
        wrong = [label for label in found if not isinstance(label, str) or not label.strip()]
        if wrong:
            raise InputError(f"Every label is a non-empty string; found {wrong[0]!r}.")
        if len(set(found)) != len(found):
            twice = next(label for label in found if found.count(label) > 1)
            raise InputError(f"The label {twice!r} stands twice.")
        if len(found) < 2:
            raise InputError(f"At least two labels are needed; found {found!r}.")
        return cls(tuple(found), meanings, other)

    def described(self) -> str:
        """The labels and their meanings, as the model is told them."""
        if not self.meanings:
            return f"The labels are: {', '.join(self.names)}."
        lines = [f"- {name}: {self.meanings[name]}" if name in self.meanings else f"- {name}" for name in self.names]
        return "\n".join(["The labels are:", *lines])

    def shown(self, *, multi: bool) -> str:
        """The examples, as the model is told them; empty where there are none."""
        if not self.examples:
            return ""
        lines = [
            json.dumps(
                {"text": text, **({"labels": list(found)} if multi else {"label": found[0]})}, ensure_ascii=False
            )
            for text, found in self.examples
        ]
        return "\n".join(["\nExamples:", *lines])


def choice_schema(labels: Labels) -> dict[str, Any]:
    """A schema with one field ``label`` that is one of these."""
    return {
        "title": "classification",
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels.names)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def flags_schema(labels: Labels) -> dict[str, Any]:
    """A schema with a field for each label that says whether it fits; ``other`` follows from the rest.

    A model that has to decide on each label leaves out fewer than one that writes a list.
    """
    asked = [name for name in labels.names if name != labels.other]
    if len(asked) > MOST_FLAGS:
        raise InputError(f"multi=True takes at most {MOST_FLAGS} labels; found {len(asked)}.")
    return {
        "title": "classification",
        "type": "object",
        "properties": {name: {"type": "boolean", "enum": [True, False]} for name in asked},
        "required": asked,
        "additionalProperties": False,
    }


def read_examples(
    given: Any, labels: Labels, column: Any, into: Any, *, multi: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Examples as texts with their labels, from what was passed as ``examples``.

    Raises InputError for a text that is empty, and for a label that is none of ``labels``.
    """
    if given is None:
        return ()
    if isinstance(given, pd.DataFrame):
        pairs = _flagged_pairs(given, labels, column, into) if multi else _labelled_pairs(given, column, into)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [_pair(each, multi=multi) for each in given]
    else:
        raise InputError(
            f"examples is a list of pairs (text, label), or a frame with the columns {column!r} and {into!r}; "
            f"found {type(given).__name__}."
        )
    for text, found in pairs:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The text of an example is not empty; found {text!r}. Drop such rows first.")
        for label in found:
            if label not in labels.names:
                raise InputError(f"An example has the label {label!r}, which is none of {', '.join(labels.names)}.")
    return tuple(pairs)


def _meanings(given: Mapping[Any, Any]) -> dict[str, str]:
    for name, meaning in given.items():
        if not isinstance(meaning, str) or not meaning.strip():
            raise InputError(f"What a label means is a text that is not empty; found {meaning!r} for {name!r}.")
    return dict(given)


def _pair(given: Any, *, multi: bool) -> tuple[str, tuple[str, ...]]:
    kind = "(text, [labels])" if multi else "(text, label)"
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        raise InputError(f"An example is a pair {kind}; found {given!r}.")
    text, label = given
    several = isinstance(label, Sequence) and not isinstance(label, str)
    if several and not multi:
        raise InputError(f"An example is a pair {kind}; found {given!r}. multi=True takes several labels.")
    return text, tuple(label) if several else (label,)


def _labelled_pairs(frame: pd.DataFrame, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts, found = column_of(frame, column), column_of(frame, into)
    return [(text, (label,)) for text, label in zip(texts_of(texts, name=column), texts_of(found), strict=True)]


def _flagged_pairs(frame: pd.DataFrame, labels: Labels, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts = texts_of(column_of(frame, column), name=column)
    flags = {name: column_of(frame, f"{into}_{name}") for name in labels.names}
    for name, flag in flags.items():
        if not pd.api.types.is_bool_dtype(flag) or flag.isna().any():
            raise InputError(f"The column {f'{into}_{name}'!r} of examples is true or false in every row.")
    rows = [
        tuple(name for name, fits in zip(flags, row, strict=True) if fits) for row in zip(*flags.values(), strict=True)
    ]
    return list(zip(texts, rows, strict=True))
