"""Variables of the notebook in a prompt: as text, in placeholders and as images."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import io
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from magic_service import Notebook, completion, scripted
from serving import Exchange

from skytells_nb.client.images import MAX_BYTES
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.variables import (
    fill_placeholders,
    image_url,
    placeholder,
    variables_as_text,
)
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response
from skytells_nb.widgets.chat_panel.variable_text import MAX_CELL_CHARS, MAX_COLUMNS, MAX_ROWS


def text_of(value: Any) -> str:
    return variables_as_text(["x"], {"x": value})["x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("a {b}", "a {b}"), (3, "3"), (0.5, "0.5"), (True, "True"), (np.int64(7), "7"), (np.float32(0.5), "0.5")],
)
def test_texts_and_numbers_are_themselves(value: Any, text: str) -> None:
    """Strings, numbers and booleans, NumPy's included, are written as they are."""
    assert text_of(value) == text


@pytest.mark.parametrize(
    "value", [None, object(), print, pd, b"x", 1j, int, np.array([object()])], ids=lambda v: type(v).__name__
)
def test_other_kinds_are_refused_by_name(value: Any) -> None:
    """Objects, which may hold keys or anything, do not get into a prompt by their repr."""
    with pytest.raises(MagicUsageError, match=f"-v x: must be a str, .*, got a {type(value).__name__}$"):
        text_of(value)


class Grade(enum.Enum):
    GOOD = "good"


class City(pydantic.BaseModel):
    name: str
    founded: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


