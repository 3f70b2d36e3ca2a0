"""Sanitize untrusted text for a page and for a terminal.

A front end trusts the outputs of a running notebook: raw HTML in them runs as the user. So Markdown is rendered here,
with HTML disabled, and the result passes an allow-list before it is published.
"""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
TAGS = {
    *("p", "br", "hr", *HEADINGS, "ul", "ol", "li", "blockquote", "pre", "code", "em"),
    *("strong", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"a": {"href"}, "code": {"class"}, "ol": {"start"}, **{tag: {"class"} for tag in HEADINGS}}
_TOC_IGNORE_CLASS = "jp-toc-ignore"
"""Keeps headings of answers out of JupyterLab's table of contents; creating entries took most of the page's time after
a long answer."""
IMAGE_ATTRIBUTES = {"src", "alt", "referrerpolicy"}
_NO_REFERRER = "no-referrer"
"""Hides from an image's server which page shows it."""
MAX_FORMULA_CHARS = 2_000
"""Characters searched for the end of a formula; longer formulas stay plain text."""

_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_CLASS = re.compile(r"language-[\w+#.-]{1,40}")
# A host name; an IP address or localhost could be the notebook server, which would receive its cookies.
_PUBLIC_IMAGE_URL = re.compile(
    r"https?://(?![^/?#:]*\.localhost(?![\w.-]))(?:[a-z0-9-]+\.)+[a-z][a-z0-9-]+(?::\d+)?(?:[/?#].*)?",
    re.IGNORECASE | re.ASCII,
)
# pandoc's rule, so that "$5 and $10" stays an amount of money.
_INLINE_MATH = re.compile(r"\$(?![\s$])[^$]{0,500}?(?<![\s\\])\$(?!\d)")
_MATH = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
# Commands with effects outside a formula: links, styles and ids on the page, loading, and macros that would change
# every later formula of the notebook. MathJax's safe mode blocks some of these; not every front end enables it.
_UNSAFE_TEX = re.compile(
    r"\\(?=(?:href|url|style|class|cssId|html\w*|data|bbox|enclose|require|unicode|mml\w*|includegraphics|csname|"
    r"[gex]?def|let|futurelet|(?:re|provide)?new(?:command|environment)|(?:re|provide)command|renewenvironment|"
    r"DeclareMathOperator|DeclarePairedDelimiters?\w*|Newextarrow|global|input|write|special|loadOOLib|texttip|"
    r"mathtip|toggle|action)(?![A-Za-z]))"
)
_WORD_JOINER = "\u2060"

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
_HOST = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}")


def safe_html(markdown: str, *, remote_images: bool = False) -> str:
    """Return the Markdown as sanitized HTML.

    Raw HTML is shown as text, images become plain links, links lead to http, https and mailto only, and a link whose
    text names another host is followed by its real host. Formulas stay text that the front end typesets, without
    commands that have effects outside the formula. With ``remote_images`` the page loads images of named web hosts,
    which tells their servers that it is shown, and what the model wrote into the address.

    >>> safe_html("*hi* <script>")
    '<div class="skytells-md"><p><em>hi</em> &lt;script&gt;</p>\\n</div>'
    """
    return wrap_html(safe_blocks(markdown, remote_images=remote_images))


def wrap_html(page: str) -> str:
    """Wrap rendered blocks in one element."""
    return f'<div class="skytells-md">{page}</div>'


