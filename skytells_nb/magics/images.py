"""The picture that a word of the command line names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytells_nb.client.pictures import picture
from skytells_nb.errors import InputError
from skytells_nb.magics.args import MagicUsageError


def image_url(word: str, namespace: Mapping[str, Any]) -> str:
    """The picture that ``--image`` names: a web address as it is, everything else as a data URL.

    A variable of that name comes before a file of that name. Raises MagicUsageError for what is no PNG, JPEG, GIF or
    WebP, for what is too large, and for what cannot be read.
    """
    try:
        found = picture(namespace.get(word, word))
        return found if isinstance(found, str) else found.url
    except InputError as problem:
        unknown = "no variable of this name, and " if word not in namespace else ""
        raise MagicUsageError(f"--image {word}: {unknown}{problem}") from None
