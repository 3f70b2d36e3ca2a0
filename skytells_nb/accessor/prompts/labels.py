"""The labels of a classification, their meanings and few-shot examples, and the schema of an answer."""

from __future__ import annotations

import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pandas as pd

from skytells_nb.accessor.text_columns import texts_of
from skytells_nb.columns import column_of
from skytells_nb.errors import InputError

MAX_FLAGS = 100
"""Limit of labels with ``multi=True``: properties of a strict schema where the limit is lowest (Azure OpenAI,
structured outputs)."""

Examples: TypeAlias = Sequence[tuple[str, str | Sequence[str]]] | pd.DataFrame
"""Few-shot examples: pairs of a text and its label (or labels), or a frame that has both columns."""


LabelChoice: TypeAlias = Iterable[str] | Mapping[str, str] | type[enum.Enum] | Any
"""What ``labels`` takes: names in an order, a dict of names and meanings, an enumeration or a ``Literal``."""


@dataclass(frozen=True)
class Labels:
    """The labels in order, their meanings where these are given, and examples as texts with their labels."""

    names: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)
    other: str | None = None
    """The label for texts that none of the others fits; it is the last of ``names``."""
    examples: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, given: Any, other: str | None = None) -> Labels:
        """Read names in an order, or a dict of names and their meanings; raise InputError for anything else."""
        meanings = _meanings(given) if isinstance(given, Mapping) else {}
        names = list(meanings) if meanings else _label_names(given)
        labels = [*names, *([other] if other is not None else [])]
        invalid = [label for label in labels if not isinstance(label, str) or not label.strip()]
        if invalid:
            raise InputError(f"Every label must be a non-empty string, got {invalid[0]!r}.")
        if len(set(labels)) != len(labels):
            duplicate = next(label for label in labels if labels.count(label) > 1)
            raise InputError(f"labels must differ, got {duplicate!r} twice.")
        if len(labels) < 2:
            raise InputError(f"labels must have at least two labels, got {labels!r}.")
        return cls(tuple(labels), meanings, other)

    def described(self) -> str:
        """Return the labels and their meanings, as the prompt states them."""
        if not self.meanings:
            return f"The labels are: {', '.join(self.names)}."
        lines = [f"- {name}: {self.meanings[name]}" if name in self.meanings else f"- {name}" for name in self.names]
        return "\n".join(["The labels are:", *lines])

    def shown(self, *, multi: bool) -> str:
        """Return the examples, as the prompt states them; empty if there are none."""
        if not self.examples:
            return ""
        lines = [
            json.dumps(
                {"text": text, **({"labels": list(names)} if multi else {"label": names[0]})}, ensure_ascii=False
            )
            for text, names in self.examples
        ]
        return "\n".join(["\nExamples:", *lines])


def choice_schema(labels: Labels) -> dict[str, Any]:
    """Return a schema with one field ``label`` that is one of these."""
    return {
        "title": "classification",
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(labels.names)}},
        "required": ["label"],
        "additionalProperties": False,
    }


def flags_schema(labels: Labels) -> dict[str, Any]:
    """Return a schema with a boolean field for each label; ``other`` follows from the rest.

    A model that has to decide on each label omits fewer than one that writes a list.
    """
    asked = [name for name in labels.names if name != labels.other]
    if len(asked) > MAX_FLAGS:
        raise InputError(f"labels must be at most {MAX_FLAGS} with multi=True, got {len(asked)}.")
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
    """Read the ``examples`` of a call as texts with their labels.

    Raise InputError for an empty text, and for a label that is not among ``labels``.
    """
    if given is None:
        return ()
    if isinstance(given, pd.DataFrame):
        pairs = _flagged_pairs(given, labels, column, into) if multi else _labeled_pairs(given, column, into)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [_pair(each, multi=multi) for each in given]
    else:
        raise InputError(
            f"examples must be a list of pairs (text, label), or a frame with the columns {column!r} and {into!r}, "
            f"got {type(given).__name__}."
        )
    for text, names in pairs:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"The text of an example must be a non-empty string, got {text!r}. Drop such rows first.")
        for label in names:
            if label not in labels.names:
                raise InputError(f"The label of an example must be one of {', '.join(labels.names)}, got {label!r}.")
    return tuple(pairs)


