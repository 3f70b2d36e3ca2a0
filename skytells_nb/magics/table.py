"""Small tables: the same as HTML and as text, never raw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skytells_nb.widgets.display import cell_publish, new_display_id
from skytells_nb.widgets.safe_html import escape, plain


@dataclass(frozen=True, slots=True)
class Table:
    """A small table with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return (
            f'<table class="skytells-table"><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def text(self) -> str:
        lines = [[_one_line(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([_one_line(self.title), *shown])


def show(tables: Sequence[Table]) -> None:
    """Publish tables as one output of the cell."""
    data = {"text/html": "".join(t.html() for t in tables), "text/plain": "\n\n".join(t.text() for t in tables)}
    cell_publish()(data, {}, display_id=new_display_id(), update=False)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
