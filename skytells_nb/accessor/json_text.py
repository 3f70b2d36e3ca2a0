"""The JSON object in what a model said, which may stand in a fence or among words."""

from __future__ import annotations

import re

_FENCED = re.compile(r"```[A-Za-z]*\s*\n(.*?)```", re.DOTALL)


def object_text(text: str) -> str:
    """The text of the JSON object in an answer; the answer itself where it holds none.

    >>> object_text('Here it is: {"legs": 4}. Anything else?')
    '{"legs": 4}'
    """
    said = text.strip()
    if said.startswith("{"):
        return said
    fenced = _FENCED.search(said)
    inner = fenced.group(1).strip() if fenced else said
    start, end = inner.find("{"), inner.rfind("}")
    return inner[start : end + 1] if 0 <= start < end else said
