"""Syntax highlighting of code."""

from __future__ import annotations

import contextlib
import html
import re
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import groupby
from typing import Any

from skytells_nb.widgets.page_layout import GROW_CLASS
from skytells_nb.widgets.safe_text import plain

LANGUAGES = frozenset(
    {
        *("bash", "c", "c#", "c++", "clojure", "cmake", "console", "cpp", "cs", "csharp", "css", "cuda", "dart"),
        *(
            "diff",
            "docker",
            "dockerfile",
            "elixir",
            "erlang",
            "fortran",
            "go",
            "golang",
            "graphql",
            "groovy",
            "haskell",
        ),
        *("hcl", "html", "http", "ini", "ipython", "ipython3", "java", "javascript", "js", "json", "jsonc", "jsx"),
        *("julia", "kotlin", "kt", "latex", "lua", "make", "makefile", "matlab", "nginx", "objective-c", "ocaml"),
        *("patch", "perl", "php", "pl", "postgresql", "powershell", "proto", "protobuf", "ps1", "py", "pycon"),
        *("python", "python3", "r", "rb", "rs", "ruby", "rust", "sas", "scala", "scss", "sh", "shell", "sql", "stata"),
        *("svg", "swift", "terraform", "tex", "toml", "ts", "tsx", "typescript", "vb.net", "vim", "xml", "yaml", "yml"),
        *("zig", "zsh"),
    }
)
"""The languages to highlight; a name that a model invents must not load a plug-in."""
_ALIASES = {"jsonc": "json", "kt": "kotlin", "patch": "diff", "ps1": "powershell", "svg": "xml", "terraform": "hcl"}
_UNSTYLED = frozenset({"", "err", "n", "o", "p", "w"})
"""Operators are a third of the tokens, and recognizable without a color."""
_SAME_STYLE = {
    **dict.fromkeys(("kc", "kd", "kn", "kp", "kr", "ow"), "k"),
    **dict.fromkeys(("s1", "s2", "sa", "se", "si"), "s"),
    **dict.fromkeys(("m", "mb", "mf", "mh", "mi", "mo", "il"), "s"),
}
"""Token classes with the same or almost the same look, so that adjacent tokens become one element; numbers look like
other literals, since JupyterLab's color of numbers has a contrast of 4.25 in its light theme."""
_COMMENTS = frozenset({"c", "c1", "ch", "cm", "cp", "cpf", "cs"})
"""In italics, without a class: JupyterLab's color of comments has a contrast of 4.15 in its dark theme."""
_LANGUAGE = re.compile(r"[\w+#.-]{1,40}", re.ASCII)
FRAME_CLASS = "highlight alert"
LONG_LINE_CHARS = 100
"""A longer line goes on beyond the edge of most pages, and not every system shows a scroll bar before it is used."""
FOCUSED_LINE_CHARS = 60
"""A block with a longer line may have to be scrolled, which the keyboard does once the block has the focus."""
LONG_LINES = "long lines scroll sideways"
MAX_HIGHLIGHTED_CHARS = 60_000
MAX_LEXING_S = 0.25
"""CPU time after which code is shown without colors: some lexers take the square of the length of an odd text."""


def highlight_code(runs: Iterable[tuple[str, str]]) -> str:
    """Return pieces of code, each with its language, as one ``<pre>``, line by line.

    The classes are those of Pygments, which JupyterLab, Notebook and nbconvert style by their theme; elsewhere keywords
    are bold. Comments are in italics. Code in an unknown language is not highlighted.

    >>> highlight_code([("x = None  # yet", "python")])  # doctest: +NORMALIZE_WHITESPACE
    '<div class="highlight"><pre class="skytells-text"><listing>x = <b
    class=k>None  </b><i># yet</i></listing></pre></div>'
    """
    body = _unwrapped("".join(_spans(plain(code), language) for code, language in runs))
    return f'<div class="highlight"><pre class="skytells-text">{body}</pre></div>'


def highlight_block(code: str, language: str) -> str:
    """Return a block of code in a frame that names its language, and says so where lines are long.

    Jupyter's style fills and rounds the frame, and lets the ``<pre>`` in it scroll. Of its own that has the color of
    the page, so an element of the frame's color covers it: as wide as the ``<pre>`` and as the longest line.

    >>> highlight_block("x = None", "python")  # doctest: +NORMALIZE_WHITESPACE
    '<div class="highlight alert" dir="ltr"><div><small>python</small></div><pre><code class="language-python"><div
    class="lm-TabBar-content"><listing class="lm-TabBar-content highlight"><span>x = <b
    class=k>None</b></span></listing></div></code></pre></div>'
    """
    named = _LANGUAGE.fullmatch(language.strip("{}.")) if language else None
    labels = [f"<small>{named.group()}</small>"] if named else []
    longest = max(map(len, code.splitlines()), default=0)
    if longest > LONG_LINE_CHARS:
        labels.append(f"<i><small>{LONG_LINES}</small></i>")
    label = f"<div>{' · '.join(labels)}</div>" if labels else ""
    attribute = f' class="language-{named.group()}"' if named else ""
    body = _spans(plain(code), named.group().lower() if named else "")
    cover = f'<listing class="{GROW_CLASS} highlight"><span>{body}</span></listing>'
    focus = ' tabindex="0"' if longest > FOCUSED_LINE_CHARS else ""
    inside = f'<pre{focus}><code{attribute}><div class="{GROW_CLASS}">{cover}</div></code></pre>'
    return f'<div class="{FRAME_CLASS}" dir="ltr">{label}{inside}</div>'


def _unwrapped(body: str) -> str:
    """Return code within an element whose lines are not wrapped: Jupyter's style of ``<pre>`` breaks words.

    A page leaves out a line break right after the start of this element, so those stand before it.
    """
    code = body.lstrip("\n")
    return f"{body[: len(body) - len(code)]}<listing>{code}</listing>"


@lru_cache(maxsize=32)
def _spans(code: str, language: str) -> str:
    """Return the code as HTML; a block of an answer is needed again each time that the answer grows."""
    if language not in LANGUAGES or len(code) > MAX_HIGHLIGHTED_CHARS:
        return html.escape(code)
    tokens = _tokens(code, language)
    # Some lexers drop a last line that is incomplete.
    if "".join(text for _, text in tokens) != code:
        return html.escape(code)
    runs = groupby(_token_classes(tokens), key=lambda token: token[0])
    return "".join(_span("".join(text for _, text in run), name) for name, run in runs)


def _tokens(code: str, language: str) -> list[tuple[Any, str]]:
    """Return the tokens, or none if they take too long."""
    tokens, deadline = [], time.thread_time() + MAX_LEXING_S
    for number, token in enumerate(_lexer(language).get_tokens(code)):
        if number % 16 == 0 and time.thread_time() > deadline:
            return []
        tokens.append(token)
    return tokens


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
    if name in _COMMENTS:
        return f"<i>{escaped}</i>"
    element = "b" if name == "k" else "span"
    return f"<{element} class={name}>{escaped}</{element}>"


def preload() -> None:
    """Load the Python lexer, which takes about 30 ms, in a background thread."""
    # Where no thread can start, the first code of the session takes longer.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=highlight_code, args=([("0", "python")],), name="skytells-colors", daemon=True).start()


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

    return get_lexer_by_name(_ALIASES.get(language, language), stripnl=False, ensurenl=False)
