"""Syntax highlighting of code."""

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
"""The languages to highlight; a name that a model invents must not load a plug-in."""
_UNSTYLED = frozenset({"", "err", "n", "o", "p", "w"})
"""Operators are a third of the tokens, and recognizable without a color."""
_SAME_STYLE = {
    **dict.fromkeys(("kc", "kd", "kn", "kp", "kr", "ow"), "k"),
    **dict.fromkeys(("s1", "s2", "sa", "se", "si"), "s"),
}
"""Token classes with the same or almost the same look, so that adjacent tokens become one element."""
_COMMENTS = frozenset({"c", "c1", "ch", "cm", "cs"})


def highlight_code(runs: Iterable[tuple[str, str]]) -> str:
    """Return pieces of code, each with its language, as one ``<pre>``, line by line.

    The classes are those of Pygments, which JupyterLab, Notebook and nbconvert style by their theme; elsewhere keywords
    are bold and comments are in italics. Code in an unknown language is not highlighted.

    >>> highlight_code([("x = None  # yet", "python")])
    '<div class="highlight"><pre class="skytells-text">x = <b class=k>None  </b><i class=c1># yet</i></pre></div>'
    """
    body = "".join(_spans(plain(code), language) for code, language in runs)
    return f'<div class="highlight"><pre class="skytells-text">{body}</pre></div>'


def _spans(code: str, language: str) -> str:
    if language not in LANGUAGES:
        return html.escape(code)
    tokens = list(_lexer(language).get_tokens(code))
    # Some lexers drop a last line that is incomplete.
    if "".join(text for _, text in tokens) != code:
        return html.escape(code)
    runs = groupby(_token_classes(tokens), key=lambda token: token[0])
    return "".join(_span("".join(text for _, text in run), name) for name, run in runs)


def _token_classes(tokens: Iterable[tuple[Any, str]]) -> Iterator[tuple[str, str]]:
    """Yield each token's class, empty for an unstyled one, with its text; spaces take the class before them."""
    from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

    last = ""
    for kind, text in tokens:
        if text.strip(" "):
            name = STANDARD_TYPES.get(kind, "")
            last = "" if name in _UNSTYLED else _SAME_STYLE.get(name, name)
        yield last, text


def _span(text: str, name: str) -> str:
    # Most of highlighted code is markup, so the markup is as short as possible.
    escaped = html.escape(text, quote=False)
    if not name:
        return escaped
    element = "b" if name == "k" else "i" if name in _COMMENTS else "span"
    return f"<{element} class={name}>{escaped}</{element}>"


def preload() -> None:
    """Load the Python lexer, which takes about 30 ms, in a background thread."""
    threading.Thread(target=highlight_code, args=([("0", "python")],), name="skytells-colors", daemon=True).start()


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)
