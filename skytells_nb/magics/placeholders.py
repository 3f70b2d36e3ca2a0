"""Variables in the body of a cell: ``{{name}}`` where it was asked for, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping

from skytells_nb.magics.args import MagicUsageError


def placeholder(name: str) -> str:
    """How the body names a variable.

    >>> placeholder("city")
    '{{city}}'
    """
    return f"{{{{{name}}}}}"


def fill(body: str, values: Mapping[str, str]) -> str:
    """The body with ``{{name}}`` replaced for each name in ``values``, in one pass; all other braces stay.

    A value is text, never a template: what looks like a placeholder in it is not filled. Raises MagicUsageError where
    the body does not use a value.

    >>> fill('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    unused = [name for name in values if placeholder(name) not in body]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    if not values:
        return body
    pattern = re.compile("|".join(re.escape(placeholder(name)) for name in values))
    return pattern.sub(lambda found: values[found.group()[2:-2]], body)
