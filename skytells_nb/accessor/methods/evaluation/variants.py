"""The variants of a comparison: prompts or models, each as a call of a method of the accessor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from skytells_nb.accessor.options import SessionOptions
from skytells_nb.accessor.prompts.labels import Labels
from skytells_nb.errors import InputError

ANSWERS = "skytells_variant"
"""The column of a variant's answers, where it is called."""
_OF_THE_COMPARISON = (
    *SessionOptions.__annotations__,
    "into",
    "details",
    "keep",
    "flatten",
    "prefix",
    "progress",
    "on_error",
    "dry_run",
    "sample",
)
_NOT_COMPARED = {
    "multi": "its answers are several labels",
    "agree": "a cascade needs more rows than a sample has",
}


@dataclass(frozen=True)
class Variant:
    """One of them: its name, and the method and keywords of the call."""

    name: str
    method: Literal["classify", "complete", "filter"]
    options: Mapping[str, Any]

    @property
    def labels(self) -> tuple[Any, ...] | None:
        """What its answers can be, ``None`` for texts."""
        if self.method == "complete":
            return None
        if self.method == "filter":
            return (False, True)
        return Labels.of(self.options["labels"], self.options.get("other")).names

    def arguments(self, column: Any) -> dict[str, Any]:
        """Return the keywords of the call on a column of texts."""
        options = dict(self.options)
        if self.method == "complete":
            template = options.pop("template", None)
            return {"template": "{" + str(column) + "}" if template is None else template, **options, "into": ANSWERS}
        only = {"keep": "column"} if self.method == "filter" else {}
        return {"column": column, **options, "into": ANSWERS, **only}


def read_variants(given: Any, shared: Mapping[str, Any], methods: Mapping[str, Any]) -> list[Variant]:
    """Read the variants of a comparison; raise InputError for what cannot be compared.

    ``shared`` are keywords of all variants, ``methods`` those that a variant may call.
    """
    if isinstance(given, Mapping):
        named = [(str(name), value) for name, value in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        named = [(_name(value, number), value) for number, value in enumerate(given, 1)]
    else:
        raise InputError(
            "variants must be a dict of names and variants, or a list of them: names of models, prompts, or keywords "
            f"such as {{'labels': [...], 'model': 'gpt-5'}}, got {type(given).__name__}."
        )
    if len(named) < 2:
        raise InputError(f"variants must be at least two, got {len(named)}.")
    names = [name for name, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"variants must have different names, got {twice!r} twice. Pass a dict that names them.")
    variants = [_variant(name, value, shared, methods) for name, value in named]
    kinds = {each.method == "filter" for each in variants}
    if len(kinds) > 1:
        raise InputError("variants must all be yes-or-no questions or none of them, so that their answers can agree.")
    return variants


def _name(value: Any, number: int) -> str:
    if isinstance(value, str):
        return value.strip()
    model = value.get("model") if isinstance(value, Mapping) else None
    return f"variant {number}" if model is None else f"variant {number} ({model})"


def _variant(name: str, value: Any, shared: Mapping[str, Any], methods: Mapping[str, Any]) -> Variant:
    options = dict(shared)
    if isinstance(value, str):
        if not value.strip():
            raise InputError(f"The variant {name!r} must be a prompt or the name of a model, got an empty string.")
        options |= _of_text(value, shared)
    elif isinstance(value, Mapping):
        # What a variant asks is its own: of a shared question or labels it takes the place.
        if "question" in value or "template" in value:
            options.pop("labels", None)
        if "labels" in value or "template" in value:
            options.pop("question", None)
        options |= value
    else:
        raise InputError(
            f"The variant {name!r} must be the name of a model, a prompt, or a dict of keywords, got "
            f"{type(value).__name__}."
        )
    method: Literal["classify", "complete", "filter"] = (
        "classify" if "labels" in options else "filter" if "question" in options else "complete"
    )
    asked = {"template", "system", "examples", "answer", "images", "conversation"}
    if method == "complete" and not asked & options.keys():
        raise InputError(
            f"The variant {name!r} must say what is asked about each text: labels=, question=, a prompt, or a "
            f"template=, got {', '.join(sorted(options)) or 'nothing'}. What all variants share can be a keyword of "
            "compare()."
        )
    for keyword, reason in _NOT_COMPARED.items():
        if options.get(keyword):
            raise InputError(f"The variant {name!r} must be without {keyword}: {reason}.")
    own = next((keyword for keyword in _OF_THE_COMPARISON if keyword in options), None)
    if own is not None:
        raise InputError(f"{own} must be a keyword of compare() and not of the variant {name!r}.")
    known = inspect.signature(methods[method]).parameters
    unknown = next((keyword for keyword in options if keyword not in known or keyword in ("self", "column")), None)
    if unknown is not None:
        raise InputError(f"The variant {name!r} has the unknown keyword {unknown!r} of {method}().")
    return Variant(name, method, options)


def _of_text(value: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a variant that is one text: a prompt has spaces or fields, a model's name has neither."""
    text = value.strip()
    if "{" not in text and not any(letter.isspace() for letter in text):
        return {"model": text}
    if "labels" in shared:
        return {"instructions": text}
    if "question" in shared:
        return {"question": text}
    return {"template": value} if "{" in text else {"system": value}
