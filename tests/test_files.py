"""Every kind of column that the accessor makes, through every kind of file, as in docs/columns.md."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from served import connected, served

from skytells_nb import columns, files
from skytells_nb.accessor.structured.columns import typed_column
from skytells_nb.accessor.structured.field_types import FieldType
from skytells_nb.errors import InputError

PAGE = (Path(__file__).parent.parent / "docs" / "columns.md").read_text()
MATRIX = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def made(kind: FieldType, *cells: Any) -> pd.Series[Any]:
    return typed_column(kind, list(cells), pd.RangeIndex(len(cells)))


COLUMNS: dict[str, pd.Series[Any]] = {
    "vectors": columns.from_matrix(MATRIX, rows=[0, -1, 2]),
    'vectors, `dtype="arrow"`': columns.from_matrix(MATRIX, rows=[0, -1, 2], dtype="arrow"),
    "text": made(FieldType("string"), 'a, "b"\n', None, "c"),
    "whole numbers": made(FieldType("integer"), 1, None, 2**60 + 1),
    "numbers": made(FieldType("number"), 0.1, None, 2.0),
    "true or false": made(FieldType("boolean"), True, None, False),
    "dates and times": made(FieldType("datetime"), "2026-01-02T03:04:05", None, "2026-01-02"),
    "times in UTC": made(FieldType("instant"), "2026-01-02T03:04:05+02:00", None, "2026-01-02T00:00:00Z"),
    "durations": made(FieldType("duration"), timedelta(seconds=5), None, timedelta(days=7)),
    "labels": made(FieldType("label", labels=("x", "y", "z")), "y", None, "x"),
    "labels that are numbers": made(FieldType("label", labels=(1, 2)), 2, None, 1),
    "severities": pd.Series(pd.Categorical(["low", None, "high"], ["safe", "low", "high"], ordered=True)),
    "decimals": made(FieldType("decimal"), Decimal("1.5"), None, Decimal("2.25")),
    "decimals of fixed digits": made(FieldType("decimal", digits=9, places=2), Decimal("1.50"), None, Decimal("2.25")),
    "structs": made(FieldType("struct", parts=(("a", FieldType("integer")),)), {"a": 1}, None, {"a": None}),
    "lists": made(FieldType("list", item=FieldType("string")), ["a"], None, []),
    "maps": made(FieldType("map", item=FieldType("integer")), {"k": 1}, None, {}),
    "answers as dicts": pd.Series([{"a": 1, "b": None}, None, {"a": 2, "b": "x"}], dtype=object),
    "values of several kinds": made(FieldType("any"), {"a": [1]}, None, 3),
}
WAYS: dict[str, Callable[[pd.DataFrame, Path], pd.DataFrame]] = {
    "`read_parquet`": lambda frame, path: (frame.to_parquet(path), pd.read_parquet(path))[1],
    "`read_feather`": lambda frame, path: (frame.to_feather(path), pd.read_feather(path))[1],
    "`files.read`": lambda frame, path: (frame.to_parquet(path), files.read(path))[1],
    "`read_csv`": lambda frame, path: (frame.to_csv(path, index=False), pd.read_csv(path))[1],
    "`read_pickle`": lambda frame, path: (frame.to_pickle(path), pd.read_pickle(path))[1],
}


def outcome(column: pd.Series[Any], way: str, path: Path) -> str:
    """What becomes of a column, in the words of the page."""
    try:
        found = WAYS[way](pd.DataFrame({"x": column}), path)["x"]
    except Exception:
        return "raises"
    try:
        pd.testing.assert_series_equal(found, column.rename("x"))
    except (AssertionError, ValueError):  # pandas 2 raises ValueError where a text meets an array
        return f"{found.dtype}"
    return "same"


def table() -> dict[str, dict[str, str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: dict(zip(head[2:], row[2:], strict=True)) for row in rows}


def expected(kind: str, way: str) -> str:
    """The page is about pandas 3, and says what differs before it: text from a CSV file is ``object`` there."""
    found = table()[kind][way]
    from_text = way == "`read_csv`" and (found == "str" or kind == "text")
    return "object" if from_text and int(pd.__version__.partition(".")[0]) < 3 else found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_becomes_what_the_page_says(kind: str, way: str, tmp_path: Path) -> None:
    assert outcome(COLUMNS[kind], way, tmp_path / "file") == expected(kind, way)


def test_the_page_has_every_kind() -> None:
    assert list(table()) == list(COLUMNS)


@pytest.mark.parametrize("write", ["to_parquet", "to_feather"])
def test_a_frame_of_all_kinds_comes_back_with_its_order_and_dtypes(write: str, tmp_path: Path) -> None:
    left_out = ["values of several kinds", "labels that are numbers", "decimals of fixed digits"]
    frame = pd.DataFrame(COLUMNS).drop(columns=left_out)
    getattr(frame, write)(tmp_path / "frame")
    pd.testing.assert_frame_equal(files.read(tmp_path / "frame"), frame)


def test_an_index_comes_back_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": COLUMNS["lists"], "n": [1, 2, 3]}).set_index(pd.Index(list("abc"), name="key"))
    frame.to_parquet(tmp_path / "frame")
    pd.testing.assert_frame_equal(files.read(tmp_path / "frame"), frame)


def test_a_file_of_another_kind_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="must be a Parquet or Feather file, got"):
        files.read(tmp_path / "x.csv")


@pytest.mark.parametrize("size", [2, 1500])
def test_vectors_pass_through_a_csv_without_loss(size: int, tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((3, size)).astype(np.float32)
    column = columns.from_matrix(matrix, rows=[2, -1, 0], name="v")
    files.to_text(column).to_frame().to_csv(tmp_path / "v.csv", index=False)
    pd.testing.assert_series_equal(files.from_text(pd.read_csv(tmp_path / "v.csv")["v"]), column)


def test_vectors_that_to_csv_wrote_are_read_if_complete(tmp_path: Path) -> None:
    pd.DataFrame({"v": COLUMNS["vectors"]}).to_csv(tmp_path / "v.csv", index=False)
    found = files.from_text(pd.read_csv(tmp_path / "v.csv")["v"])
    np.testing.assert_allclose(columns.to_matrix(found)[0], MATRIX[[0, 2]], rtol=1e-6)
    long = columns.from_matrix(np.ones((1, 1500), dtype=np.float32), name="v")
    long.to_frame().to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(InputError, match="middle was left out"):
        files.from_text(pd.read_csv(tmp_path / "long.csv")["v"])
    with pytest.raises(InputError, match="Row 0 must hold a vector, got 'words'"):
        files.from_text(pd.Series(["words"]))


def test_details_and_a_file_of_vectors_come_back_and_are_understood(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["fine", None, "violence:high", "a cat"]}, index=list("abcd"))
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        said = frame.skytells.complete("{t}", details=True, on_error="null", progress=False)
        path = frame.skytells.embed("t", to=tmp_path / "v.parquet", on_error="null", progress=False)
        vectors = frame.skytells.embed("t", on_error="null", progress=False)
    pd.testing.assert_frame_equal(files.read(path), vectors)
    said.to_parquet(tmp_path / "said")
    said.to_csv(tmp_path / "said.csv", index_label="row")
    pd.testing.assert_frame_equal(files.read(tmp_path / "said"), said)
    read = pd.read_csv(tmp_path / "said.csv", index_col="row", dtype=said.dtypes.to_dict())
    pd.testing.assert_frame_equal(read.skytells.safety(), said.skytells.safety())


def test_examples_in_docstrings_run(tmp_path: Path) -> None:
    assert doctest.testmod(files) == doctest.TestResults(0, 10)


def test_the_cells_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)


def parts_of(frame: pd.DataFrame, folder: Path, kind: str = "parquet", *, keep_index: bool = True) -> Path:
    """Write the frame in parts of ten rows, whose names sort otherwise as text."""
    folder.mkdir()
    for number, start in enumerate(range(0, len(frame), 10)):
        part = frame.iloc[start : start + 10]
        part = part if keep_index else part.reset_index(drop=True)
        getattr(part, f"to_{kind}")(folder / f"part-{number * 5}.{kind}")
    return folder


PARTED = pd.DataFrame(
    {
        "n": pd.array(range(30), dtype="Int64"),
        "v": columns.from_matrix(np.arange(60.0).reshape(30, 2), dtype="arrow"),
        "late": pd.array([None] * 10 + ["x"] * 20, dtype="str"),
        "mixed": [1] * 10 + [1.5] * 20,
    }
)


@pytest.mark.parametrize(("kind", "keep_index"), [("parquet", True), ("parquet", False), ("feather", False)])
def test_a_folder_of_parts_is_one_frame(tmp_path: Path, kind: str, keep_index: bool) -> None:
    """In the order of the numbers in their names; a column may have another type in a part that lacks some values."""
    folder = parts_of(PARTED.astype({"mixed": object}).infer_objects(), tmp_path / "parts", kind, keep_index=keep_index)
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.parquet.crc").write_text("checksum")
    pd.testing.assert_frame_equal(files.read(folder), PARTED)
    pd.testing.assert_frame_equal(files.read(str(folder)), PARTED)


def test_the_index_of_parts_is_that_of_the_frame(tmp_path: Path) -> None:
    named = PARTED.set_index(pd.Index([f"row {n}" for n in range(30)], name="name"))
    pd.testing.assert_frame_equal(files.read(parts_of(named, tmp_path / "named")), named)
    shifted = PARTED.set_index(pd.RangeIndex(100, 130))
    pd.testing.assert_frame_equal(files.read(parts_of(shifted, tmp_path / "shifted")), shifted)
    (tmp_path / "shifted" / "part-5.parquet").unlink()
    assert files.read(tmp_path / "shifted").index.equals(pd.RangeIndex(20))


def test_folders_named_like_values_are_columns(tmp_path: Path) -> None:
    for year in (2025, 2026):
        (tmp_path / f"year={year}").mkdir()
        PARTED.iloc[:3].to_parquet(tmp_path / f"year={year}" / "a.parquet")
    assert files.read(tmp_path)["year"].tolist() == [2025] * 3 + [2026] * 3


def test_a_folder_without_usable_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="which has none"):
        files.read(tmp_path / "empty")
    both = parts_of(PARTED, tmp_path / "both")
    PARTED.to_feather(both / "x.feather")
    with pytest.raises(InputError, match="got both"):
        files.read(both)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.csv").write_text("a,b")
    with pytest.raises(InputError, match="must be a folder of Parquet or Feather files"):
        files.read(tmp_path / "text")
    other = parts_of(PARTED, tmp_path / "other")
    pd.DataFrame({"n": ["text"]}).to_parquet(other / "part-99.parquet")
    with pytest.raises(InputError, match="must be a folder of Parquet or Feather files"):
        files.read(other)
