"""Templates fill fields, and evaluate nothing else."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.accessor.prompts.template import Template
from skytells_nb.columns import is_blank
from skytells_nb.errors import InputError


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.text(max_size=20), st.text(max_size=20))
def test_values_replace_their_fields_whatever_they_hold(values: list[str], left: str, right: str) -> None:
    """Braces in the data stay data."""
    escaped = [part.replace("{", "{{").replace("}", "}}") for part in (left, right)]
    filled = Template(f"{escaped[0]}{{a b}}{escaped[1]}").fill(pd.DataFrame({"a b": values}, dtype=object))
    assert filled.tolist() == [None if is_blank(value) else left + value + right for value in values]


@given(st.text(max_size=30))
def test_a_template_is_filled_or_rejected_and_never_evaluated(template: str) -> None:
    frame = pd.DataFrame({"a": ["x"]})
    try:
        text = Template(template).fill(frame)[0]
    except InputError:
        return
    if "{a:" not in template:
        assert text == template.replace("{a}", "\0").replace("{{", "{").replace("}}", "}").replace("\0", "x")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda name: "{" not in name)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_name_of_a_column_stands_between_braces(names: list[str]) -> None:
    frame = pd.DataFrame([[f"value {n}" for n in range(len(names))]], columns=pd.Index(names, dtype=object))
    for number, name in enumerate(names):
        if not any(f"{name}}}".startswith(f"{other}}}") for other in names if other != name):
            assert Template("<{" + name + "}>").fill(frame).tolist() == [f"<value {number}>"]


@pytest.mark.parametrize(
    ("column", "template"),
    [
        ("Q1: How was it?", "{Q1: How was it?}"),
        ("0", "{0}"),
        (0, "{0}"),
        (2024, "{2024}"),
        (("a", "b"), "{('a', 'b')}"),
        ("a!r", "{a!r}"),
        ("a[0]", "{a[0]}"),
        ("a}b", "{a}b}"),
        (" padded ", "{ padded }"),
        ("10:30", "{10:30}"),
        ("", "{}"),
    ],
)
def test_names_that_format_would_read_otherwise(column: Any, template: str) -> None:
    frame = pd.DataFrame({0: ["v"]})
    frame.columns = pd.Index([column], tupleize_cols=False)
    assert Template(template).fill(frame).tolist() == ["v"]


def test_a_name_goes_before_a_format_and_a_string_before_a_number() -> None:
    frame = pd.DataFrame({"n": [1.5], "n:.2f": ["the name"], 0: ["number"], "0": ["string"]})
    assert Template("{n:.2f} {n:.1f} {0}").fill(frame).tolist() == ["the name 1.5 string"]


@pytest.mark.parametrize(
    ("values", "spec", "expected"),
    [
        ([1.5, 2.0], ".2f", ["1.50", "2.00"]),
        ([3.0, None], "d", ["3", None]),
        ([1234567], ",", ["1,234,567"]),
        ([0.25], ".0%", ["25%"]),
        (pd.to_datetime(["2026-05-01", None]), "%d %b", ["01 May", None]),
        ([dt.date(2026, 5, 1)], "%d.%m.%Y", ["01.05.2026"]),
        (["ab", " "], ">4", ["  ab", None]),
        ([decimal.Decimal("1.005")], ".1f", ["1.0"]),
        (np.array([0.1], dtype=np.float32), ".3f", ["0.100"]),
        (pd.array([7, None], dtype="Int64"), "03d", ["007", None]),
        (pd.Categorical([2.5, None]), ".2f", ["2.50", None]),
        (["10:30"], "", ["10:30"]),
    ],
)
def test_formats(values: Any, spec: str, expected: list[Any]) -> None:
    assert Template("{x:" + spec + "}").fill(pd.DataFrame({"x": values})).tolist() == expected


@pytest.mark.parametrize(
    ("value", "spec", "written"),
    [
        *((["a", "b"], ">6", "  a, b"), ({"k": 1.0}, "<9", '{"k": 1} '), (pd.Timedelta("1D"), ">6", " 1 day")),
        *(
            (True, ">5", " True"),
            (True, "d", "1"),
            (b"xy", "^4", " xy "),
            (5, "s", "5"),
            (enum.Enum("Color", {"RED": "red"}).RED, ">4", " red"),
        ),
    ],
)
def test_a_width_fits_whatever_is_written(value: Any, spec: str, written: str) -> None:
    frame = pd.DataFrame({"x": pd.Series([value], dtype=object)})
    assert Template(f"{{x:{spec}}}").fill(frame).tolist() == [written]


def test_a_format_that_does_not_fit_names_value_and_row() -> None:
    frame = pd.DataFrame({"price": ["3.5", "cheap"]}, index=["a", "b"])
    with pytest.raises(InputError, match=r"The format '\.2f' does not fit the value '3.5' of 'price' at row 'a'"):
        Template("{price:.2f}").fill(frame)


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        ("{Text}", r"Did you mean \{review text\}"),
        ("{review_text}", r"Did you mean \{review text\}"),
        ("{review  text }", r"Did you mean \{review text\}"),
        ("{prise:.2f}", r"Did you mean \{price:.2f\}"),
        ("{price!r}", r"Conversions such as !r are not supported: write \{price\}"),
    ],
)
def test_a_near_miss_names_the_column(template: str, hint: str) -> None:
    frame = pd.DataFrame({"review text": ["x"], "price": [1.0]})
    frame = frame.rename(columns={"review text": "text"}) if template == "{Text}" else frame
    with pytest.raises(InputError, match=hint.replace("review text", "text") if template == "{Text}" else hint):
        Template(template).fill(frame)


WRITTEN: list[tuple[Any, str]] = [
    (3.0, "3"),
    (-0.0, "0"),
    (2.5, "2.5"),
    (1e20, "1e+20"),
    (float("inf"), "inf"),
    (np.float32(0.1), "0.1"),
    (np.float16(2.0), "2"),
    (np.int64(7), "7"),
    (np.bool_(True), "True"),
    (pd.Timestamp("2026-01-02"), "2026-01-02"),
    (pd.Timestamp("2026-01-02 10:30"), "2026-01-02 10:30:00"),
    (pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02"),
    (dt.datetime(2026, 1, 2), "2026-01-02"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (dt.timedelta(days=3), "3 days"),
    (pd.Timedelta(days=1, hours=2), "1 day, 2:00:00"),
    (-dt.timedelta(minutes=5), "-0:05:00"),
    (decimal.Decimal("1.50"), "1.50"),
    (decimal.Decimal("1E+3"), "1000"),
    (b"\xc3\xa9t\xc3\xa9", "été"),
    (np.array([0.1, 2.0], dtype=np.float32), "[0.1, 2]"),
    (np.arange(2000), "[" + ", ".join(map(str, range(2000))) + "]"),
    (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
    (["red", "blue"], "red, blue"),
    ((1, 2.0, None), "[1, 2, null]"),
    ({"a": np.float32(0.5), "when": dt.date(2026, 1, 2)}, '{"a": 0.5, "when": "2026-01-02"}'),
    (enum.Enum("Color", {"RED": "red"}).RED, "red"),
    (pd.Period("2026-01"), "2026-01"),
    ("{braces}", "{braces}"),
]


@pytest.mark.parametrize(("value", "expected"), WRITTEN)
def test_values_are_written_as_a_person_would(value: Any, expected: str) -> None:
    objects = pd.Series([None], dtype=object)
    objects.iat[0] = value
    assert Template("{x}").fill(pd.DataFrame({"x": objects})).tolist() == [expected]
    # pandas makes float64 of a narrow float beside a missing value, before a template sees it.
    if not isinstance(value, (list, tuple, dict, np.ndarray, np.float32, np.float16)):
        typed = pd.DataFrame({"x": pd.Series([value, None])})
        assert Template("{x}").fill(typed).tolist() == [expected, None]
        labels = pd.DataFrame({"x": pd.Series(pd.Categorical([value, None]))})
        assert Template("{x}").fill(labels).tolist() == [expected, None]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, None], None, ["1", None]),
        ([1, None], "Int64", ["1", None]),
        ([0.1, None], "Float32", ["0.1", None]),
        ([0.1, 3.0], "float32", ["0.1", "3"]),
        ([True, None], "boolean", ["True", None]),
        ([0.1, 3.0, None], "float32[pyarrow]", ["0.1", "3", None]),
        ([5, None], "int64[pyarrow]", ["5", None]),
        (["a", " ", None], "string[pyarrow]", ["a", None, None]),
        (["2026-01-02", "2026-01-02 03:04:05", None], "datetime64[ns]", ["2026-01-02", "2026-01-02 03:04:05", None]),
        (["2026-01-02", None], "timestamp[us][pyarrow]", ["2026-01-02", None]),
        (["3 days", None], "timedelta64[ns]", ["3 days", None]),
        (["", "  ", "\n", "x"], object, [None, None, None, "x"]),
        (["", "x", "x"], "category", [None, "x", "x"]),
    ],
)
def test_columns_of_every_kind(values: list[Any], dtype: Any, expected: list[Any]) -> None:
    if dtype == "timestamp[us][pyarrow]":
        column = pd.Series(pd.to_datetime(values)).astype(dtype)
    else:
        column = (
            pd.Series(values, dtype=dtype)
            if dtype != "datetime64[ns]"
            else pd.Series(pd.to_datetime(values, format="mixed"))
        )
    assert Template("{x}").fill(pd.DataFrame({"x": column})).tolist() == expected


def test_a_value_is_written_the_same_whatever_rows_are_beside_it() -> None:
    """So that its cached answer is found."""
    alone = Template("{x}").fill(pd.DataFrame({"x": [3.0, 2.0]})).tolist()
    assert alone == Template("{x}").fill(pd.DataFrame({"x": [3.0, 2.0, 0.5, None]})).tolist()[:2] == ["3", "2"]


def test_a_missing_or_blank_value_of_any_field_makes_the_row_missing() -> None:
    frame = pd.DataFrame({"a": ["x", None, "z", " "], "b": [1, 2, None, 4]})
    assert Template("{a} {b}").fill(frame).tolist() == ["x 1", None, None, None]
    assert Template("{a} {b}").fill(frame, missing="?").tolist() == ["x 1", "? 2", "z ?", "? 4"]
    with pytest.raises(InputError, match="missing must be a string"):
        Template("{a}").fill(frame, missing=0)  # type: ignore[arg-type]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError, match="3 bytes that are not text"):
        Template("{x}").fill(pd.DataFrame({"x": [b"\xff\xd8\xff"]}))


@pytest.mark.parametrize("field", ["a.real", "a[0]", "a.__class__.__mro__", "self._key"])
def test_attributes_and_indexes_are_not_fields(field: str) -> None:
    with pytest.raises(InputError, match="not a column"):
        Template("{" + field + "}").fill(pd.DataFrame({"a": [1]}))


def test_a_column_whose_name_has_dots_is_its_name() -> None:
    assert Template("{a.b}").fill(pd.DataFrame({"a.b": ["x"]})).tolist() == ["x"]


@pytest.mark.parametrize(
    "spec",
    [
        ">1000000000",
        ".1000000000f",
        "1001",
        "0>99999",
        "%1000000000d",
        "%-099999d",
        "9" * 6000,
        ".\u0661\u0660\u0660\u0660\u0660",
    ],
)
@pytest.mark.parametrize("value", ["x", 1.5, pd.Timestamp("2026-01-01"), None])
def test_a_width_that_would_fill_the_memory_is_refused(spec: str, value: Any) -> None:
    with pytest.raises(InputError, match="must be at most 1,000, got"):
        Template("{x:" + spec + "}").fill(pd.DataFrame({"x": [value]}))


def test_numbers_in_a_format_of_days_are_no_widths() -> None:
    frame = pd.DataFrame({"x": [pd.Timestamp("2026-05-01")]})
    assert Template("{x:since 20250101, %d %b}").fill(frame).tolist() == ["since 20250101, 01 May"]


def test_numbers_with_more_digits_than_a_text_should_have_are_written_in_short() -> None:
    frame = pd.DataFrame({"x": [decimal.Decimal("1E+999999999"), 10**5000, decimal.Decimal("1E-999999999")]})
    assert Template("{x}").fill(frame).tolist() == ["1E+999999999", "1.0000000000000000e+5000", "1E-999999999"]
    for row in range(2):
        with pytest.raises(InputError, match=r"does not fit the value"):
            Template("{x:,}").fill(frame.iloc[[row]])


def test_collections_of_every_kind_are_written_like_lists_and_sets_always_alike() -> None:
    """The order of a set of texts differs from process to process; a prompt that differed would be paid for again."""
    names = {f"name {n}" for n in range(9)}
    values = [
        names,
        frozenset({3, 1}),
        range(3),
        collections.deque(["a", "b"]),
        pd.Series(["a", "b"]),
        {"x": {"b", "a"}},
    ]
    texts = Template("{x}").fill(pd.DataFrame({"x": pd.Series(values, dtype=object)})).tolist()
    assert texts == [", ".join(sorted(names)), "[1, 3]", "[0, 1, 2]", "a, b", "a, b", '{"x": ["a", "b"]}']


def test_a_masked_value_is_missing() -> None:
    frame = pd.DataFrame({"x": pd.Series([np.ma.masked, 1], dtype=object)})
    assert Template("{x}").fill(frame).tolist() == [None, "1"]
