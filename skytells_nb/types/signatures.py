"""Keywords typed by ``Unpack[TypedDict]``, shown one by one in runtime signatures and in docstrings.

Type checkers read ``Unpack``; ``help()`` and completion in notebooks read the signature and the docstring.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_PARAMETERS = re.compile(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n---+\n|\Z)", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^\w[^\n]*\n---+\n", re.MULTILINE)
_ENTRY = re.compile(r"^(?=\S)", re.MULTILINE)


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


def parameter_docs(docstring: str | None) -> dict[str, str]:
    """Return the entries of a numpydoc "Parameters" section by name.

    >>> parameter_docs("Count.\\n\\nParameters\\n----------\\nn : int\\n    How many.\\nof : str\\n    Of what.\\n")
    {'n': 'n : int\\n    How many.', 'of': 'of : str\\n    Of what.'}
    """
    section = _PARAMETERS.search(inspect.cleandoc(docstring or ""))
    entries = _ENTRY.split(section[1])[1:] if section else []
    return {entry.partition(" : ")[0]: entry.rstrip() for entry in entries}


def fill_parameters(function: Callable[..., Any], shared: Mapping[str, str]) -> None:
    """Rewrite the "Parameters" section in the order of the signature.

    Entries of the function's own docstring stay; the others are taken from ``shared``.
    """
    if function.__doc__ is None:  # python -OO
        return
    docstring = inspect.cleandoc(function.__doc__)
    entries = {**shared, **parameter_docs(docstring)}
    names = [name for name in inspect.signature(function).parameters if name in entries]
    section = "\n".join(["Parameters", "-" * len("Parameters"), *(entries[name] for name in names)]) + "\n\n"
    found = _PARAMETERS.search(docstring) or _SECTION.search(docstring)
    if found is None:
        start = end = len(docstring)
    else:
        start, end = found.start(), found.end() if found.re is _PARAMETERS else found.start()
    function.__doc__ = f"{docstring[:start].rstrip()}\n\n{section}{docstring[end:]}".rstrip() + "\n"
