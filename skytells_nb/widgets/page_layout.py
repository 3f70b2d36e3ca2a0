"""Where the blocks of an answer stand on a page: the columns of tables, and directions of reading.

An answer has no styles of its own, so this is said by elements and by classes that Jupyter's front ends have styles
for, in light and dark, and that none of their scripts reacts to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skytells_nb.widgets.safe_text import RIGHT_TO_LEFT

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

SCROLL_CLASS = "jp-FileEditorCodeWrapper"
"""Lets a wide table scroll in JupyterLab and Notebook, and does nothing else."""
GROW_CLASS = "lm-TabBar-content"
"""With this class an element is a flex container; one in another also fills it and is as wide as what it contains."""
MUTED_CLASS = "jp-DocumentSearch-search-filter-disabled"
"""Gives text the quieter color of the theme, with a contrast of 4.6 on the ground of a page, and does nothing else."""
CHIP_CLASS = "highlight jp-RenderedJSON"
"""Gives an element the ground of code, and takes that of the elements in it, which is brighter than text in dark."""
_LETTER = re.compile(r"[^\W\d_]")
_PART = r"[^\s\u2e80-\uffff]"
_BREAKABLE = re.compile(rf"(?<!{_PART})(?={_PART}+[-/\u2010\u2013]{_PART}){_PART}{{3,32}}(?!{_PART})")
"""A word that a browser would break after its hyphen or slash; East Asian text has its breaks between characters."""


def configure_layout(markdown: MarkdownIt) -> None:
    """Add the rules, to be followed after all others."""
    for rule in (_set_direction, _align_cells, _keep_words_whole):
        markdown.core.ruler.push(rule.__name__, rule)
    rules: dict[str, Callable[..., str]] = {
        **{"table_open": _table_open, "table_close": _table_close},
        "details_close": _details_close,
        **{"blockquote_open": _quote_open, "blockquote_close": _quote_close},
        **{f"{cell}_open": _cell_open for cell in ("td", "th")},
        **{f"{cell}_close": _cell_close for cell in ("td", "th")},
    }
    markdown.renderer.rules.update(rules)  # type: ignore[attr-defined]


# Tables


def _table_open(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    direction = _direction(tokens[index])
    return f'<div class="{SCROLL_CLASS}"{direction}><table{direction}>\n'


def _table_close(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return "</table></div>\n"


def _direction(token: Token) -> str:
    direction = token.attrs.get("dir")
    return f' dir="{direction}"' if direction else ""


def _align_cells(state: StateCore) -> None:
    """Find the alignment to set within each cell: JupyterLab aligns the cells of tables to the right."""
    inner = ""
    for token in state.tokens:
        if token.type in ("td_open", "th_open"):
            named = str(token.attrs.pop("style", "")).removeprefix("text-align:")
            inner = named or ("" if token.attrs.get("dir") else "left")
            token.meta = {"named": named, "inner": inner}
        elif token.type in ("td_close", "th_close"):
            token.meta = {"inner": inner}


def _cell_open(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    token = tokens[index]
    align = f' align="{token.meta["named"]}"' if token.meta["named"] else ""
    inner = f'<div align="{token.meta["inner"]}">' if token.meta["inner"] else ""
    return f"<{token.tag}{align}{_direction(token)}>{inner}"


def _cell_close(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return f"{'</div>' if tokens[index].meta['inner'] else ''}</{tokens[index].tag}>\n"


def _keep_words_whole(state: StateCore) -> None:
    """Let no line of a cell end within a word: columns would be as narrow as the parts of ``well-known``."""
    in_cell = False
    for token in state.tokens:
        if token.tag in ("td", "th"):
            in_cell = token.nesting == 1
        elif in_cell and token.children:
            token.children = [part for child in token.children for part in _whole_words(child)]


def _whole_words(token: Token) -> list[Token]:
    new, text, done = type(token), token.content, 0
    if token.type == "code_inline" and _BREAKABLE.fullmatch(text):
        return [new("nobr_open", "nobr", 1), token, new("nobr_close", "nobr", -1)]
    if token.type != "text":
        return [token]
    tokens: list[Token] = []
    for word in _BREAKABLE.finditer(text):
        tokens += [new("text", "", 0, content=text[done : word.start()]), new("nobr_open", "nobr", 1)]
        tokens += [new("text", "", 0, content=word.group()), new("nobr_close", "nobr", -1)]
        done = word.end()
    return [*tokens, new("text", "", 0, content=text[done:])] if tokens else [token]


def _details_close(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    # Jupyter leaves no space below folded text; a paragraph has one.
    return "</details>\n<p></p>\n"


# Directions


def _quote_open(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    if not tokens[index].meta.get("rtl"):
        # Without text in it as CommonMark's own rule writes it, which renders what needs no rules beyond those.
        end = "" if tokens[index + 1].type == "blockquote_close" else "\n"
        return f"<blockquote{_direction(tokens[index])}>{end}"
    # Jupyter draws the line of a quote always to its left; an empty one stands to the right of the text in a row of
    # elements, as high as the text between two empty paragraphs, whose margins are as high as its own.
    return f'<div class="{GROW_CLASS}" dir="rtl"><blockquote></blockquote><div><p></p>\n'


def _quote_close(tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    return "</div></div>\n" if tokens[index].meta.get("rtl") else "</blockquote>\n"


def _set_direction(state: StateCore) -> None:
    """Let the page find the direction of each block with right-to-left text.

    That of a table, list or quote is that of its first word, and that of the items of a right-to-left list too. The
    page would not find it: for an element it does not read those inside that find their own.
    """
    if not RIGHT_TO_LEFT.search(state.src):
        return
    opened: list[Token] = []
    directed: list[Token] = []
    table: Token | None = None
    for token in state.tokens:
        directed.append(token)
        if token.type == "table_open":
            table = token
        letter = _LETTER.search(token.content) if token.type == "inline" else None
        if letter is not None:
            right_to_left = RIGHT_TO_LEFT.match(letter.group()) is not None
            for block in opened:
                block.meta.setdefault("rtl", right_to_left)
            if table is not None and "dir" not in table.attrs:
                table.attrSet("dir", "rtl" if right_to_left else "ltr")
        if token.nesting == 1:
            opened.append(token)
            if token.tag in ("td", "th") and table is not None and table.attrs.get("dir") == "rtl":
                token.attrSet("dir", "auto")
        elif token.nesting == -1 and opened:
            opening = opened.pop()
            token.meta = opening.meta
            if opening.tag == "p" and opening.attrs.get("dir") and not opening.hidden:
                # JupyterLab aligns paragraphs to the left; another element begins where its text begins.
                opening.tag = token.tag = "div"
                new = type(token)
                directed += [new("paragraph_open", "p", 1, block=True), new("paragraph_close", "p", -1, block=True)]
        elif RIGHT_TO_LEFT.search(token.content):
            own = {"table", "thead", "tbody", "tr", "details"}
            for block in opened:
                if block.tag in ("ul", "ol", "blockquote"):
                    block.attrSet("dir", "rtl" if block.meta.get("rtl") else "ltr")
                    own = own | {"li"} if block.meta.get("rtl") else own - {"li"}
                elif block.tag not in own:
                    block.attrSet("dir", "auto")
    state.tokens = directed
