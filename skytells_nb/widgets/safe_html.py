"""Untrusted text made fit for a page and for a terminal.

Outputs of a running notebook are trusted by its front end: raw HTML in them runs as the user. So Markdown is rendered
here, with HTML off, and what comes out passes an allow-list before it is published.
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
_NOT_LISTED = "jp-toc-ignore"
"""Keeps a heading out of JupyterLab's table of contents, which is the author's; making entries took most of the page's
time after a long answer."""
IMAGE_ATTRIBUTES = {"src", "alt", "referrerpolicy"}
_NO_REFERRER = "no-referrer"
"""An image's server does not learn which page shows it."""
MATH_REACH = 2_000
"""Characters searched for the end of a formula; longer ones stay plain text."""

_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_CLASS = re.compile(r"language-[\w+#.-]{1,40}")
# A host by its name. At an address or localhost an image would be a request to the notebook server, with its cookies.
_LOADABLE = re.compile(
    r"https?://(?![^/?#:]*\.localhost(?![\w.-]))(?:[a-z0-9-]+\.)+[a-z][a-z0-9-]+(?::\d+)?(?:[/?#].*)?",
    re.IGNORECASE | re.ASCII,
)
# pandoc's rule, so that "$5 and $10" is money.
_INLINE_MATH = re.compile(r"\$(?![\s$])[^$]{0,500}?(?<![\s\\])\$(?!\d)")
_MATH = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
# What a formula could do besides being one: links, styles and ids on the page, loading, and macros that would change
# every later formula of the notebook. MathJax's safe mode stops some of these; not every front end switches it on.
_TEX_REACHING_OUT = re.compile(
    r"\\(?=(?:href|url|style|class|cssId|html\w*|data|bbox|enclose|require|unicode|mml\w*|includegraphics|csname|"
    r"[gex]?def|let|futurelet|(?:re|provide)?new(?:command|environment)|(?:re|provide)command|renewenvironment|"
    r"DeclareMathOperator|DeclarePairedDelimiters?\w*|Newextarrow|global|input|write|special|loadOOLib|texttip|"
    r"mathtip|toggle|action)(?![A-Za-z]))"
)
_WORD_JOINER = "\u2060"

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clear
    r"|\x1b\][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: window title, clipboard, links
    r"|\x1b[PX^_][^\x1b\x9c]*(?:\x1b\\|\x9c)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Embeddings, overrides and isolates show code and addresses in another order than they have. Right-to-left text does
# without them.
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_HOST = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}")


def safe_html(markdown: str, *, remote_images: bool = False) -> str:
    """The Markdown as HTML that cannot act on the page.

    Raw HTML shows as text, images become plain links, links lead to http, https and mailto only, and one whose text
    names another host than its own has that one beside it. Formulas stay text that the front end typesets, without
    commands that reach beyond the formula. With ``remote_images`` images of named web hosts are loaded by whoever shows
    the page, which tells their servers so, and whatever the model wrote into the address.

    >>> safe_html("*hi* <script>")
    '<div class="skytells-md"><p><em>hi</em> &lt;script&gt;</p>\\n</div>'
    """
    return framed(safe_blocks(markdown, remote_images=remote_images))


def framed(page: str) -> str:
    """Rendered blocks as one element."""
    return f'<div class="skytells-md">{page}</div>'


def safe_blocks(markdown: str, *, remote_images: bool = False) -> str:
    """What ``safe_html`` frames: renderings of blocks, one after the other, are a rendering of the whole."""
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
    """The text for an HTML page or attribute, shown as it is.

    >>> escape('<b a="1">')
    '&lt;b a=&quot;1&quot;&gt;'
    """
    return _guarded(plain(text))


def preformatted(text: str) -> str:
    """The text in a ``<pre>``, line for line as it is."""
    return f'<pre class="skytells-text">{html.escape(plain(text), quote=True)}</pre>'


def plain(text: str) -> str:
    """The text for a terminal: no escape sequences, no control characters except newline and tab, none that reorder.

    >>> plain("\\x1b[31mred\\x1b[0m and \\x1b]0;title\\x07done")
    'red and done'
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _REORDERING.sub("", _CONTROLS.sub("", text))


def _allowed(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if _LINK.match(value) else None
    if name == "class":
        known = _CLASS.fullmatch(value) is not None if tag == "code" else value == _NOT_LISTED
        return value if known else None
    if name == "src":
        return value if _LOADABLE.fullmatch(value) else None
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
    # A relative link would act on the notebook server itself.
    markdown.validateLink = _web_link  # type: ignore[method-assign]
    markdown.renderer.rules["text"] = _text  # type: ignore[attr-defined]
    return markdown


def _web_link(url: str) -> bool:
    return _LINK.match(url) is not None


def _keep_out_of_contents(state: StateCore) -> None:
    for block in state.tokens:
        if block.type == "heading_open":
            block.attrSet("class", _NOT_LISTED)


def _link_images(state: StateCore) -> None:
    """Puts a link in the place of an image that is not loaded; within a link, its words."""
    for block in state.tokens:
        shown: list[Token] = []
        within = False
        for token in block.children or []:
            within = token.type == "link_open" or (within and token.type != "link_close")
            address = str(token.attrs.get("src", ""))
            words = token.children or []
            if token.type != "image":
                shown.append(token)
            elif _LOADABLE.fullmatch(address):
                token.attrs = {"src": address, "alt": "", "referrerpolicy": _NO_REFERRER}
                shown.append(token)
            elif within:
                shown += words
            else:
                new = type(token)
                opened = [new("text", "", 0, content="!"), new("link_open", "a", 1, attrs={"href": address})]
                shown += [*opened, *words, new("link_close", "a", -1)]
        if block.children:
            block.children = shown


def _show_hosts(state: StateCore) -> None:
    """Sets the host of a link beside it where its text names another."""
    for block in state.tokens:
        children, shown = block.children or [], []
        text, opened = "", None
        for token in children:
            shown.append(token)
            if token.type == "link_open":
                text, opened = "", token
            elif token.type == "link_close" and opened is not None:
                host = _host(str(opened.attrs.get("href", "")))
                named = _HOST.search(text)
                if named and not f".{host}".endswith(f".{named.group().lower().removeprefix('www.')}"):
                    shown.append(type(token)("text", "", 0, content=f" ({host})"))
            else:
                text += token.content
        if children:
            block.children = shown


def _host(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return (parts.path.rpartition("@")[2] if parts.scheme == "mailto" else parts.hostname or "").lower()


def _math(state: StateInline, silent: bool) -> bool:
    """Keeps a formula as one piece of text: ``_`` and ``*`` in it are not emphasis, and its backslashes stay."""
    start, reach = state.pos, min(state.pos + MATH_REACH, state.posMax)
    closing = _MATH.get(state.src[start : start + 2])
    if closing is not None:
        end = state.src.find(closing, start + 2, reach) + 2
    else:
        found = _INLINE_MATH.match(state.src, start, reach)
        end = found.end() if found else 0
    if end <= start + 1:
        return False
    if not silent:
        state.pending += state.src[start:end]
    state.pos = end
    return True


def _text(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return _guarded(tokens[index].content)


def _guarded(text: str) -> str:
    """Escaped, and with TeX commands that reach out made unknown ones."""
    return html.escape(_TEX_REACHING_OUT.sub(f"\\\\{_WORD_JOINER}", text), quote=True)
