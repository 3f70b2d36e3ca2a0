"""Tables as an Excel workbook (ECMA-376) in which no text is a formula.

Each text is an inline string, which no program evaluates, and one that looks like a formula has Excel's mark for text,
so that it stays one when a person edits it.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.errors import InputError

MAX_ROWS, MAX_COLUMNS, MAX_CHARACTERS = 1_048_576, 16_384, 32_767
MAX_EXACT = 10**15
"""Excel keeps 15 digits of a number; a longer whole number is written as text."""
SHEET_NAME_CHARACTERS = 31
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMULA = re.compile(r"\s*[=+\-@|\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_EPOCH = datetime(1899, 12, 30)
_FIRST_DATE = datetime(1900, 3, 1)
"""Before it Excel counts a day that did not exist."""
_PLAIN, _HEAD, _TEXT, _DATE = range(4)
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_STYLES = (
    f'{_XML}<styleSheet xmlns="{_MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy-mm-dd hh:mm:ss"/>'
    '</numFmts><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font><font><b/><sz val="11"/>'
    '<name val="Calibri"/></font></fonts><fills count="1"><fill><patternFill patternType="none"/></fill></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="4"><xf/>'
    '<xf fontId="1" applyFont="1"/><xf quotePrefix="1"/><xf numFmtId="164" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    "</styleSheet>"
)


def workbook(sheets: Mapping[str, pd.DataFrame]) -> bytes:
    """The bytes of a workbook with one sheet for each table; the index of a table is its first column."""
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        sheet_type = "application/vnd.openxmlformats-officedocument.spreadsheetml"
        parts = {"/xl/workbook.xml": "sheet.main", "/xl/styles.xml": "styles"}
        parts |= {f"/xl/worksheets/sheet{at}.xml": "worksheet" for at in range(1, len(sheets) + 1)}
        overrides = "".join(
            f'<Override PartName="{part}" ContentType="{sheet_type}.{kind}+xml"/>' for part, kind in parts.items()
        )
        archive.writestr(
            "[Content_Types].xml",
            f'{_XML}<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
            f'"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType='
            f'"application/xml"/>{overrides}</Types>',
        )
        archive.writestr("_rels/.rels", _relations([("officeDocument", "xl/workbook.xml")]))
        targets = [("worksheet", f"worksheets/sheet{at}.xml") for at in range(1, len(sheets) + 1)]
        archive.writestr("xl/_rels/workbook.xml.rels", _relations([*targets, ("styles", "styles.xml")]))
        entries = "".join(
            f'<sheet name="{_text(name[:SHEET_NAME_CHARACTERS])}" sheetId="{at}" r:id="rId{at}"/>'
            for at, name in enumerate(sheets, 1)
        )
        book = f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{entries}</sheets></workbook>'
        archive.writestr("xl/workbook.xml", _XML + book)
        archive.writestr("xl/styles.xml", _STYLES)
        for at, table in enumerate(sheets.values(), 1):
            _check_size(table)
            with archive.open(f"xl/worksheets/sheet{at}.xml", "w", force_zip64=True) as file:
                for part in _sheet(table):
                    file.write(part.encode())
    return stored.getvalue()


def _relations(targets: list[tuple[str, str]]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{at}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for at, (kind, target) in enumerate(targets, 1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'


def _check_size(table: pd.DataFrame) -> None:
    if len(table) >= MAX_ROWS or table.shape[1] + table.index.nlevels > MAX_COLUMNS:
        raise InputError(
            f"A sheet of Excel has at most {MAX_ROWS - 1:,} rows below its head and {MAX_COLUMNS:,} columns, got "
            f"{len(table):,} rows and {table.shape[1]:,} columns. Write a part of the frame, or Parquet."
        )


def _sheet(table: pd.DataFrame) -> Iterable[str]:
    index = [str(name) if name is not None else "row" for name in table.index.names]
    names = [*index, *(str(name) for name in table.columns)]
    yield (
        f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" '
        'topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><sheetData><row>'
    )
    yield "".join(_string(name, _HEAD) for name in names)
    yield "</row>"
    labels = [table.index.get_level_values(level).tolist() for level in range(table.index.nlevels)]
    columns = [table.iloc[:, at].tolist() for at in range(table.shape[1])]
    for line in zip(*labels, *columns, strict=True):
        yield f"<row>{''.join(map(_cell, line))}</row>"
    yield "</sheetData></worksheet>"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (bool, np.bool_)):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, np.integer)):
        return f"<c><v>{int(value)}</v></c>" if abs(int(value)) < MAX_EXACT else _string(str(value))
    if isinstance(value, (float, np.floating)):
        # Excel has neither NaN nor infinity.
        return (
            f"<c><v>{float(value)!r}</v></c>" if np.isfinite(value) else _string("" if value != value else str(value))
        )
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "<c/>"
    if isinstance(value, datetime) and value.tzinfo is None and value >= _FIRST_DATE:
        days = (value.to_pydatetime(warn=False) if isinstance(value, pd.Timestamp) else value) - _EPOCH
        return f'<c s="{_DATE}"><v>{days.total_seconds() / 86_400!r}</v></c>'
    return _string(words_of(value))


def words_of(value: Any) -> str:
    """A value as text; a vector of numbers only in words.

    >>> words_of(np.zeros(512)), words_of(["a", "b"])
    ('vector of 512 numbers', "['a', 'b']")
    """
    return f"vector of {len(value):,} numbers" if is_vector(value) else str(value)


def is_vector(value: Any) -> bool:
    """Whether a value is a vector of floats: an array, or a list as Arrow returns it."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind == "f"
    return isinstance(value, (list, tuple)) and len(value) > 1 and all(isinstance(part, float) for part in value)


def _string(text: str, style: int = _PLAIN) -> str:
    if not text:
        return "<c/>"
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 1] + "…"
    if style == _PLAIN and _FORMULA.match(text):
        style = _TEXT
    return f'<c t="inlineStr" s="{style}"><is><t xml:space="preserve">{_text(text)}</t></is></c>'


def _text(text: str) -> str:
    return escape(_FORBIDDEN.sub("\ufffd", text))
