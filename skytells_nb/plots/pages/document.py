"""One page with figures and tables, which loads nothing and runs no script but its own.

Scripts, figures and rows are compressed: plotly is 1.9 MB of a page in place of 4.8. A policy in the head of the page
lets no other script run and no address be loaded, whatever the texts of figures and rows are.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytells_nb.plots.pages.rows import PageRows, attached_rows, page_cells
from skytells_nb.plots.theme import TRANSPARENT, escape_text, plain_text, summary

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STATIC = Path(__file__).parent / "static"
PAGE_BYTES = 5_800_000
"""What a page takes at most, with up to ``FEW_ROWS`` rows; texts that are too long for it are cut."""
FEW_ROWS, MAX_BYTES_FACTOR = 10_000, 4
TEXT_LIMITS = (20_000, 10_000, 5_000, 2_500, 1_500, 1_000, 600, 400, 250, 150, 80, 40)
NAME_CHARACTERS = 60


def figure_page(figure: go.Figure) -> str:
    """The page of one figure: with its rows it has a search, topics to filter by, full texts and a selection."""
    background = page_background(figure)
    description = summary(figure)
    title = html.unescape(figure.layout.title.text or description or "Figure").replace("<br>", " ")
    rows = attached_rows(figure)
    kind = "map" if rows is not None else "plain"
    body = f'<div class="sky-{kind}" data-figure="figure"></div>'
    drawn = figure_data(figure)
    budget = PAGE_BYTES - len(_plotly_script()) - 4 * len(_packed({"figures": drawn})) // 3
    if rows is not None:
        drawn["rows"] = fitting_rows(rows, budget)
    return html_page(plain_text(title, 120), body, {"figures": {"figure": drawn}}, background, description)


def page_background(figure: go.Figure) -> str:
    """The color behind a figure."""
    layout = figure.layout
    return str(layout.paper_bgcolor or layout.template.layout.paper_bgcolor or "#ffffff")


def html_page(title: str, body: str, data: Mapping[str, Any], background: str, description: str = "") -> str:
    """A page with a body of escaped HTML and the data of its figures and tables."""
    parts = {"sky-data": _base64(_packed(data))}
    if data.get("figures"):
        parts["sky-plotly"] = _plotly_script()
    blocks = "".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in parts.items())
    script, style = _static("page.js"), _static("page.css")
    # A text of the page cannot contain a number that follows from the whole page.
    nonce = hashlib.blake2b((body + blocks + script).encode(), digest_size=16).hexdigest()
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    follows = background == TRANSPARENT
    scheme = "light dark" if follows else "dark" if _is_dark(background) else "light"
    background_style = "" if follows else f";background:{html.escape(background)}"
    head = '<meta name="color-scheme" content="light dark">' if follows else ""
    head += f"<style>body{{margin:0{background_style}}}</style><title>{html.escape(title)}</title>"
    head += f"<style>:root{{color-scheme:{scheme}}}</style>"
    if description:
        head += f'<meta name="description" content="{html.escape(description)}">'
    unscripted = html.escape(description or title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head>\n<body>{body}<noscript><p>{unscripted}</p></noscript>\n"
        f'{blocks}<script nonce="{nonce}">{script}</script></body></html>\n'
    )


def figure_data(figure: go.Figure) -> dict[str, Any]:
    """A figure as the page's script reads it."""
    drawn: dict[str, Any] = json.loads(figure.to_json())
    return {"figure": drawn}


def fitting_rows(rows: PageRows, budget: float) -> dict[str, Any]:
    """The rows for the page's script, their texts cut so far that they take ``budget`` bytes compressed.

    More rows than ``FEW_ROWS`` may take more, in proportion.
    """
    count = len(rows.positions)
    budget *= float(np.clip(count / FEW_ROWS, 1, MAX_BYTES_FACTOR))
    names = page_names(rows)

    def fits(limit: int | None) -> bool:
        return 4 * len(_packed(rows_data(rows, names, limit))) / 3 <= budget

    if fits(None):
        return rows_data(rows, names)
    at = bisect_left(TEXT_LIMITS, True, key=fits)
    return rows_data(rows, names, TEXT_LIMITS[min(at, len(TEXT_LIMITS) - 1)])


def page_names(rows: PageRows) -> list[dict[str, Any]]:
    """The names of topics and their parts for the page's script, escaped for plotly."""
    return [
        {
            "text": escape_text(name.name, NAME_CHARACTERS),
            **{"x": name.x, "y": name.y, "rows": name.rows, "color": name.color, "level": name.level},
        }
        for name in rows.names()
        if name.name
    ]


def rows_data(rows: PageRows, names: list[dict[str, Any]], limit: int | None = None) -> dict[str, Any]:
    """The rows for the page's script; ``limit`` is the number of characters that texts are cut to."""
    table = rows.table
    cells = [page_cells(table.iloc[:, at].tolist(), limit) for at in range(table.shape[1])]
    found: dict[str, Any] = {
        "positions": rows.positions.tolist(),
        "labels": page_cells(table.index.tolist(), 200),
        "index": plain_text(table.index.name if table.index.name is not None else "row", NAME_CHARACTERS),
        "columns": [plain_text(name, NAME_CHARACTERS) for name in table.columns],
        "cells": cells,
        "plot_width": rows.plot_width,
        "cut": limit if limit is not None and any(_is_cut(column) for column in cells) else None,
        "names": names,
    }
    if rows.topics is not None:
        found["topics"] = {
            "names": [plain_text(name, NAME_CHARACTERS) for name in rows.topics.names],
            "colors": rows.topics.colors,
            "codes": rows.topics.codes.tolist(),
        }
    return found


def _is_cut(cells: list[Any]) -> bool:
    return any(isinstance(cell, str) and cell.endswith("…") for cell in cells)


def _packed(data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate cannot be encoded.
    return gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@lru_cache(maxsize=1)
def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return _base64(gzip.compress(get_plotlyjs().encode(), 9, mtime=0))


@lru_cache(maxsize=4)
def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _is_dark(color: str) -> bool:
    return color.startswith("#") and len(color) == 7 and sum(bytes.fromhex(color[1:])) < 3 * 128