def _meanings(given: Mapping[Any, Any]) -> dict[str, str]:
    for name, meaning in given.items():
        if not isinstance(meaning, str) or not meaning.strip():
            raise InputError(f"The meaning of {name!r} must be a non-empty string, got {meaning!r}.")
    return {_label(name): meaning for name, meaning in given.items()}


def _label_names(given: Any) -> list[Any]:
    """Return the labels of any collection in an order, of an enumeration, or of a ``Literal``."""
    if isinstance(given, (set, frozenset)):
        raise InputError(
            f"labels must be in an order, got a {type(given).__name__}: its order changes from run to run, and with it "
            "the prompt and its cached answers. Pass a list, such as sorted(labels)."
        )
    if isinstance(given, enum.EnumMeta):
        # Without aliases, which are other names of the same member.
        return list(dict.fromkeys(map(_label, given.__members__.values())))
    literals = _literals(given)
    if literals:
        return [_label(name) for name in literals]
    if isinstance(given, pd.CategoricalDtype):
        return [_label(name) for name in given.categories]
    if isinstance(given, (str, bytes, Mapping, pd.DataFrame)) or not isinstance(given, Iterable):
        raise InputError(f"labels must be a list of strings, or a dict of labels and what they mean, got {given!r}.")
    # The values of an Arrow array are not Python's own.
    names = given.to_pylist() if hasattr(given, "to_pylist") else list(given)
    categories = getattr(given, "categories", getattr(getattr(given, "dtype", None), "categories", None))
    if isinstance(categories, pd.Index) and (len(set(names)) < len(names) or pd.isna(pd.Series(names)).any()):
        # A column of labels, and not the labels of a column.
        names = list(categories)
    return [_label(name) for name in names]


def _literals(value: Any) -> tuple[Any, ...]:
    """Return the values of a ``Literal``, of a union of them, or of a name for one."""
    value = getattr(value, "__value__", value)
    origin, parts = typing.get_origin(value), typing.get_args(value)
    if origin is Literal:
        return parts
    if origin in (typing.Union, types.UnionType) and parts:
        values = [_literals(part) for part in parts]
        return tuple(dict.fromkeys(literal for each in values for literal in each)) if all(values) else ()
    return ()


def _label(value: Any) -> Any:
    """Return a label as a plain string: the value of a member of an enumeration, or its name if that is no string."""
    if isinstance(value, enum.Enum):
        value = value.value if isinstance(value.value, str) else value.name
    return str(value) if isinstance(value, str) else value


def _pair(value: Any, *, multi: bool) -> tuple[str, tuple[str, ...]]:
    kind = "(text, [labels])" if multi else "(text, label)"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise InputError(f"An example must be a pair {kind}, got {value!r}.")
    text, label = value
    several = isinstance(label, Sequence) and not isinstance(label, str)
    if several and not multi:
        raise InputError(f"An example must be a pair {kind}, got {value!r}. multi=True takes several labels.")
    return text, tuple(label) if several else (label,)


def _labeled_pairs(frame: pd.DataFrame, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts, labels = column_of(frame, column), column_of(frame, into)
    return [(text, (label,)) for text, label in zip(texts_of(texts, name=column), texts_of(labels), strict=True)]


def _flagged_pairs(frame: pd.DataFrame, labels: Labels, column: Any, into: Any) -> list[tuple[str, tuple[str, ...]]]:
    texts = texts_of(column_of(frame, column), name=column)
    flags = {name: column_of(frame, f"{into}_{name}") for name in labels.names}
    for name, flag in flags.items():
        if not pd.api.types.is_bool_dtype(flag) or flag.isna().any():
            raise InputError(f"The column {f'{into}_{name}'!r} of examples must be true or false in every row.")
    rows = [
        tuple(name for name, fits in zip(flags, row, strict=True) if fits) for row in zip(*flags.values(), strict=True)
    ]
    return list(zip(texts, rows, strict=True))
