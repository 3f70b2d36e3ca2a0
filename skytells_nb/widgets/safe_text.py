"""Untrusted text as plain text, and as the literal text of a page."""

from __future__ import annotations

import html
import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor, clear
    r"|\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: window title, clipboard, links
    r"|\x1b[PX^_][^\x1b\x9c]*(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Embeddings, overrides and isolates reorder the display of code and addresses. Right-to-left text does not need them.
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdfd\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
# Commands with effects outside a formula: links, styles and ids on the page, loading, and macros that would change
# every later formula of the notebook. MathJax's safe mode blocks some of these; not every front end enables it.
UNSAFE_TEX = re.compile(
    r"\\(?=(?:href|url|style|class|cssId|html\w*|data|bbox|enclose|require|unicode|mml\w*|includegraphics|csname|"
    r"[gex]?def|let|futurelet|(?:re|provide)?new(?:command|environment)|(?:re|provide)command|renewenvironment|"
    r"DeclareMathOperator|DeclarePairedDelimiters?\w*|Newextarrow|global|input|write|special|loadOOLib|texttip|"
    r"mathtip|toggle|action)(?![A-Za-z]))"
)
_WORD_JOINER = "\u2060"
# What a front end takes for the beginning of a formula.
_FORMULA_MARK = re.compile(r"\$|\\(?=[()\[\]]|(?:begin|end)\{)")


def escape(text: str) -> str:
    """Escape the text for an HTML page or attribute.

    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return escape_tex(plain(text))


def escape_tex(text: str) -> str:
    """Escape the text, and disable TeX commands with effects outside their formula."""
    return html.escape(UNSAFE_TEX.sub(f"\\\\{_WORD_JOINER}", text), quote=True)


def literal_html(text: str) -> str:
    """Escape the text for an element of its own, where no front end may take a part of it for a formula.

    Front ends join text only within one element, so each mark of a formula gets an element of its own.

    >>> literal_html("$5 < $10")
    '<span>$</span>5 &lt; <span>$</span>10'
    """
    escaped = escape(text)
    # One dollar sign alone begins nothing.
    return separate_formula_marks(escaped) if escaped.count("$") > 1 or "\\" in escaped else escaped


def separate_formula_marks(escaped: str) -> str:
    """Put each mark of a formula in escaped text into an element of its own."""
    if "$" not in escaped and "\\" not in escaped:
        return escaped
    return _FORMULA_MARK.sub(lambda mark: f"<span>{mark.group()}</span>", escaped)


def preformatted(text: str) -> str:
    """Return the text in a ``<pre>``, line by line."""
    return f'<pre class="skytells-text">{html.escape(plain(text), quote=True)}</pre>'


def plain(text: str) -> str:
    """Return the text without escape sequences, bidirectional controls, and control characters but newline and tab.

    >>> plain("\\x1b[31mred\\x1b[0m and \\x1b]0;title\\x07done")
    'red and done'
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return without_reordering(_CONTROLS.sub("", text))


def without_reordering(text: str) -> str:
    """Return the text without the characters that change the order in which it is read."""
    return _REORDERING.sub("", text)