def safe_blocks(markdown: str, *, remote_images: bool = False) -> str:
    """Return sanitized HTML without a wrapper: the concatenated HTML of blocks is that of the whole text."""
    import nh3

    page: str = nh3.clean(
        _REORDERING.sub("", _markdown(remote_images).render(markdown)),
        tags=TAGS | {"img"} if remote_images else TAGS,
        attributes={**ATTRIBUTES, "img": IMAGE_ATTRIBUTES, "*": set()},
        attribute_filter=_allowed,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return page


def escape(text: str) -> str:
    """Escape the text for an HTML page or attribute.

    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return _escape_text(plain(text))


def preformatted(text: str) -> str:
    """Return the text in a ``<pre>``, line by line."""
    return f'<pre class="skytells-text">{html.escape(plain(text), quote=True)}</pre>'


def plain(text: str) -> str:
    """Return the text without escape sequences, bidirectional controls, and control characters but newline and tab.

    >>> plain("\\x1b[31mred\\x1b[0m and \\x1b]0;title\\x07done")
    'red and done'
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _REORDERING.sub("", _CONTROLS.sub("", text))


def _allowed(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if _LINK.match(value) else None
    if name == "class":
        known = _CLASS.fullmatch(value) is not None if tag == "code" else value == _TOC_IGNORE_CLASS
        return value if known else None
    if name == "src":
        return value if _PUBLIC_IMAGE_URL.fullmatch(value) else None
    if name == "referrerpolicy":
        return value if value == _NO_REFERRER else None
    return value


@cache
def _markdown(remote_images: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    markdown.disable(["html_inline", "html_block", *([] if remote_images else ["image"])])
    markdown.inline.ruler.before("escape", "math", _math)
    markdown.core.ruler.push("images", _link_images)
    markdown.core.ruler.push("hosts", _show_hosts)
    markdown.core.ruler.push("headings", _keep_out_of_contents)
    # A relative link would lead to the notebook server itself.
    markdown.validateLink = _web_link  # type: ignore[method-assign]
    markdown.renderer.rules["text"] = _text  # type: ignore[attr-defined]
    return markdown


def _web_link(url: str) -> bool:
    return _LINK.match(url) is not None


def _keep_out_of_contents(state: StateCore) -> None:
    for block in state.tokens:
        if block.type == "heading_open":
            block.attrSet("class", _TOC_IGNORE_CLASS)


def _link_images(state: StateCore) -> None:
    """Replace an image that is not loaded with a link; inside a link, with its alternative text."""
    for block in state.tokens:
        replaced: list[Token] = []
        in_link = False
        for token in block.children or []:
            in_link = token.type == "link_open" or (in_link and token.type != "link_close")
            address = str(token.attrs.get("src", ""))
            alt_tokens = token.children or []
            if token.type != "image":
                replaced.append(token)
            elif _PUBLIC_IMAGE_URL.fullmatch(address):
                token.attrs = {"src": address, "alt": "", "referrerpolicy": _NO_REFERRER}
                replaced.append(token)
            elif in_link:
                replaced += alt_tokens
            else:
                new = type(token)
                opened = [new("text", "", 0, content="!"), new("link_open", "a", 1, attrs={"href": address})]
                replaced += [*opened, *alt_tokens, new("link_close", "a", -1)]
        if block.children:
            block.children = replaced


def _show_hosts(state: StateCore) -> None:
    """Add the host after a link whose text names another host."""
    for block in state.tokens:
        children, replaced = block.children or [], []
        text, opened = "", None
        for token in children:
            replaced.append(token)
            if token.type == "link_open":
                text, opened = "", token
            elif token.type == "link_close" and opened is not None:
                host = _host(str(opened.attrs.get("href", "")))
                named = _HOST.search(text)
                if named and not f".{host}".endswith(f".{named.group().lower().removeprefix('www.')}"):
                    replaced.append(type(token)("text", "", 0, content=f" ({host})"))
            else:
                text += token.content
        if children:
            block.children = replaced


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return (parts.path.rpartition("@")[2] if parts.scheme == "mailto" else parts.hostname or "").lower()


def _math(state: StateInline, silent: bool) -> bool:
    """Keep a formula as one piece of text: ``_`` and ``*`` in it are not emphasis, and its backslashes are kept."""
    start, limit = state.pos, min(state.pos + MAX_FORMULA_CHARS, state.posMax)
    closing = _MATH.get(state.src[start : start + 2])
    if closing is not None:
        end = state.src.find(closing, start + 2, limit) + 2
    else:
        match = _INLINE_MATH.match(state.src, start, limit)
        end = match.end() if match else 0
    if end <= start + 1:
        return False
    if not silent:
        state.pending += state.src[start:end]
    state.pos = end
    return True


def _text(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return _escape_text(tokens[index].content)


def _escape_text(text: str) -> str:
    """Escape the text, and disable TeX commands with effects outside their formula."""
    return html.escape(_UNSAFE_TEX.sub(f"\\\\{_WORD_JOINER}", text), quote=True)
