"""Render untrusted Markdown as HTML, and as Markdown for exports, in which nothing acts.

A front end trusts the outputs of a running notebook: raw HTML in them runs as the user. So Markdown is rendered here,
with HTML disabled, and the result passes an allow-list before it is published. It has no styles of its own either:
classes and elements are those that front ends style by their theme, in light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from skytells_nb.widgets.highlighting import highlight_block
from skytells_nb.widgets.markdown_rules import (
    NO_REFERRER,
    PUBLIC_IMAGE_URL,
    WEB_LINK,
    configure,
)
from skytells_nb.widgets.page_layout import CHIP_CLASS, GROW_CLASS, SCROLL_CLASS
from skytells_nb.widgets.safe_text import RIGHT_TO_LEFT, UNSAFE_TEX, without_reordering
from skytells_nb.widgets.safe_text import escape as escape
from skytells_nb.widgets.safe_text import plain as plain
from skytells_nb.widgets.safe_text import preformatted as preformatted

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token
    from markdown_it.tree import SyntaxTreeNode

TOC_IGNORE_CLASS = "jp-toc-ignore"
"""Keeps headings of answers out of JupyterLab's table of contents; creating entries took most of the page's time after
a long answer."""
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_DIRECTED = ("p", "ul", "ol", "li", "blockquote", "summary", *HEADINGS, "table", "th", "td")
TAGS = {
    *("p", "br", "hr", *HEADINGS, "ul", "ol", "li", "blockquote", "pre", "code", "em"),
    *("strong", "s", "a", "table", "thead", "tbody", "tr", "th", "td"),
    *("span", "div", "sub", "sup", "kbd", "details", "summary", "nobr"),
}
CODE_TAGS = {"listing", "small", "b", "i"}
"""What highlighting adds after the allow-list."""
ATTRIBUTES = {
    **{tag: {"dir"} for tag in _DIRECTED},
    **{tag: {"class", "dir"} for tag in HEADINGS},
    **{"a": {"href"}, "code": {"class"}, "ol": {"start", "dir"}, "div": {"class", "align", "dir"}},
    **{tag: {"align", "dir"} for tag in ("th", "td")},
    **{"li": {"type", "dir"}, "pre": {"tabindex"}},
}
IMAGE_ATTRIBUTES = {"src", "alt", "referrerpolicy"}
_FIXED = {
    "dir": {"auto", "ltr", "rtl"},
    **{"type": {"none"}, "tabindex": {"0"}},
    "align": {"left", "right", "center"},
    "referrerpolicy": {NO_REFERRER},
}
_NEEDS_RULES = re.compile(rf"[$\\<\[|&!]|://|{RIGHT_TO_LEFT.pattern}")
"""Without any of these, Markdown needs no rule beyond those of CommonMark."""
_CODE = re.compile(r'<code class="skytells-code-(\d+)"></code>')
"""The place of a code block, put in after the allow-list: Markdown cannot write a class."""
_CHIP = re.compile('(?<!<pre>)(?<!<pre tabindex="0">)<code>.*?</code>', re.DOTALL)
_HEADING = re.compile(r"<h([1-6])((?: [^>]*)?)>(.*?)</h\1>", re.DOTALL)


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


def cover_chips(page: str) -> str:
    """Return sanitized HTML in which code within a line has the ground of a block: Jupyter's own is bright in dark.

    >>> cover_chips("<p><code>x</code></p>")
    '<p><span class="highlight jp-RenderedJSON"><code>x</code></span></p>'
    """
    return _CHIP.sub(rf'<span class="{CHIP_CLASS}">\g<0></span>', page)


def lower_headings(page: str, highest: int) -> str:
    """Return sanitized HTML whose highest headings are of this level, and all others, in bold, of the next.

    Front ends show the lower levels as small as text.

    >>> lower_headings("<h2>a</h2><h3>b</h3><h4>c</h4>", 4)
    '<h4>a</h4><h5><strong>b</strong></h5><h5><strong>c</strong></h5>'
    """
    # Sanitized HTML has "<" and ">" in tags only.
    top = min((found[1] for found in _HEADING.finditer(page)), default="")

    def lowered(found: re.Match[str]) -> str:
        level, inside = (highest, found[3]) if found[1] == top else (highest + 1, f"<strong>{found[3]}</strong>")
        return f"<h{level}{found[2]}>{inside}</h{level}>"

    return _HEADING.sub(lowered, page)


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
        known = {"div": value in (SCROLL_CLASS, GROW_CLASS), "code": value.startswith("skytells-code-")}
        return value if known.get(tag, value == TOC_IGNORE_CLASS) else None
    if name == "src":
        return value if PUBLIC_IMAGE_URL.fullmatch(value) else None
    return value if name not in _FIXED or value in _FIXED[name] else None


# Markdown for exports

# TeX that reads or writes files, runs programs or changes how the rest of a document is read. In a page much of it has
# no meaning; an export to PDF is a LaTeX document.
_UNSAFE_LATEX = re.compile(
    UNSAFE_TEX.pattern
    + r"|\\(?=(?:immediate|openin|openout|closein|closeout|read|readline|catcode|lccode|uccode|mathcode|active|special|"
    r"include|includeonly|verbatiminput|lstinputlisting|usepackage|documentclass|RequirePackage|directlua|latelua|"
    r"ShellEscape|pdf\w*|file\w*|every\w*|output|shipout|batchmode|end\{document\}|begin\{document\}|begin\{filecontents|"
    r"scantokens|expandafter|noexpand|string|jobname|loop|repeat|dump|endinput|makeatletter|futurelet|afterassignment|"
    r"aftergroup|begingroup|endgroup|bgroup|egroup|long|outer|protected|tag|label|ref|cite)(?![A-Za-z])|@)"
)
_SPECIAL = re.compile(r"[\\`*_\[\]$~^|{}@]|!\Z")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINE_START = re.compile(r"^([ \t]*)([#+=%:>-]|\d+(?=[.)]))", re.MULTILINE)
_UNSAFE_IN_ADDRESS = re.compile(r"[<>\\\s]")
_WITHIN_MATH = re.compile(r"\\begin\{(?:\w*matrix|r?d?cases|array|aligned|alignedat|gathered|split|subarray)\*?\}")
_MARKS = {"strong": "**", "em": "*", "s": "~~"}
_KEPT_TAGS = ("sub", "sup", "kbd")


def safe_markdown(markdown: str) -> str:
    """Return the Markdown, written again so that nothing in it acts: for exports that typeset Markdown.

    What is text is escaped, HTML and TeX included; images are links, and formulas are between dollar signs.

    >>> safe_markdown("*hi* <script> $x^2$ costs $5")
    '*hi* &lt;script> $x^2$ costs \\\\$5'
    """
    from markdown_it.tree import SyntaxTreeNode

    tokens = _renderer_for(markdown, remote_images=False).parse(plain(markdown))
    return "\n\n".join(filter(None, (_block(node) for node in SyntaxTreeNode(tokens).children)))


def literal_markdown(text: str) -> str:
    """Return the text as Markdown that shows it as it is typed, line by line.

    >>> literal_markdown("# *not* a heading")
    '\\\\# \\\\*not\\\\* a heading'
    """
    lines = _escape_line_starts(_escape_markdown(plain(text).strip())).split("\n")
    return "\n".join(
        f"{line.strip()}\\" if line.strip() and after.strip() else line.strip()
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
    )


def _block(node: SyntaxTreeNode) -> str:
    match node.type:
        case "paragraph" | "summary":
            text = _inline(node)
            return f"**{text.replace('**', '')}**" if node.type == "summary" and text else _escape_line_starts(text)
        case "heading":
            return f"{'#' * int(node.tag[1])} {_inline(node).replace(chr(10), ' ')}"
        case "fence" | "code_block":
            return _fenced(node.content, node.info)
        case "formula_block":
            return _display_formula(node.content)
        case "blockquote":
            return _prefixed("\n\n".join(_blocks(node)), "> ", "> ")
        case "bullet_list" | "ordered_list":
            return _list(node)
        case "table":
            return "\n".join(_rows(node))
        case "hr":
            return "* * *"
    return "\n\n".join(_blocks(node))


def _blocks(node: SyntaxTreeNode) -> Iterator[str]:
    return filter(None, (_block(child) for child in node.children))


def _list(node: SyntaxTreeNode) -> str:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
    items = []
    for number, item in enumerate(node.children):
        mark = "- " if first is None else f"{first + number}. "
        tight = any(child.type == "paragraph" and child.hidden for child in item.children)
        content = ("\n" if tight else "\n\n").join(_blocks(item))
        items.append(_prefixed(content, mark, " " * max(len(mark), 4)))
    return "\n".join(items)


def _prefixed(text: str, first: str, others: str) -> str:
    lines = text.split("\n")
    return "\n".join([f"{first}{lines[0]}".rstrip(), *(f"{others}{line}".rstrip() for line in lines[1:])])


def _fenced(code: str, info: str) -> str:
    marks = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    words = info.split()
    language = words[0] if words and re.fullmatch(r"[\w+#.-]{1,40}", words[0]) else ""
    return f"{marks}{language}\n{code.rstrip(chr(10))}\n{marks}"


def _rows(table: SyntaxTreeNode) -> Iterator[str]:
    for part in table.children:
        for row in part.children:
            yield "| " + " | ".join(_inline(cell).replace("\n", " ") for cell in row.children) + " |"
            if part.type == "thead":
                rules = {"left": ":---", "right": "---:", "center": ":---:", "": "---"}
                yield "| " + " | ".join(rules[cell.meta.get("named", "")] for cell in row.children) + " |"


def _inline(node: SyntaxTreeNode) -> str:
    """Return the inline content of a block."""
    in_table = node.type in ("td", "th")
    done: list[str] = []
    links: list[str] = []
    for child in node.children:
        for token in child.to_tokens()[0].children or [] if child.type == "inline" else ():
            kind, _, end = token.type.rpartition("_")
            if token.type == "text":
                done.append(_escape_markdown(token.content))
            elif token.type == "code_inline":
                marks = "`" * (1 + max(map(len, re.findall("`+", token.content)), default=0))
                code = token.content.replace("|", "\\|") if in_table else token.content
                done.append(f"{marks} {code} {marks}" if "`" in code else f"{marks}{code}{marks}")
            elif token.type == "formula":
                done.append(_inline_formula(token.content, in_table))
            elif token.type == "link_open":
                links.append(str(token.attrs.get("href", "")))
                done.append("[")
            elif token.type == "link_close" and links:
                address = _UNSAFE_IN_ADDRESS.sub(lambda found: f"%{ord(found.group()):02X}", links.pop())
                done.append(f"](<{address}>)")
            elif token.type in ("softbreak", "hardbreak"):
                done.append("\n" if token.type == "softbreak" or in_table else "\\\n")
            elif kind in _MARKS:
                done.append(_MARKS[kind])
            elif kind in _KEPT_TAGS:
                done.append(f"<{'/' if end == 'close' else ''}{kind}>")
    return "".join(done)


def _escape_markdown(text: str) -> str:
    # An exclamation mark before a link would make an image of it.
    return _SPECIAL.sub(r"\\\g<0>", _ENTITY.sub("&amp;", text)).replace("<", "&lt;")


def _escape_line_starts(text: str) -> str:
    return _LINE_START.sub(lambda found: f"{found[1]}{_escaped_start(found[2])}", text)


def _escaped_start(mark: str) -> str:
    return f"{mark}\\" if mark.isdigit() else f"\\{mark}"


def _tex(formula: str) -> str | None:
    """Return the inside of a formula, ``None`` if it would not end where it should."""
    tex = _UNSAFE_LATEX.sub("", formula.replace("^^", "^{}^"))
    bare = re.sub(r"\\[\\{}]", "", tex)
    depth = 0
    for brace in re.findall(r"[{}]", bare):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return None
    return None if depth or "%" in re.sub(r"\\.", "", tex) else re.sub(r"\n\s*\n", "\n", tex)


def _inline_formula(formula: str, in_table: bool) -> str:
    if formula.startswith(("$$", "\\[", "\\b")):
        inside = formula if formula.startswith("\\b") else formula[2:-2]
    else:
        inside = formula[1:-1] if formula.startswith("$") else formula[2:-2]
    tex = _tex(inside.strip())
    if not tex:
        return _escape_markdown(formula)
    if in_table:
        tex = tex.replace("\\|", "\\Vert ").replace("|", "\\vert ").replace("\n", " ")
    if formula.startswith("\\b") and not _WITHIN_MATH.match(tex):
        return tex
    display = formula.startswith(("$$", "\\["))
    return f"$${tex}$$" if display else f"${tex}$"


def _display_formula(formula: str) -> str:
    end = re.search(r"[.,;:]*\Z", formula)
    inside = formula[: end.start()].strip() if end is not None else formula
    bare = inside.startswith("\\b")
    tex = _tex(inside if bare else inside[2:-2].strip())
    if not tex:
        return _fenced(formula, "tex")
    return tex if bare and not _WITHIN_MATH.match(tex) else f"$$\n{tex}\n$$"
