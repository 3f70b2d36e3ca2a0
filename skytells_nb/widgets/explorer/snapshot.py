"""An explorer without a kernel: an image of the map, and a table as sanitized HTML."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.plots import semantic_map
from skytells_nb.plots.maps.clusters import add_labels
from skytells_nb.plots.maps.projection import Method
from skytells_nb.plots.theme import Theme
from skytells_nb.vectors.arrays import Indices
from skytells_nb.widgets.display import OUTPUT, disconnected_style
from skytells_nb.widgets.explorer.coloring import Coloring, parse_hex_color
from skytells_nb.widgets.explorer.rows import Rows
from skytells_nb.widgets.safe_text import escape, literal_html, plain

if TYPE_CHECKING:
    from skytells_nb.plots.theme import Figure


WIDTH, HEIGHT, MARGIN = 720, 440, 10
DIMMED = (128, 128, 128, 56)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The map and the table at one moment. As the last line of a cell it is shown and saved with the notebook.

    ``png`` is the image of the map, ``text`` the table as plain text.
    """

    title: str
    caption: str
    points: NDArray[np.uint16]
    coloring: Coloring
    emphasized: NDArray[np.bool_] | None
    table: dict[str, Any]
    groups: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    @property
    def png(self) -> bytes:
        """The map as a PNG with a transparent background; rows that are not selected or highlighted are dimmed."""
        return _encode_png(_draw_map(self.points, self.coloring, self.emphasized))

    def html(self, name: str = "") -> str:
        """One ``<div>`` with caption, legend and table, without scripts or images; ``name`` is an additional class."""
        legend = " &nbsp; ".join(
            f'<span style="color: {color}">●</span> {literal_html(words)}'
            for color, words in self.coloring.legend_items
        )
        groups = literal_html(" · ".join(self.groups))
        head = "".join(f"<th>{literal_html(cell)}</th>" for cell in self.table["columns"])
        body = "".join(
            f"<tr>{''.join(f'<td>{literal_html(cell)}</td>' for cell in row['cells'])}</tr>"
            for row in self.table["rows"]
        )
        parts = [
            f"<p><strong>{literal_html(self.title)}</strong></p><p><small>{literal_html(self.caption)}</small></p>",
            f"<p>{legend}</p>" if legend else "",
            f"<p>Topics: {literal_html(' · '.join(self.topics))}</p>" if self.topics else "",
            f"<p>Named: {groups}</p>" if groups else "",
            f"<p>{literal_html(self.table['what'] + self._remainder_note)}</p>",
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>",
        ]
        return f'<div class="skytells-explored{f" {name}" if name else ""}">{"".join(parts)}</div>'

    @property
    def text(self) -> str:
        """The same as plain text."""
        rows = [" | ".join(row["cells"]) for row in self.table["rows"]]
        head = " | ".join(self.table["columns"])
        topics = [f"Topics: {' · '.join(self.topics)}"] if self.topics else []
        listed = f"{self.table['what']}{self._remainder_note}"
        return plain("\n".join([f"{self.title}: {self.caption}", *topics, listed, head, *rows]))

    def __repr__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        from skytells_nb.widgets.display import cell_publish, new_display_id

        for bundle in self.mime_bundles():
            cell_publish()(bundle, {}, display_id=new_display_id(), update=False)

    def _mime_(self) -> tuple[str, str]:
        """Return what marimo shows: the image above the table."""
        image = f'<img alt="{escape(self.title)}" src="data:image/png;base64,{base64.b64encode(self.png).decode()}">'
        return "text/html", image + self.html()

    def mime_bundles(self, name: str = "") -> tuple[dict[str, str], dict[str, str]]:
        """Return the MIME bundles to publish: the image, then the table.

        With ``name`` the table hides the output above the image while that has no explorer.
        """
        hide = disconnected_style(f"+ {OUTPUT} + {OUTPUT} .{name}", "skytells-explorer") if name else ""
        image = {"image/png": base64.b64encode(self.png).decode(), "text/plain": f"{self.title}: {self.caption}"}
        return image, {"text/html": self.html(name) + hide, "text/plain": self.text}

    @property
    def _remainder_note(self) -> str:
        more = self.table["total"] - len(self.table["rows"])
        return f", the first {len(self.table['rows'])} of them:" if more > 0 else ":"


