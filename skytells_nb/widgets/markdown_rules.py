"""The Markdown that models write: rules for markdown-it beside CommonMark, tables and strikethrough.

Formulas keep their characters, and no dollar sign that is money is taken for one. Tasks get boxes, web addresses are
links, footnotes are numbered as they are written, and the few tags that models use without attributes are kept:
``<br>``, ``<sub>``, ``<sup>``, ``<kbd>`` and ``<details>``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from skytells_nb.widgets.formulas import block_formula_end, formula_end
from skytells_nb.widgets.page_layout import configure_layout
from skytells_nb.widgets.safe_text import escape_tex, separate_formula_marks

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.ruler import RuleOptionsType
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

NO_REFERRER = "no-referrer"
"""Hides from an image's server which page shows it."""
MAX_LANGUAGE_CHARS = 40

WEB_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
# A host name; an IP address or localhost could be the notebook server, which would receive its cookies.
PUBLIC_IMAGE_URL = re.compile(
    r"https?://(?![^/?#:]*\.localhost(?![\w.-]))(?:[a-z0-9-]+\.)+[a-z][a-z0-9-]+(?::\d+)?(?:[/?#].*)?",
    re.IGNORECASE | re.ASCII,
)
_HOST = re.compile(r"(?:[\w-]+\.)+[^\W\d_]{2,}")
_ADDRESS = re.compile(r"(?<![\w@/])https?://[\w\-.~:/?#\[\]@!$&'()*+,;=%]+", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\](?=[ \t\xa0])")
_TAG = re.compile(r"<(/?)(br|sub|sup|kbd)[ \t]*(/?)>", re.IGNORECASE)
_FOOTNOTE = re.compile(r"\[\^([^\]\s\[]{1,60})\]:[ \t]*")
_FOOTNOTE_REFERENCE = re.compile(r"\[\^([^\]\s\[]{1,60})\]")
_DETAILS = re.compile(
    r"(?P<open><details(?:[ \t]+open)?[ \t]*>)?[ \t]*(?:<summary>(?P<summary>.*?)</summary>)?"
    r"(?P<rest>.*?)(?P<close></details>)?[ \t]*",
    re.IGNORECASE,
)
_PIPE = "\ufdd0"
"""Stands for ``|`` in a formula until the cells of tables are split; it is no character that text can have."""


def configure(markdown: MarkdownIt, *, remote_images: bool) -> None:
    """Add the rules; images are links unless ``remote_images``."""
    markdown.enable("table")
    markdown.disable([] if remote_images else ["image"])
    interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    block, inline, core = markdown.block.ruler, markdown.inline.ruler, markdown.core.ruler
    block.before("fence", "formula", _formula_block, interrupts)
    block.before("fence", "details", _details_block, interrupts)
    block.before("reference", "footnote", _footnote_block, {"alt": ["paragraph"]})
    inline.before("escape", "formula", _formula)
    inline.before("link", "footnote", _footnote_reference)
    inline.before("autolink", "tag", _tag)
    core.after("normalize", "formulas", _protect_pipes)
    for rule in (_restore_pipes, _pair_tags, _pair_details, _tasks, _link_images, _link_addresses, _show_hosts):
        core.push(rule.__name__, rule)
    # A relative link would lead to the notebook server itself.
    markdown.validateLink = _web_link  # type: ignore[method-assign]
    rules: dict[str, Callable[..., str]]
    rules = {"text": _text, "formula": _formula_html, "formula_block": _formula_block_html}
    markdown.renderer.rules.update(rules)  # type: ignore[attr-defined]
    configure_layout(markdown)


def _web_link(url: str) -> bool:
    return WEB_LINK.match(url) is not None


# Formulas


