"""Values of columns as text, as a person would write them into a prompt.

How a value is written depends on it alone and not on the other rows, so that a row keeps its prompt, and with it its
cached answer, whatever rows are beside it.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.text_columns import are_blank, is_missing
from skytells_nb.errors import InputError

_LARGEST_WRITTEN = 10**4_000
_LARGEST_WHOLE = 1e15
"""Whole floats below this are written like integers; from about here on not every integer has a float of its own."""
_MIDNIGHT = dt.time()
MAX_WIDTH = 1_000
"""Largest width or precision of a format, and digits of a number: a larger one fills the memory, or a prompt."""
_WIDTHS = re.compile(r"\d+")
_NUMBER_TYPES = tuple("bcdeEfFgGnoxX%")
_TIME_WIDTHS = re.compile(r"%[-_0^#+]*(\d+)")
_TIME_FORMAT = re.compile(r"%[-_0^#+\d]*[A-Za-z]")


def write_column(column: pd.Series[Any]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the text of each value, and which rows are missing: those without a value or with a blank one."""
    missing = column.isna().to_numpy(dtype=bool)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _write_categories(column, missing)
    texts = _write_plain(column, missing)
    if texts is not None:
        return texts, missing
    values = column.to_numpy(dtype=object)
    texts = [
        value if type(value) is str else "" if absent else write(value)
        for value, absent in zip(values, missing.tolist(), strict=True)
    ]
    return texts, missing | are_blank(texts)


def format_column(column: pd.Series[Any], spec: str) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the values with a format specification as in ``format``, and which rows are missing.

    Raises InputError for a value that it does not fit, and for a width that no prompt has.
    """
    _check_widths(spec, column.name)
    missing = column.isna().to_numpy(dtype=bool)
    texts = []
    for label, value, absent in zip(column.index, column.to_numpy(dtype=object), missing.tolist(), strict=True):
        try:
            texts.append("" if absent else _format(value, spec))
        except (ValueError, TypeError, OverflowError):
            raise InputError(
                f"The format {spec!r} does not fit the value {_shortened(value)} of {column.name!r} at row {label!r}. "
                "Convert the column first, or leave the format out."
            ) from None
    return texts, missing | are_blank(texts)


def _check_widths(spec: str, name: Any) -> None:
    widths = (_TIME_WIDTHS if _TIME_FORMAT.search(spec) else _WIDTHS).findall(spec)
    # By digits first: Python refuses to convert thousands of them.
    if any(len(digits := width.lstrip("0")) > len(str(MAX_WIDTH)) or int(digits or 0) > MAX_WIDTH for width in widths):
        raise InputError(
            f"The width and precision of a format must be at most {MAX_WIDTH:,}, got {_shortened(spec)} for {name!r}."
        )


def write(value: Any) -> str:
    """Return a value as a person would write it.

    Raises InputError for bytes that are not text.

    >>> write(3.0), write(np.float32(0.1)), write(pd.Timestamp("2026-01-02")), write(["red", "blue"])
    ('3', '0.1', '2026-01-02', 'red, blue')
    """
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return str(value)
    writer = _writer(type(value))
    return str(value) if writer is None else writer(value)


def _write_plain(column: pd.Series[Any], missing: NDArray[np.bool_]) -> list[str] | None:
    """Return the texts of a column of numbers, truth values or times; ``None`` for another column."""
    dtype: Any = column.dtype
    base = getattr(dtype, "numpy_dtype", dtype)
    kind = getattr(base, "kind", "O")
    if kind == "b" or (kind in "iu" and not missing.any()):
        return list(map(str, column.tolist()))
    if kind in "iu":
        return ["" if absent else str(value) for value, absent in zip(column.tolist(), missing.tolist(), strict=True)]
    if kind == "f":
        numbers = column.to_numpy(dtype=base, na_value=np.nan) if base is not dtype else column.to_numpy()
        return _write_floats(numbers, missing)
    if isinstance(dtype, np.dtype) and kind == "M":
        return _write_times(column, missing)
    return None


def _write_floats(numbers: NDArray[Any], missing: NDArray[np.bool_]) -> list[str]:
    # The shortest text that a narrow float is read back from: as a Python float it would have sixteen digits.
    texts = list(map(repr, numbers.tolist())) if numbers.dtype.itemsize == 8 else list(map(str, numbers))
    wide = numbers.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        whole = (np.trunc(wide) == wide) & (np.abs(wide) < _LARGEST_WHOLE)
    for row in np.flatnonzero(whole).tolist():
        texts[row] = str(int(numbers[row]))
    for row in np.flatnonzero(missing).tolist():
        texts[row] = ""
    return texts


def _write_times(column: pd.Series[Any], missing: NDArray[np.bool_]) -> list[str]:
    times = column.to_numpy()
    days = times.astype("datetime64[D]")
    texts: list[str] = np.datetime_as_string(days).tolist()
    timed = np.flatnonzero((days != times) & ~missing)
    for row, moment in zip(timed.tolist(), column.iloc[timed].astype(object), strict=True):
        texts[row] = str(moment)
    for row in np.flatnonzero(missing).tolist():
        texts[row] = ""
    return texts


def _write_categories(column: pd.Series[Any], missing: NDArray[np.bool_]) -> tuple[list[str], NDArray[np.bool_]]:
    texts, blank = write_column(pd.Series(column.cat.categories))
    codes = column.cat.codes.to_numpy()
    table = np.array([*texts, ""], dtype=object)
    return table[codes].tolist(), missing | np.append(blank, True)[codes]


def _write_float(value: Any) -> str:
    number = float(value)
    if math.isfinite(number) and number.is_integer() and abs(number) < _LARGEST_WHOLE:
        return str(int(number))
    return str(value)


def _write_moment(value: dt.datetime) -> str:
    is_day = value.time() == _MIDNIGHT and not getattr(value, "nanosecond", 0)
    return value.date().isoformat() if is_day else str(value)


def _write_duration(value: dt.timedelta) -> str:
    if value < dt.timedelta():
        return f"-{_write_duration(-value)}"
    if isinstance(value, pd.Timedelta):
        value = value.to_pytimedelta()
    text = str(value)
    return text.removesuffix(", 0:00:00") if value.days else text


def _write_bytes(value: bytes) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        raise InputError(
            f"A template writes text, got {len(value):,} bytes that are not text. Pass a column of images as images=."
        ) from None


def _write_decimal(value: decimal.Decimal) -> str:
    # Written out, a number with a large exponent would be as long as that says.
    return format(value, "f") if value.is_finite() and abs(value.adjusted()) <= MAX_WIDTH else str(value)


def _write_whole(value: int) -> str:
    # Python refuses to write thousands of digits.
    return str(value) if abs(value) < _LARGEST_WRITTEN else f"{decimal.Decimal(value):.17g}"


def _write_list(value: Sequence[Any]) -> str:
    items = [None if is_missing(item) else item for item in value]
    if items and all(isinstance(item, str) for item in items):
        return ", ".join(map(str, items))
    return json.dumps([_json(item) for item in items], ensure_ascii=False, default=write)


def _json(value: Any) -> Any:
    """Return a value as JSON holds it, its numbers as a person writes them."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.dtype.itemsize == 8 or value.dtype.kind != "f" else list(value)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (list, tuple, range, collections.deque)):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _json(item) for name, item in value.items()}
    if is_missing(value):
        return None
    if isinstance(value, (float, np.floating)):
        text = _write_float(value)
        return int(text) if text.lstrip("-").isdigit() else float(text)
    return value.item() if isinstance(value, np.generic) else value


