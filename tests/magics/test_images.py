"""Pictures beside a prompt."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import pytest
from magic_service import Notebook, completion, scripted
from serving import Exchange

from skytells_nb.client.images import MAX_BYTES
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.variables import image_url

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
    """The service fetches an address itself; a data URL is decoded and told by its content."""
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
    """Its size is enough to say no."""
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
