"""Code in the colours of its language."""

from __future__ import annotations

import html
from collections.abc import Iterable
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
_UNCOLOURED = frozenset({"", "err", "n", "p", "w"})


def coloured(runs: Iterable[tuple[str, str]]) -> str:
    """Pieces of code, each with the name of its language, as one ``<pre>``; line for line as they are.

    The colours are classes of Pygments', which JupyterLab, Notebook and nbconvert style for the theme in use; elsewhere
    it reads as plain text. A language that is not known has no colours.

    >>> coloured([("x = 1", "python")])
    '<div class="highlight"><pre class="skytells-text">x <span class="o">=</span> <span class="mi">1</span></pre></div>'
    """
    body = "".join(_spans(plain(code), language) for code, language in runs)
    return f'<div class="highlight"><pre class="skytells-text">{body}</pre></div>'


def _spans(code: str, language: str) -> str:
    if language not in LANGUAGES:
        return html.escape(code)
    from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]

    tokens = list(_lexer(language).get_tokens(code))
    # Some lexers keep back a last line that is not whole yet.
    if "".join(text for _, text in tokens) != code:
        return html.escape(code)
    named = ((STANDARD_TYPES.get(kind, ""), text) for kind, text in tokens)
    runs = groupby(named, key=lambda token: "" if token[0] in _UNCOLOURED else token[0])
    return "".join(_span("".join(text for _, text in run), name) for name, run in runs)


def _span(text: str, name: str) -> str:
    escaped = html.escape(text)
    return f'<span class="{name}">{escaped}</span>' if name else escaped


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)
