"""Render untrusted Markdown as HTML in which nothing acts.

A front end trusts the outputs of a running notebook: raw HTML in them runs as the user. So Markdown is rendered here,
with HTML disabled, and the result passes an allow-list before it is published. It has no styles of its own either:
classes and elements are those that front ends style by their theme, in light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from skytells_nb.widgets.highlighting import highlight_block
from skytells_nb.widgets.markdown_rules import (
    NO_REFERRER,
    PUBLIC_IMAGE_URL,
    SCROLL_CLASS,
    WEB_LINK,
    configure,
)
from skytells_nb.widgets.safe_text import RIGHT_TO_LEFT, without_reordering
from skytells_nb.widgets.safe_text import escape as escape
from skytells_nb.widgets.safe_text import plain as plain
from skytells_nb.widgets.safe_text import preformatted as preformatted

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

TOC_IGNORE_CLASS = "jp-toc-ignore"
"""Keeps headings of answers out of JupyterLab's table of contents; creating entries took most of the page's time after
a long answer."""
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_DIRECTED = ("p", "ul", "ol", "li", "blockquote", "summary", *HEADINGS, "table", "th", "td")
TAGS = {
    *("p", "br", "hr", *HEADINGS, "ul", "ol", "li", "blockquote", "pre", "code", "em"),
    *("strong", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
    *("span", "div", "sub", "sup", "kbd", "details", "summary"),
}
CODE_TAGS = {"fieldset", "legend", "b", "i"}
"""What highlighting adds after the allow-list."""
ATTRIBUTES = {
    **{tag: {"dir"} for tag in _DIRECTED},
    **{tag: {"class", "dir"} for tag in HEADINGS},
    **{"a": {"href"}, "code": {"class"}, "ol": {"start", "dir"}, "div": {"class", "align", "dir"}},
    **{tag: {"align", "dir"} for tag in ("th", "td")},
}
IMAGE_ATTRIBUTES = {"src", "alt", "referrerpolicy"}
_FIXED = {
    "dir": {"auto"},
    "align": {"left", "right", "center"},
    "referrerpolicy": {NO_REFERRER},
}
_NEEDS_RULES = re.compile(rf"[$\\<\[|&!]|://|{RIGHT_TO_LEFT.pattern}")
"""Without any of these, Markdown needs no rule beyond those of CommonMark."""
_CODE = re.compile(r'<code class="skytells-code-(\d+)"></code>')
"""The place of a code block, put in after the allow-list: Markdown cannot write a class."""


def safe_html(markdown: str, *, remote_images: bool = False) -> str:
    """Return the Markdown as sanitized HTML.

    Raw HTML is shown as text, but for a few tags without attributes; images become plain links, links lead to http,
    https and mailto only, and a link whose text names another host is followed by its real host. Formulas stay text
    that the front end typesets, without commands that have effects outside the formula. Code in a known language is
    highlighted with the classes of Pygments. With ``remote_images`` the page loads images of named web hosts, which
    tells their servers that it is shown, and what the model wrote into the address.

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

    blocks: dict[str, Any] = {"code": []}
    page: str = nh3.clean(
        without_reordering(_renderer_for(markdown, remote_images).render(markdown, blocks)),
        tags=TAGS | {"img"} if remote_images else TAGS,
        attributes={**ATTRIBUTES, "img": IMAGE_ATTRIBUTES, "*": set()},
        attribute_filter=_allowed,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return _CODE.sub(lambda place: highlight_block(*blocks["code"][int(place[1])]), page)


def _renderer_for(markdown: str, remote_images: bool) -> MarkdownIt:
    return markdown_renderer(remote_images) if _NEEDS_RULES.search(markdown) else _commonmark()


@cache
def markdown_renderer(remote_images: bool = False) -> MarkdownIt:
    """Return the parser and renderer; its HTML has to pass the allow-list."""
    markdown = _commonmark.__wrapped__()
    configure(markdown, remote_images=remote_images)
    return markdown


@cache
def _commonmark() -> MarkdownIt:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("strikethrough")
    markdown.disable(["html_inline", "html_block"])
    markdown.core.ruler.push("headings", _keep_out_of_contents)
    markdown.renderer.rules.update({"fence": _code, "code_block": _code})  # type: ignore[attr-defined]
    return markdown


def _keep_out_of_contents(state: StateCore) -> None:
    for block in state.tokens:
        if block.type == "heading_open":
            block.attrSet("class", TOC_IGNORE_CLASS)


def _code(tokens: Sequence[Token], index: int, options: object, env: dict[str, Any]) -> str:
    token = tokens[index]
    words = token.info.split()
    env["code"].append((token.content, words[0] if words else ""))
    return f'<code class="skytells-code-{len(env["code"]) - 1}"></code>\n'


def _allowed(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if WEB_LINK.match(value) else None
    if name == "class":
        known = {"div": value == SCROLL_CLASS, "code": value.startswith("skytells-code-")}
        return value if known.get(tag, value == TOC_IGNORE_CLASS) else None
    if name == "src":
        return value if PUBLIC_IMAGE_URL.fullmatch(value) else None
    return value if name not in _FIXED or value in _FIXED[name] else None
