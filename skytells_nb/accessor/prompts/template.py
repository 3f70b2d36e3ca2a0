"""Prompt templates: ``{column}`` fields filled for each row."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.text_columns import Texts, are_blank
from skytells_nb.columns import column_of, list_names
from skytells_nb.errors import InputError


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a template: a column, and how its values are formatted (empty: as a person would write them)."""

    column: Any
    spec: str = ""


class Template:
    """A prompt with ``{column}`` fields; ``{{`` and ``}}`` are literal braces.

    A field is the name of a column, whatever characters it has, or a name, a colon and a format specification such as
    ``{price:.2f}`` or ``{day:%d %b}``, where that is not itself the name of a column. Labels that are not strings are
    written as ``str`` does: ``{0}``. There are no attributes, indexes or conversions, so that neither a template nor
    the data it is filled with can reach anything else.

    >>> Template("Translate {word}.").fill(pd.DataFrame({"word": ["chat", None]})).tolist()
    ['Translate chat.', None]
    >>> Template("{day:%d %b}: {Q1: Why?}").fill(pd.DataFrame({"day": [pd.Timestamp("2026-05-01")], "Q1: Why?": ["x"]}))
    array(['01 May: x'], dtype=object)
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise InputError(f"A template must be a string with {{column}} fields, got {type(template).__name__}.")
        self.template = template

    def columns(self, frame: pd.DataFrame) -> list[Any]:
        """Return the columns of the fields, in order; raise InputError as ``fill``."""
        return [field.column for field in self._parse(frame)[1]]

    def fill(self, frame: pd.DataFrame, *, constant: bool = False, missing: str | None = None) -> Texts:
        """Return a text for each row, ``None`` where a value is missing or blank, unless ``missing`` stands for it.

        ``constant`` allows a template without fields. Raises InputError for a field that is not a column, and for a
        format that does not fit a value.
        """
        if missing is not None and not isinstance(missing, str):
            raise InputError(f"missing must be a string to write in place of missing values, got {missing!r}.")
        literals, fields = self._parse(frame)
        if not fields and not constant:
            hint = f" Did you mean '{{{self.template}}}'?" if self.template in _labels(frame) else ""
            raise InputError(f"The template must name a column: all rows would have the same prompt.{hint}")
        absent = np.zeros(len(frame), dtype=bool)
        parts: list[Any] = [repeat(literals[0], len(frame))]
        written: dict[Field, tuple[list[str], NDArray[np.bool_]]] = {}
        for field, literal in zip(fields, literals[1:], strict=True):
            if field not in written:
                texts, is_missing = _write(column_of(frame, field.column), field.spec)
                if missing is not None:
                    texts = [missing if gone else text for text, gone in zip(texts, is_missing.tolist(), strict=True)]
                else:
                    absent |= is_missing
                written[field] = texts, is_missing
            parts += [written[field][0], repeat(literal)]
        filled: Texts = np.empty(len(frame), dtype=object)
        filled[:] = list(map("".join, zip(*parts, strict=False)))
        filled[absent] = None
        return filled

    def _parse(self, frame: pd.DataFrame) -> tuple[list[str], list[Field]]:
        """Return the text before, between and after the fields, and the fields."""
        labels = _labels(frame)
        # The longest first: a name may begin like another, and may have braces of its own.
        names = sorted(labels, key=len, reverse=True)
        literals, fields, at, template = [""], [], 0, self.template
        while at < len(template):
            brace = min((place for place in (template.find("{", at), template.find("}", at)) if place >= 0), default=-1)
            if brace < 0:
                literals[-1] += template[at:]
                break
            literals[-1] += template[at:brace]
            if template[brace : brace + 2] in ("{{", "}}"):
                literals[-1] += template[brace]
                at = brace + 2
                continue
            if template[brace] == "}":
                raise InputError(_unparsable("a single '}'"))
            field, at = self._field(brace + 1, names, labels, frame)
            fields.append(field)
            literals.append("")
        return literals, fields

    def _field(
        self, start: int, names: Sequence[str], labels: dict[str, Any], frame: pd.DataFrame
    ) -> tuple[Field, int]:
        """Return the field whose text begins here, and where the template goes on after it."""
        template = self.template
        for name in names:
            if template.startswith(f"{name}}}", start):
                return Field(labels[name]), start + len(name) + 1
        end = template.find("}", start)
        if end < 0:
            raise InputError(_unparsable("a '{' without a '}'"))
        text = template[start:end]
        for name in names:
            if text.startswith(f"{name}:"):
                return Field(labels[name], text[len(name) + 1 :]), end + 1
        if text.partition("!")[0] in labels:
            name = text.partition("!")[0]
            raise InputError(
                f"Conversions such as !r are not supported: write {{{name}}}, or a format such as {{{name}:.2f}}. "
                "Double literal braces: {{ and }}."
            )
        what = f"The template names {{{text}}}" if text else "The template has an empty field {}"
        hint = "".join(f" Did you mean {{{name}}}?" for name in _near(text, names))
        raise InputError(
            f"{what}, which is not a column. The columns are: {list_names(frame.columns)}.{hint} "
            "Double literal braces: {{ and }}."
        )


def _write(column: pd.Series[Any], spec: str) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the text of each value, and which rows are missing or blank."""
    if isinstance(column.dtype, pd.StringDtype) and not spec:
        texts = column.fillna("").tolist()
        return texts, are_blank(texts)
    # Imported here: a template of texts does not need it.
    from skytells_nb.accessor.prompts.value_formatting import format_column, write_column

    return format_column(column, spec) if spec else write_column(column)


def _labels(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the labels of the columns by their text; strings go before others that are written alike."""
    labels: dict[str, Any] = {}
    for label in frame.columns:
        if isinstance(label, str):
            labels[label] = label
        else:
            labels.setdefault(str(label), label)
        if frame.columns.nlevels > 1 and isinstance(label[0], str):
            labels.setdefault(label[0], label[0])
    return labels


def _near(text: str, names: Sequence[str]) -> Iterator[str]:
    """Yield the one name that is most likely meant, if there is one."""
    folded = {_fold(name): name for name in reversed(names)}
    for given in (text, text.partition(":")[0]):
        close = difflib.get_close_matches(_fold(given), folded, n=1, cutoff=0.7)
        if close:
            yield folded[close[0]] + (text[len(given) :] if text[len(given) :].startswith(":") else "")
            return


def _fold(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _unparsable(found: str) -> str:
    return f"The template cannot be parsed: it has {found}. Double literal braces: {{{{ and }}}}."