def _writer(kind: type) -> Callable[[Any], str] | None:
    return next((writer for base, writer in _WRITERS if issubclass(kind, base)), None)


_WRITERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (enum.Enum, lambda value: write(value.value)),
    (bool, str),
    (int, _write_whole),
    ((float, np.floating), _write_float),
    (dt.datetime, _write_moment),
    (np.datetime64, lambda value: _write_moment(pd.Timestamp(value))),
    (dt.timedelta, _write_duration),
    (np.timedelta64, lambda value: _write_duration(pd.Timedelta(value))),
    (decimal.Decimal, _write_decimal),
    ((bytes, bytearray, memoryview), _write_bytes),
    (np.ma.core.MaskedConstant, lambda value: ""),
    (np.ndarray, lambda value: write(value.item()) if value.ndim == 0 else _write_list(list(value))),
    # In the order of their texts: that of a set changes from run to run, and with it the prompt and its cached answer.
    ((set, frozenset), lambda value: _write_list(sorted(value, key=str))),
    ((list, tuple, range, collections.deque, pd.Series, pd.Index), lambda value: _write_list(list(value))),
    (Mapping, lambda value: json.dumps(_json(value), ensure_ascii=False, default=write)),
)
"""How values are written that ``str`` does not write as a person would; the first that applies."""


def _format(value: Any, spec: str) -> str:
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, enum.Enum):
        return _format(value.value, spec)
    if isinstance(value, decimal.Decimal) and value.is_finite() and abs(value.adjusted()) > MAX_WIDTH:
        raise ValueError("the number has too many digits")
    if isinstance(value, bool) and spec[-1:] not in _NUMBER_TYPES:
        return format(str(value), spec)
    try:
        return format(value, spec)
    except (ValueError, TypeError):
        # A column of integers becomes floats where some are missing.
        if isinstance(value, float) and value.is_integer() and spec[-1:] in _NUMBER_TYPES:
            return format(int(value), spec)
        # A width and an alignment fit whatever is written.
        return format(write(value), spec)


def _shortened(value: Any) -> str:
    text = write(value) if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
