"""Where a formula begins and ends in Markdown, and which dollar signs are money or names of variables."""

from __future__ import annotations

import re

MAX_FORMULA_CHARS = 2_000
"""Characters searched for the end of a formula in a line of text; longer formulas stay plain text."""
MAX_BLOCK_CHARS = 20_000
"""The same for a formula that begins a line."""

_CLOSING = {"\\[": "\\]", "\\(": "\\)"}
_DOLLARS = re.compile(r"\$(?![\s$])([^$]{0,500}?)(?<![\s\\])\$")
_ENVIRONMENTS = (
    "equation|multline|gather|align|alignat|flalign|eqnarray|matrix|pmatrix|bmatrix|Bmatrix|vmatrix|Vmatrix|"
    "smallmatrix|cases|rcases|dcases|array|aligned|alignedat|gathered|split|subarray|CD"
)
_BEGIN = re.compile(rf"\\begin\{{((?:{_ENVIRONMENTS})\*?)\}}")
_BLOCK_BEGIN = re.compile(rf"\$\$(?!\$)|\\\[|\\begin\{{(?:{_ENVIRONMENTS})\*?\}}")
_GROUP_OR_COMMAND = re.compile(r"\\[A-Za-z]+\*?|\{[^{}]*\}")
_WORD_AFTER_AMOUNT = re.compile(r"(?:^|[\s/,;(\u2013\u2014-])[A-Za-z]{2,}")
_PROSE = re.compile(r"[A-Za-z]{3,}[ \t]+(?:[A-Za-z]+[ \t]+)*[A-Za-z]{3,}")
_WORDS_ONLY = re.compile(r"[A-Za-z\s.,;:()!?-]*[A-Za-z]{2}[A-Za-z\s.,;:()!?-]*")


def formula_end(text: str, start: int, limit: int) -> int:
    r"""Return where the formula that begins at ``start`` ends, 0 if none begins there.

    >>> formula_end("$x^2$ costs $5", 0, 14), formula_end("$5 or $10", 0, 9)
    (5, 0)
    """
    limit = min(start + MAX_FORMULA_CHARS, limit)
    two = text[start : start + 2]
    if two in _CLOSING:
        end = text.find(_CLOSING[two], start + 2, limit)
        return end + 2 if end >= 0 else 0
    if two == "\\b":
        return _environment_end(text, start, limit)
    if not two.startswith("$") or text[start - 1 : start] == "$":
        return 0
    return _double_end(text, start, limit) if two == "$$" else _single_end(text, start, limit)


def block_formula_end(text: str, start: int, limit: int) -> int:
    """Return where the formula that begins a line at ``start`` ends, 0 if none begins there."""
    opening = _BLOCK_BEGIN.match(text, start, limit)
    if opening is None:
        return 0
    limit = min(start + MAX_BLOCK_CHARS, limit)
    if opening.group().startswith("\\b"):
        return _environment_end(text, start, limit)
    closing = _CLOSING.get(opening.group(), "$$")
    end = text.find(closing, start + 2, limit)
    return end + 2 if end >= 0 and text[start + 2 : end].strip() else 0


def _double_end(text: str, start: int, limit: int) -> int:
    end = text.find("$$", start + 2, limit)
    content = text[start + 2 : end]
    # "$$ to $$$" are levels of price.
    if end < 0 or not content.strip() or text[start + 2] == "$" or text[end + 2 : end + 3] == "$":
        return 0
    spaced = content[0] in " ),.;:" or content[-1] in " (,.;:"
    return 0 if "\n" not in content and spaced and _WORDS_ONLY.fullmatch(content) else end + 2


def _single_end(text: str, start: int, limit: int) -> int:
    found = _DOLLARS.match(text, start, limit)
    if found is None or not found[1]:
        return 0
    content, end = found[1], found.end()
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    attached = content[0] in "\\^_{"  # "H$_2$O", "3$\\times$3"
    if before.isascii() and before.isalnum() and not attached:
        return 0
    if (after.isdigit() and not attached) or content[0] in "),.;:!?":
        return 0
    joins = after.isascii() and (after.isalnum() or after in "_{(") and after != ""
    if joins and not (content[-1].isalnum() or content[-1] in ")]}'*!^"):  # "$HOME/bin:$PATH"
        return 0
    bare = _GROUP_OR_COMMAND.sub(" ", content)
    is_text = _WORD_AFTER_AMOUNT.search(bare) if content[0].isdigit() or content[0] in "-+" else _PROSE.search(bare)
    return 0 if is_text else end


def _environment_end(text: str, start: int, limit: int) -> int:
    begin = _BEGIN.match(text, start, limit)
    if begin is None:
        return 0
    depth = 0
    for mark in re.finditer(rf"\\(begin|end)\{{{re.escape(begin[1])}\}}", text[start:limit]):
        depth += 1 if mark[1] == "begin" else -1
        if depth == 0:
            return start + mark.end()
    return 0
