"""The notebook's variables in a prompt: found by name, put in place of their placeholders."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from skytells_nb.client.images import load_image
from skytells_nb.errors import InputError
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.widgets.chat_panel.variable_text import variable_text


def variables_as_text(names: Iterable[str], variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the named variables as text.

    An answer becomes its text; a dict, a list or a pydantic object JSON; a date, a decimal or an array its usual text;
    a DataFrame or a Series its shape, its types and its first ``MAX_ROWS`` rows. Raises MagicUsageError for a name that
    does not exist and for a value of another type.
    """
    texts = {}
    for name in names:
        value = find_variable("-v", name, variables)
        try:
            texts[name] = variable_text(name, value)
        except InputError as error:
            raise MagicUsageError(f"-v {name}: {error}") from None
    return texts


def find_variable(option: str, name: str, variables: Mapping[str, Any]) -> Any:
    """Return the variable that an option names; raises MagicUsageError, and says where a local one is."""
    if name in variables:
        return variables[name]
    where = f"{option} {name}: there is no variable of this name"
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals is variables and name in frame.f_locals:
            function = frame.f_code.co_name
            raise MagicUsageError(
                f"{where} in the notebook; it is local to {function}(), and a magic sees only the notebook's "
                f"variables. Write `global {name}` in {function}(), or fill the prompt there and send it with "
                "sky.current().client.chat.completions.create(…)"
            )
        frame = frame.f_back  # type: ignore[assignment]
    raise MagicUsageError(where)


def placeholder(name: str) -> str:
    """Return the placeholder of a variable in the body.

    >>> placeholder("city")
    '{{city}}'
    """
    return f"{{{{{name}}}}}"


def fill_placeholders(body: str, values: Mapping[str, str]) -> str:
    """Replace ``{{name}}`` in the body for each name in ``values``, in one pass; other braces are left as they are.

    Spaces within the braces make no difference. Placeholders inside a value are not replaced. Raises MagicUsageError if
    the body does not use a value.

    >>> fill_placeholders('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    if not values:
        return body
    pattern = re.compile(rf"\{{\{{[ \t]*({'|'.join(map(re.escape, values))})[ \t]*\}}\}}")
    used = {match[1] for match in pattern.finditer(body)}
    unused = [name for name in values if name not in used]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    return pattern.sub(lambda match: values[match[1]], body)


def image_url(reference: str, variables: Mapping[str, Any]) -> str:
    """Return the URL of the image that ``--image`` names: a web address unchanged, everything else as a data URL.

    A variable of that name takes precedence over a file of that name. Raises MagicUsageError for an image that is not
    PNG, JPEG, GIF or WebP, is too large, or cannot be read.
    """
    try:
        image = load_image(variables.get(reference, reference))
        return image if isinstance(image, str) else image.url
    except InputError as error:
        unknown = "no variable of this name, and " if reference not in variables else ""
        raise MagicUsageError(f"--image {reference}: {unknown}{error}") from None
