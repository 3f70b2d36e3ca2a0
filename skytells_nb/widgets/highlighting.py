"""Code in the colours of its language."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import Any

from skytells_nb.widgets.safe_html import plain

LANGUAGES = frozenset(
    {
        *("bash", "c", "c++", "console", "cpp", "css", "diff", "go", "html", "ini", "ipython", "ipython3", "java"),
        *("javascript", "js", "json", "julia", "py", "pycon", "python", "python3", "r", "ruby", "rust"),
        *("scala", "sh", "shell", "sql", "swift", "toml", "ts", "typescript", "xml", "yaml", "yml", "zsh"),
    }
)
"""What is coloured: a name that a model makes up loads no plug-in."""
_UNCOLOURED = frozenset({"", "err", "n", "o", "p", "w"})
"""Operators are a third of what could be coloured, and say with their shape what they are."""
_ALIKE = {
    **dict.fromkeys(("kc", "kd", "kn", "kp", "kr", "ow"), "k"),
    **dict.fromkeys(("s1", "s2", "sa", "se", "si"), "s"),
}
"""Kinds that look the same, or almost, so that neighbours are one element."""
_COMMENTS = frozenset({"c", "c1", "ch", "cm", "cs"})


def coloured(runs: Iterable[tuple[str, str]]) -> str:
    """Pieces of code, each with the name of its language, as one ``<pre>``; line for line as they are.

    The colours are classes of Pygments', which JupyterLab, Notebook and nbconvert style for the theme in use; elsewhere
    keywords are bold and comments in italics. A language that is not known has no colours.

    >>> coloured([("x = None  # yet", "python")])
    '<div class="highlight"><pre class="skytells-text">x = <b class=k>None  </b><i class=c1># yet</i></pre></div>'
    """
    body = "".join(_spans(plain(code), language) for code, language in runs)
    return f'<div class="highlight"><pre class="skytells-text">{body}</pre></div>'


def _spans(code: str, language: str) -> str:
    if language not in LANGUAGES:
        return html.escape(code)
    tokens = list(_lexer(language).get_tokens(code))
    # Some lexers keep back a last line that is not whole yet.
    if "".join(text for _, text in tokens) != code:
        return html.escape(code)
    runs = groupby(_named(tokens), key=lambda token: token[0])
    return "".join(_span("".join(text for _, text in run), name) for name, run in runs)


def _named(tokens: Iterable[tuple[Any, str]]) -> Iterator[tuple[str, str]]:
    """Each token by its class, empty for one without colour; blanks in a line are of the class before them."""
    from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

    last = ""
    for kind, text in tokens:
        if text.strip(" "):
            name = STANDARD_TYPES.get(kind, "")
            last = "" if name in _UNCOLOURED else _ALIKE.get(name, name)
        yield last, text


def _span(text: str, name: str) -> str:
    # Most of a coloured page is markup, so it does without every sign that it can do without.
    escaped = html.escape(text, quote=False)
    if not name:
        return escaped
    element = "b" if name == "k" else "i" if name in _COMMENTS else "span"
    return f"<{element} class={name}>{escaped}</{element}>"


def ready() -> None:
    """Load what colours Python, which takes some 30 ms, beside whatever the caller waits for."""
    threading.Thread(target=coloured, args=([("0", "python")],), name="skytells-colours", daemon=True).start()


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)
