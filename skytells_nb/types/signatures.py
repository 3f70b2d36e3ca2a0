"""Keywords typed by ``Unpack[TypedDict]``, shown one by one in runtime signatures and in docstrings.

Type checkers read ``Unpack``; ``help()`` and completion in notebooks read the signature and the docstring.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_HEADER = "Parameters\n----------\n"
_SECTION = re.compile(r"\n\n\w[^\n]*\n---+\n")
_ENTRY = re.compile(r"\n(?=\S)")


def expand_signature(
    options: type, *, defaults: Mapping[str, Any] | None = None, closed: bool = False
) -> Callable[[F], F]:
    """Show the keys of a TypedDict as keywords in the function's runtime signature, before its ``**`` parameter.

    ``defaults`` are shown in place of ``None``. ``closed=True`` leaves the ``**`` parameter out, for a function that
    takes no other keywords.
    """

    def expand(function: F) -> F:
        signature = inspect.signature(function)
        *named, rest = signature.parameters.values()
        expanded = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=(defaults or {}).get(name),
                annotation=getattr(annotation, "__forward_arg__", annotation),
            )
            for name, annotation in options.__annotations__.items()
        ]
        tail = [] if closed else [rest.replace(annotation="Any")]
        function.__signature__ = signature.replace(parameters=[*named, *expanded, *tail])  # type: ignore[attr-defined]
        return function

    return expand


@functools.cache
def parameter_docs(docstring: str | None) -> dict[str, str]:
    """Return the entries of a numpydoc "Parameters" section by name.

    >>> parameter_docs("Count.\\n\\nParameters\\n----------\\nn : int\\n    How many.\\nof : str\\n    Of what.\\n")
    {'n': 'n : int\\n    How many.', 'of': 'of : str\\n    Of what.'}
    """
    docstring = inspect.cleandoc(docstring or "")
    start, end = _parameters_span(docstring)
    entries = _ENTRY.split(docstring[start + len(_HEADER) : end].strip("\n")) if start < end else []
    return {entry.partition(" : ")[0]: entry for entry in entries}


def fill_parameters(function: Callable[..., Any], shared: Mapping[str, str]) -> None:
    """Rewrite the "Parameters" section in the order of the signature.

    Entries of the function's own docstring stay; the others are taken from ``shared``.
    """
    if function.__doc__ is None:  # python -OO
        return
    docstring = inspect.cleandoc(function.__doc__)
    entries = {**shared, **parameter_docs(docstring)}
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    names = [name for each in parameters if (name := stars.get(each.kind, "") + each.name) in entries]
    section = _HEADER + "\n".join(entries[name] for name in names)
    start, end = _parameters_span(docstring)
    parts = (docstring[:start].rstrip(), section, docstring[end:].lstrip("\n"))
    function.__doc__ = "\n\n".join(part for part in parts if part) + "\n"


def _parameters_span(docstring: str) -> tuple[int, int]:
    """Return where the "Parameters" section starts and ends; without one, both are where it would be."""
    start = 0 if docstring.startswith(_HEADER) else docstring.find("\n" + _HEADER) + 1
    found = docstring.startswith(_HEADER, start)
    following = _SECTION.search(docstring, start + len(_HEADER) if found else 0)
    end = following.start() if following else len(docstring)
    return (start, end) if found else (end, end)