def _formula(state: StateInline, silent: bool) -> bool:
    """Keep a formula as one token: ``_`` and ``*`` in it are not emphasis, and its backslashes are kept."""
    end = formula_end(state.src, state.pos, state.posMax)
    if end <= state.pos:
        return False
    if not silent:
        state.push("formula", "", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _formula_block(state: StateBlock, start: int, end_line: int, silent: bool) -> bool:
    """Keep a formula that begins a line and ends at the end of one: its rows are no lists, headings or tables."""
    first = state.bMarks[start] + state.tShift[start]
    if state.src[first : first + 1] not in ("$", "\\") or state.is_code_block(start):
        return False
    end = block_formula_end(state.src, first, state.eMarks[end_line - 1])
    if not end:
        return False
    line = start
    while state.eMarks[line] < end:
        line += 1
        if line >= end_line or (not state.isEmpty(line) and state.sCount[line] < state.blkIndent):
            return False
    if state.src[end : state.eMarks[line]].strip() not in ("", ".", ",", ";", ":"):
        return False
    if not silent:
        token = state.push("formula_block", "", 0)
        token.content = state.getLines(start, line + 1, state.sCount[start], False).strip()
        token.map = [start, line + 1]
        state.line = line + 1
    return True


def _protect_pipes(state: StateCore) -> None:
    """Replace ``|`` in the formulas of a line, so that a table does not take it for the end of a cell."""
    text = state.src.replace(_PIPE, "\ufffd")
    if "|" in text and ("$" in text or "\\(" in text):
        text = "\n".join(_line_without_pipes(line) if "|" in line else line for line in text.split("\n"))
    state.src = text


def _line_without_pipes(line: str) -> str:
    done, position = [], 0
    while position < len(line):
        character = line[position]
        end = formula_end(line, position, len(line)) if character in "$\\" else 0
        formula = line[position:end]
        if end and (formula.replace("\\|", "").count("|") % 2 == 0 or not formula.startswith("$")):
            done.append(formula.replace("|", _PIPE))
            position = end
        else:
            size = 2 if character == "\\" else 1
            done.append(line[position : position + size])
            position += size
    return "".join(done)


def _restore_pipes(state: StateCore) -> None:
    if _PIPE not in state.src:
        return
    for token in _every_token(state.tokens):
        token.content = token.content.replace(_PIPE, "|")
        token.info = token.info.replace(_PIPE, "|")
        token.attrs = {n: v.replace(_PIPE, "|") if isinstance(v, str) else v for n, v in token.attrs.items()}


def _every_token(tokens: Sequence[Token]) -> list[Token]:
    return [found for token in tokens for found in (token, *_every_token(token.children or []))]


def _formula_html(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    # In an element of its own no text beside it becomes a part of the formula.
    return f"<span>{escape_tex(tokens[index].content)}</span>"


def _formula_block_html(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return f"<p>{escape_tex(tokens[index].content)}</p>\n"


def _text(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return separate_formula_marks(escape_tex(tokens[index].content))


# Tags without attributes


def _tag(state: StateInline, silent: bool) -> bool:
    found = _TAG.match(state.src, state.pos, state.posMax) if state.src[state.pos] == "<" else None
    if found is None or (found[2].lower() != "br" and found[3]) or (found[2].lower() == "br" and found[1]):
        return False
    if not silent:
        name = found[2].lower()
        nesting = 0 if name == "br" else -1 if found[1] else 1
        token = state.push("tag_break" if name == "br" else "tag", name, 0)
        token.meta, token.content = {"nesting": nesting}, found.group()
    state.pos = found.end()
    return True


def _pair_tags(state: StateCore) -> None:
    """Open and close the tags that belong together; one alone is text."""
    for block in state.tokens:
        opened: list[Token] = []
        for token in block.children or []:
            if token.type == "tag_break":
                token.type = "hardbreak"
            elif token.type == "tag" and token.meta["nesting"] == 1:
                opened.append(token)
            elif token.type == "tag" and opened and opened[-1].tag == token.tag:
                for end, kind, nesting in ((opened.pop(), "open", 1), (token, "close", -1)):
                    end.type, end.nesting, end.content = f"{end.tag}_{kind}", nesting, ""  # type: ignore[assignment]
        for token in block.children or []:
            if token.type == "tag":
                token.type, token.tag = "text", ""


def _details_block(state: StateBlock, start: int, end_line: int, silent: bool) -> bool:
    """Parse a line that opens, names or closes folded text."""
    first = state.bMarks[start] + state.tShift[start]
    if state.src[first : first + 1] != "<" or state.is_code_block(start):
        return False
    line = _DETAILS.fullmatch(state.src, first, state.eMarks[start])
    if line is None or not (line["open"] or line["summary"] is not None or line["close"]):
        return False
    if not line["open"] and line["summary"] is None and line["rest"].strip():
        return False
    if silent:
        return True
    for kind in ("open", "summary", "rest", "close"):
        found = line[kind]
        if kind in ("open", "close") and found:
            state.push("details", "details", 0).meta = {"nesting": 1 if kind == "open" else -1, "source": found}
        elif found is not None and (kind == "summary" or found.strip()):
            tag = "summary" if kind == "summary" else "p"
            state.push("summary_open" if tag == "summary" else "paragraph_open", tag, 1).map = [start, start + 1]
            token = state.push("inline", "", 0)
            token.content, token.children, token.map = found.strip(), [], [start, start + 1]
            state.push("summary_close" if tag == "summary" else "paragraph_close", tag, -1)
    state.line = start + 1
    return True


def _pair_details(state: StateCore) -> None:
    """Pair the marks of folded text; a closing mark alone is left out, an open one ends with what it is in."""
    opened: list[Token] = []
    paired: list[Token] = []
    new = type(state.tokens[0]) if state.tokens else None

    def close(level: int) -> None:
        while opened and opened[-1].level >= level and new is not None:
            opened.pop()
            paired.append(new("details_close", "details", -1))

    for token in state.tokens:
        if token.nesting == -1:
            close(token.level + 1)
        if token.type != "details":
            paired.append(token)
        elif token.meta["nesting"] == 1:
            token.type, token.nesting = "details_open", 1
            opened.append(token)
            paired.append(token)
        elif opened and opened[-1].level == token.level and new is not None:
            opened.pop()
            paired.append(new("details_close", "details", -1, block=True))
    close(0)
    # A name outside of folded text is a paragraph.
    depth = 0
    for token in paired:
        depth += token.nesting if token.tag == "details" else 0
        if token.tag == "summary" and not depth:
            token.tag, token.type = "p", token.type.replace("summary", "paragraph")
    state.tokens = paired


# Footnotes


def _footnote_block(state: StateBlock, start: int, end_line: int, silent: bool) -> bool:
    """Parse a footnote as a paragraph where it stands; indented lines after a blank one belong to it."""
    first = state.bMarks[start] + state.tShift[start]
    found = _FOOTNOTE.match(state.src, first, state.eMarks[start])
    if found is None or state.is_code_block(start):
        return False
    if silent:
        return True
    env: dict[str, Any] = state.env  # type: ignore[assignment]
    env.setdefault("footnotes", set()).add(found[1])
    paragraphs, line = [state.src[found.end() : state.eMarks[start]]], start + 1
    while line < end_line:
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
        indented = state.sCount[line] - state.blkIndent >= 2
        if state.isEmpty(line):
            following = next((n for n in range(line, end_line) if not state.isEmpty(n)), end_line)
            if following >= end_line or state.sCount[following] - state.blkIndent < 2:
                break
            paragraphs.append("")
            line = following
            continue
        if not indented and (_FOOTNOTE.match(text) or _interrupts(state, line, end_line)):
            break
        paragraphs[-1] += f"\n{text}"
        line += 1
    for number, content in enumerate(paragraphs):
        state.push("paragraph_open", "p", 1).map = [start, line]
        token = state.push("inline", "", 0)
        token.content, token.map = content.strip(), [start, line]
        token.children = []
        if number == 0:
            token.meta = {"footnote": found[1]}
            token.content = f"[^{found[1]}] {token.content}"
        state.push("paragraph_close", "p", -1)
    state.line = line
    return True


def _interrupts(state: StateBlock, line: int, end_line: int) -> bool:
    return any(rule(state, line, end_line, True) for rule in state.md.block.ruler.getRules("paragraph"))


def _footnote_reference(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos : state.pos + 2] != "[^":
        return False
    found = _FOOTNOTE_REFERENCE.match(state.src, state.pos, state.posMax)
    if found is None or found[1] not in state.env.get("footnotes", ()):
        return False
    if not silent:
        state.push("sup_open", "sup", 1)
        state.push("text", "", 0).content = f"[{found[1]}]"
        state.push("sup_close", "sup", -1)
    state.pos = found.end()
    return True


# Lists, links, images


def _tasks(state: StateCore) -> None:
    """Show the brackets of a task as a box, in place of a bullet."""
    for item, paragraph, inline in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if item.type == "list_item_open" and paragraph.type == "paragraph_open" and inline.children:
            text = inline.children[0]
            box = _TASK.match(text.content) if text.type == "text" else None
            if box is not None:
                text.content = ("☐" if box[1] == " " else "☑") + text.content[3:]
                if item.markup in ("-", "*", "+"):
                    item.attrSet("type", "none")


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
            elif PUBLIC_IMAGE_URL.fullmatch(address):
                token.attrs = {"src": address, "alt": "", "referrerpolicy": NO_REFERRER}
                replaced.append(token)
            elif in_link:
                replaced += alt_tokens
            else:
                new = type(token)
                opened = [new("text", "", 0, content="!"), new("link_open", "a", 1, attrs={"href": address})]
                replaced += [*opened, *alt_tokens, new("link_close", "a", -1)]
        if block.children:
            block.children = replaced


def _link_addresses(state: StateCore) -> None:
    """Make links of web addresses that stand in the text."""
    for block in state.tokens:
        if not block.children or "://" not in block.content:
            continue
        replaced: list[Token] = []
        depth = 0
        for token in block.children:
            depth += token.nesting if token.tag == "a" else 0
            if depth or token.type != "text" or "://" not in token.content:
                replaced.append(token)
            else:
                replaced += _linked(token)
        block.children = replaced


def _linked(token: Token) -> list[Token]:
    new, text, done = type(token), token.content, 0
    tokens: list[Token] = []
    for found in _ADDRESS.finditer(text):
        address = _without_trailing_marks(found.group())
        if not _HOST.match(address.partition("://")[2].rpartition("@")[2]):
            continue
        tokens.append(new("text", "", 0, content=text[done : found.start()]))
        tokens.append(new("link_open", "a", 1, attrs={"href": address}))
        tokens += [new("text", "", 0, content=address), new("link_close", "a", -1)]
        done = found.start() + len(address)
    return [*tokens, new("text", "", 0, content=text[done:])] if tokens else [token]


def _without_trailing_marks(address: str) -> str:
    """Leave the punctuation after an address to its sentence, and a bracket that it did not open."""
    while True:
        last = address[-1]
        unopened = last in ")]" and address.count(last) > address.count("(" if last == ")" else "[")
        if not (last in "?!.,:;*_~'&$" or unopened):
            return address
        address = address[:-1]


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