ANSWER = ChatCompletion.model_validate({"choices": [{"message": {"content": "A *draft*"}}]})
ROME = City(name="Rome", founded=datetime.date(800, 1, 2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ANSWER, "A *draft*"),
        (Response.model_validate({"output": [{"type": "message", "content": [{"text": "Said"}]}]}), "Said"),
        (ROME, '{"name": "Rome", "founded": "0800-01-02"}'),
        ({"city": "Zürich", "sizes": (1, 2.5, None), 3: ROME}, None),
        ([1, [ANSWER], {"a": decimal.Decimal("1.20")}], '[1, ["A *draft*"], {"a": "1.20"}]'),
        (Point(1, {"b", "a"}), '{"x": 1, "tags": ["a", "b"]}'),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02 03:04:00"),
        (datetime.timedelta(hours=1), "1:00:00"),
        (pd.Timestamp("2024-01-02"), "2024-01-02 00:00:00"),
        (decimal.Decimal("1.20"), "1.20"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Grade.GOOD, "good"),
        ({"grade": Grade.GOOD}, '{"grade": "good"}'),
        (np.array([[1, 2], [3, 4]]), "[[1 2]\n [3 4]]"),
        ({"v": np.array([1.5]), "n": np.int64(3)}, '{"v": [1.5], "n": 3}'),
        ({"rows": pd.DataFrame({"a": [1]})}, '{"rows": [{"a": 1}]}'),
        ((), "[]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_cell_gives_can_be_put_into_the_next_prompt(value: Any, text: str | None) -> None:
    """An answer is its text; data is JSON, whatever it holds; dates, decimals and arrays are their text."""
    expected = '{"city": "Zürich", "sizes": [1, 2.5, null], "3": {"name": "Rome", "founded": "0800-01-02"}}'
    assert text_of(value) == (text if text is not None else expected)


def test_data_without_a_json_form_is_refused_by_name() -> None:
    """What is in the way is named, at any depth."""
    circle: list[Any] = []
    circle.append(circle)
    for value, said in (
        ({"a": [object()]}, "-v x: holds a object"),
        (circle, "-v x: has no JSON form"),
        ({(1,): 2}, "x"),
    ):
        with pytest.raises(MagicUsageError, match=said):
            text_of(value)


def test_the_name_of_a_local_variable_is_explained(notebook: Notebook) -> None:
    """A function's own variables are not the notebook's; the message says whose it is and what to do."""
    notebook.run(
        "def ask():\n    city = 'Oslo'\n    get_ipython().run_cell_magic('skytells_chat', '-v city', '{{city}}')"
    )
    ran = notebook.run("ask()")
    assert isinstance(ran.error, MagicUsageError)
    assert "-v city: there is no variable of this name in the notebook; it is local to ask()" in str(ran.error)
    assert "Write `global city` in ask()" in str(ran.error)
    ran = notebook.run(
        "def ask2():\n    Form = 1\n    get_ipython().run_cell_magic('skytells_chat', '--schema Form', 'x')\nask2()"
    )
    assert "--schema Form: there is no variable of this name in the notebook; it is local to ask2()" in str(ran.error)


def test_an_answer_goes_into_the_next_prompt(notebook: Notebook) -> None:
    """-o of one cell is -v of the next, with spaces within the braces or without."""
    assert notebook.run("%%skytells_chat -o draft\nHello there").error is None
    assert notebook.run("%%skytells_chat -v draft -o second\nShorten {{ draft }}: {{draft}}").error is None
    assert str(notebook.shell.user_ns["second"]) == "Shorten Hello there: Hello there"


def test_an_answer_shows_itself_as_its_text(notebook: Notebook) -> None:
    """As the last line of a cell: rendered, and without its fields."""
    notebook.run("%%skytells_chat -o draft\nSay **hi** <script>alert(1)</script>")
    shown = notebook.shell.display_formatter.format(notebook.shell.user_ns["draft"])[0]
    assert "<strong>hi</strong>" in shown["text/html"]
    assert "<script" not in shown["text/html"]
    assert shown["text/plain"] == "Say **hi** <script>alert(1)</script>"
    empty = ChatCompletion.model_validate({"choices": []})
    assert "ChatCompletion(" in notebook.shell.display_formatter.format(empty)[0]["text/plain"]


def test_an_unknown_name_is_an_error() -> None:
    """A name that does not exist is named."""
    with pytest.raises(MagicUsageError, match="-v y: there is no variable of this name"):
        variables_as_text(["y"], {"x": 1})


def test_a_frame_gives_schema_and_rows() -> None:
    """Shape, types, missing values and the rows as CSV."""
    frame = pd.DataFrame({"city": ["Oslo", None], "size": [1, 2]})
    lines = text_of(frame).splitlines()
    assert lines[0] == "2 rows, 2 columns"
    assert lines[1].startswith("- city: ")
    assert lines[1].endswith(", 1 missing")
    assert lines[2] == "- size: int64"
    assert lines[-4] == "all rows:"
    assert lines[-3] == "city,size"
    assert lines[-2] == "Oslo,1"


def test_a_large_frame_is_bounded() -> None:
    """Twenty rows, forty columns and short cells are sent, however large the frame is."""
    frame = pd.DataFrame({f"c{i}": ["x" * 5_000] * 1_000 for i in range(100)})
    text = text_of(frame)
    assert "1,000 rows, 100 columns" in text
    assert f"- and {100 - MAX_COLUMNS} more columns" in text
    assert f"first {MAX_ROWS} rows:" in text
    assert len(text) < (MAX_ROWS + 3) * MAX_COLUMNS * (MAX_CELL_CHARS + 20)
    assert len(text.split("rows:\n")[1].splitlines()) == MAX_ROWS + 1


def test_a_series_is_a_frame_of_one_column() -> None:
    """A Series keeps its name, or takes the variable's."""
    assert "- size: int64" in text_of(pd.Series([1, 2], name="size"))
    assert "- x: int64" in text_of(pd.Series([1, 2]))


def test_a_frame_with_repeated_columns_and_vectors_has_a_text() -> None:
    """Odd frames do not fail: repeated labels, vectors in cells, no rows."""
    odd = pd.DataFrame([[np.zeros(300), 1]], columns=["a", "a"])
    assert "1 rows, 2 columns" in text_of(odd)
    assert "0 rows, 0 columns" in text_of(pd.DataFrame())


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@given(st.text(), st.dictionaries(NAMES, st.text(), max_size=3))
def test_values_are_filled_in_one_pass(text: str, values: dict[str, str]) -> None:
    """Each listed placeholder becomes its value; values that look like placeholders stay as they are."""
    hostile = {name: value + "".join(map(placeholder, values)) for name, value in values.items()}
    if any(placeholder(name) in text for name in values):
        return
    body = text + "\0" + "\0".join(map(placeholder, values))
    assert fill_placeholders(body, hostile) == text + "\0" + "\0".join(hostile.values())


@given(st.text())
def test_a_body_without_variables_is_untouched(body: str) -> None:
    """Braces of any kind are text."""
    assert fill_placeholders(body, {}) == body


def test_other_placeholders_stay() -> None:
    """Only names that were asked for are filled, with spaces beside them or without."""
    body = "{{a}} {{b}} {{ a\t}} {a} {{a.b}} {{{a}}} {{ a b }} { {a} }"
    assert fill_placeholders(body, {"a": "1"}) == "1 {{b}} 1 {a} {{a.b}} {1} {{ a b }} { {a} }"


def test_a_variable_that_the_body_does_not_use_is_an_error() -> None:
    """A forgotten or misspelled placeholder is not sent out silently."""
    with pytest.raises(MagicUsageError, match=r"-v b: the prompt has no \{\{b\}\}"):
        fill_placeholders("{{a}}", {"a": "1", "b": "2"})


PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
GIF = b"GIF89a" + bytes(20)
WEBP = b"RIFF\n\0\0\0WEBPVP8 " + bytes(20)


def data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(("kind", "data"), [("png", PNG), ("jpeg", JPEG), ("gif", GIF), ("webp", WEBP)])
def test_bytes_are_told_by_how_they_begin(kind: str, data: bytes) -> None:
    """The kind comes from the content, not from a name."""
    assert image_url("x", {"x": data}) == image_url("x", {"x": bytearray(data)}) == data_url(kind, data)


def test_files_and_paths_in_variables_are_read(tmp_path: Path) -> None:
    """A path on the line, a Path or a text in a variable."""
    path = tmp_path / "a picture.png"
    path.write_bytes(PNG)
    expected = data_url("png", PNG)
    assert image_url(str(path), {}) == expected
    assert image_url("x", {"x": path}) == image_url("x", {"x": str(path)}) == expected


def test_a_variable_comes_before_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are first of all names."""
    monkeypatch.chdir(tmp_path)
    Path("cat").write_bytes(PNG)
    assert image_url("cat", {"cat": GIF}) == data_url("gif", GIF)
    assert image_url("cat", {}) == data_url("png", PNG)


def test_web_addresses_pass_and_data_urls_are_checked() -> None:
    """The service fetches a web address itself; a data URL is decoded and identified by its content."""
    web = "https://example.org/a.png"
    assert image_url(web, {}) == image_url("x", {"x": web}) == web
    assert image_url("x", {"x": data_url("jpeg", PNG)}) == data_url("png", PNG)


def test_a_pil_image_is_sent_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever PIL's module calls an Image; it is not imported for the question."""

    class Image:
        mode = "RGB"

        def save(self, file: BinaryIO, format: str) -> None:
            assert format == "PNG"
            file.write(PNG)

    module: Any = ModuleType("PIL.Image")
    module.Image = Image
    monkeypatch.setitem(sys.modules, "PIL.Image", module)
    assert image_url("x", {"x": Image()}) == data_url("png", PNG)


def test_pictures_that_pil_made_can_be_read_again() -> None:
    """Whatever its mode, a real one; skipped only where PIL is not installed."""
    pil = pytest.importorskip("PIL.Image", reason="PIL is not installed, so no real picture of it was tried")
    for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "YCbCr", "HSV", "F", "I"):
        picture = pil.new(mode, (5, 3))
        sent = image_url("x", {"x": picture}).removeprefix("data:image/png;base64,")
        read = pil.open(io.BytesIO(base64.b64decode(sent)))
        assert (read.format, read.size) == ("PNG", (5, 3))


def test_a_picture_that_pil_cannot_read_is_named(tmp_path: Path) -> None:
    """PIL reads late: a file that was cut fails only when it is sent."""
    pil = pytest.importorskip("PIL.Image", reason="PIL is not installed, so no real picture of it was tried")
    pil.effect_noise((200, 200), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:9_000])
    with pil.open(tmp_path / "cut.png") as cut, pytest.raises(MagicUsageError, match="--image x: PIL cannot read"):
        image_url("x", {"x": cut})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"<svg onload=alert(1)>", "must be PNG, JPEG, GIF or WebP"),
        (b"", "must be PNG"),
        (PNG + bytes(MAX_BYTES), "20.0 MB is more than 20 MB"),
        ("data:image/png;base64,@@@", "not valid base64"),
        ("/no/such/file.png", "cannot be read"),
        (3, "must be a path, bytes, a URL or a PIL image, got int"),
        ("nul\0byte", "cannot be read"),
    ],
)
def test_what_is_no_picture_is_named_before_anything_is_sent(value: Any, message: str) -> None:
    """Kind, size and place are looked at here."""
    with pytest.raises(MagicUsageError, match=f"--image x: .*{message}") as raised:
        image_url("x", {"x": value})
    assert "\n" not in str(raised.value)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """It is rejected by its size."""
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(MagicUsageError, match="more than 20 MB"):
        image_url(str(path), {})


def test_each_api_gets_its_own_parts(shell: Notebook) -> None:
    """Chat nests the address, Responses does not."""

    def script(exchange: Exchange) -> None:
        if exchange.path.endswith("responses"):
            part = {"type": "output_text", "text": "A cat."}
            exchange.reply({"id": "resp_1", "status": "completed", "output": [{"type": "message", "content": [part]}]})
        else:
            exchange.reply(completion("A cat."))

    shell.shell.user_ns["cat"] = PNG
    with scripted(script) as server:
        for magic in ("chat", "respond"):
            line = f"%%skytells_{magic} --no-stream --image cat --image https://example.org/b.png"
            assert shell.run(f"{line}\nWhat is this?").error is None
        chat, respond = (exchange.json for exchange in server.exchanges)
    assert chat["messages"][-1]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": data_url("png", PNG)}},
        {"type": "image_url", "image_url": {"url": "https://example.org/b.png"}},
    ]
    assert respond["input"][0]["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": data_url("png", PNG)},
        {"type": "input_image", "image_url": "https://example.org/b.png"},
    ]
