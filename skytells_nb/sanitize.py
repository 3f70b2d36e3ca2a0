"""What the other side says, on its way into a message: without API keys, without escape sequences, not too long.

Services, proxies and models are untrusted. What they say reaches terminals, notebooks, logs and pickles through errors
and warnings; each of them passes through here once.
"""

from __future__ import annotations

import html
import json
import re
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

MESSAGE_CHARS = 1_000
"""Most characters of a message that are quoted."""
NAME_CHARS = 200
"""Most characters of an id, a code or a parameter's name."""
BODY_CHARS = 2_000
"""Most characters of each text in the body of an error."""
BODY_ITEMS = 200
BODY_DEPTH = 20
"""Most items at one level, and most levels, of the body of an error."""
HIDDEN = "[API key]"
SHORTEST_KEY = 8
"""Keys with fewer characters are not hidden: they are placeholders, and occur in ordinary words."""

_ESCAPES = re.compile(
    # A control sequence; a string (title, clipboard, link) with its terminator; any other escape.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
_TAGS = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>")
_JOINERS = "\u200c\u200d"
"""Not printable by themselves, and part of words and emoji."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+").fullmatch
"""Keys that JSON, URLs and HTML write as they are."""


class Secret(Protocol):
    """An API key, which is revealed only to be sent or to be found."""

    def reveal(self) -> str: ...


_secrets: weakref.WeakSet[Any] = weakref.WeakSet()
_lock = threading.Lock()


def register_secret(secret: Secret) -> None:
    """Replace this key in every text from now on, for as long as it exists."""
    with _lock:
        _secrets.add(secret)


def _known() -> list[Secret]:
    with _lock:
        return list(_secrets)


def redact_keys(text: str) -> str:
    """Return the text without the keys in use, as they are or as JSON, a URL and HTML write them."""
    for secret in _known():
        if SHORTEST_KEY <= len(secret.reveal()) <= len(text):
            # Nothing is bound to a name that a traceback would show.
            for write in (str,) if _PLAIN(secret.reveal()) else (str, _as_json, _percent, html.escape):
                text = text.replace(write(secret.reveal()), HIDDEN)
    return text


def _as_json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _percent(value: str) -> str:
    return quote(value, safe="")


def strip_escapes(text: str) -> str:
    r"""Return the text without escape sequences and other characters that cannot be printed; lines stay lines.

    >>> strip_escapes("no \x1b]52;c;cHduZWQ=\x07\x1b[2Jway")
    'no way'
    """
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    return "".join(c for c in text if c.isprintable() or c in "\n\t" or c in _JOINERS)


def sanitize(text: str) -> str:
    r"""Return a message of several lines fit to be shown: without keys, its unprintable characters replaced.

    >>> sanitize("found \x1b[2J here") == "found \ufffd[2J here"
    True
    """
    text = redact_keys(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" or c in _JOINERS else "\ufffd" for c in text)


def quoted(value: Any, limit: int = MESSAGE_CHARS) -> str:
    r"""Return what the other side said as one line fit to be shown, cut after so many characters.

    >>> quoted("first\nsecond", 8)
    'first s…'
    """
    text = value if isinstance(value, str) else str(value)
    # A multiple of what is kept, so that a text of megabytes is not searched: what is cut hides no part of a key.
    # Escape sequences first: one within a key would hide it from the search.
    line = " ".join(redact_keys(strip_escapes(text[: 8 * limit + 4096])).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def page_text(page: str) -> str:
    """Return the text of an HTML page, or of XML; other text as it is.

    >>> page_text("<title>502</title><hr>Bad&nbsp;Gateway").split()
    ['502', 'Bad', 'Gateway']
    """
    return html.unescape(_TAGS.sub(" ", page))


def quoted_name(value: str | None) -> str | None:
    """Return an id, a code or another short name like ``quoted``; ``None`` if nothing is left of it.

    >>> quoted_name("req_1")
    'req_1'
    """
    if not value:
        return None
    if len(value) <= NAME_CHARS and value.isascii() and value.isprintable():
        return redact_keys(value)
    return quoted(value, NAME_CHARS) or None


def quoted_body(value: Any, depth: int = 0) -> Any:
    """Return parsed JSON with its texts fit to be shown, and cut where it is larger than anyone reads."""
    if isinstance(value, str):
        text = redact_keys(strip_escapes(value[: 4 * BODY_CHARS]))
        return text if len(text) <= BODY_CHARS else text[: BODY_CHARS - 1] + "…"
    if depth >= BODY_DEPTH and isinstance(value, (Mapping, list)):
        return "…"
    if isinstance(value, Mapping):
        members = list(value.items())[:BODY_ITEMS]
        return {quoted(name, NAME_CHARS): quoted_body(member, depth + 1) for name, member in members}
    if isinstance(value, list):
        return [quoted_body(member, depth + 1) for member in value[:BODY_ITEMS]]
    return value