def _draw_map(points: NDArray[np.uint16], colors: Coloring, emphasized: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Return pixels (height, width, 4): every point as a small disc, emphasized ones on top."""
    image = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    if not len(points):
        return image
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    span = np.maximum(high - low, 1)
    scale = min((WIDTH - 2 * MARGIN) / span[0], (HEIGHT - 2 * MARGIN) / span[1])
    at = ((points - (low + high) / 2) * scale + (WIDTH / 2, HEIGHT / 2)).astype(np.int64)
    palette = np.array([(*parse_hex_color(color), 255) for color in colors.palette], dtype=np.uint8)
    # In row order the last category would cover all others.
    order = np.random.default_rng(0).permutation(len(points))
    if emphasized is None:
        _draw_points(image, at[order], colors.codes[order], colors, palette, len(points))
    else:
        dimmed, on_top = order[~emphasized[order]], order[emphasized[order]]
        _draw_discs(image, at[dimmed], DIMMED, len(points))
        _draw_points(image, at[on_top], colors.codes[on_top], colors, palette, len(on_top))
    return image


def _draw_points(
    image: NDArray[np.uint8],
    at: NDArray[np.int64],
    codes: NDArray[np.uint8],
    colors: Coloring,
    palette: Any,
    count: int,
) -> None:
    """Draw each point in its color, those without a value as rings below the others."""
    hollow = codes == colors.hollow
    _draw_discs(image, at[hollow], palette[codes[hollow]], count, ring=True)
    _draw_discs(image, at[~hollow], palette[codes[~hollow]], count)


def _draw_discs(image: NDArray[np.uint8], at: NDArray[np.int64], color: Any, count: int, *, ring: bool = False) -> None:
    """Draw a disc at each position, smaller for more points; the margin has room for it."""
    radius = 4 if count <= 50 else 3 if count <= 500 else 2 if count <= 20_000 else 1
    for down, right in _disc_offsets(max(radius, 2) if ring else radius, ring=ring):
        image[at[:, 1] + down, at[:, 0] + right] = color


def _disc_offsets(radius: int, *, ring: bool = False) -> list[tuple[int, int]]:
    reach = range(-radius, radius + 1)
    hole = (radius - 1) ** 2 if ring else -1
    return [(y, x) for y in reach for x in reach if hole < x * x + y * y <= radius * radius]


def _encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode as PNG, truecolor with alpha, no filter (RFC 2083)."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + width * 4), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    )
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        whole += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return whole


UNSELECTED_OPACITY = 0.12
"""Opacity of points that are not emphasized while others are."""


def build_figure(
    rows: Rows,
    *,
    color: Any,
    coordinates: tuple[Any, Any] | None,
    method: Method,
    emphasized: Indices | None,
    hidden: Indices,
    names: pd.Series[Any],
    theme: Theme | None,
    title: str,
) -> Figure:
    """Draw the map: rows outside of ``emphasized`` dimmed, categories whose rows are all ``hidden`` switched off."""
    figure = semantic_map(
        rows.frame,
        rows.embedding,
        color=color,
        hover=[] if rows.text is None else rows.text,
        method=method,
        coordinates=coordinates,
        theme=theme,
        title=title,
        topics=not names.notna().any(),
    )
    points, at = [], []
    for trace in figure.data:
        if trace.customdata is None or not len(trace.customdata):
            continue
        where = np.asarray(trace.customdata)
        at.append(where)
        points.append(np.column_stack([trace.x, trace.y]))
        if np.isin(where, hidden).all():
            trace.visible = "legendonly"
        if emphasized is not None:
            trace.selectedpoints = np.flatnonzero(np.isin(where, emphasized)).tolist()
            trace.unselected = {"marker": {"opacity": UNSELECTED_OPACITY}}
    if at and names.notna().any():
        placed: NDArray[np.float32] = np.concatenate(points).astype(np.float32)
        add_labels(figure, placed, names.iloc[np.concatenate(at)], theme)
    return figure
