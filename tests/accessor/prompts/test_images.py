"""Images of rows: validated before anything is sent, sent whole, counted as images."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving import Exchange, serving

import skytells_nb as sky
from skytells_nb.client.images import MAX_BYTES, Image, load_image
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.local.server import LocalServer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(60))
GIF = b"GIF89a" + bytes(30)
WEB = "https://example.org/cat.png"


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cat.png").write_bytes(PNG)
    (tmp_path / "words.txt").write_text("not an image")
    return tmp_path


def urls(message: Any) -> list[str]:
    return [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]


def test_every_kind_of_image_is_a_part_of_its_rows_message(folder: Path, server: LocalServer) -> None:
    cells = [str(folder / "cat.png"), folder / "cat.png", PNG, bytearray(GIF), data_url(PNG), WEB]
    preview = pd.DataFrame({"pic": cells}).skytells.preview("What is it?", 9, images="pic", images_from=folder)
    found = [urls(message) for (message,) in preview]
    # The same bytes are one request, wherever they come from.
    assert found == [[data_url(PNG)], [data_url(GIF, "gif")], [WEB]]


def test_what_is_sent_holds_the_image(folder: Path) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.reply({"choices": [{"message": {"content": "a cat"}, "finish_reason": "stop"}]})

    frame = pd.DataFrame({"pic": [str(folder / "cat.png")], "what": ["animal"]})
    with serving(answer) as service, sky.connect("sk-x", base_url=service.url, cache=folder / "c.sqlite"):
        seen = frame.skytells.preview("Which {what}?", images="pic", images_from=folder)
        out = frame.skytells.complete("Which {what}?", images="pic", images_from=str(folder), progress=False)
        (body,) = [exchange.json for exchange in service.exchanges if exchange.path.endswith("/chat/completions")]
    assert out["completion"].tolist() == ["a cat"]
    assert body["messages"] == seen[0]
    assert urls(body["messages"][0]) == [data_url(PNG)]
    assert body["messages"][0]["content"][0] == {"type": "text", "text": "Which animal?"}


def test_columns_and_lists_of_images_follow_each_other(server: LocalServer) -> None:
    frame = pd.DataFrame({"one": [PNG, PNG], "more": [[GIF, WEB], []]})
    preview = frame.skytells.preview("Compare.", images=["one", "more"])
    assert [urls(message) for (message,) in preview] == [[data_url(PNG), data_url(GIF, "gif"), WEB], [data_url(PNG)]]


def test_a_missing_image_makes_the_row_missing(server: LocalServer) -> None:
    frame = pd.DataFrame({"pic": [PNG, None, pd.NA]})
    out = frame.skytells.complete("What is it?", images="pic", progress=False)
    assert out["completion"].isna().tolist() == [False, True, True]
    assert out.skytells.report.nulls == 2


def test_an_image_that_cannot_be_sent_is_an_error_of_its_row(folder: Path, server: LocalServer) -> None:
    cells = [PNG, str(folder / "none.png"), str(folder / "words.txt"), 5, "data:image/png;base64,%%%"]
    frame = pd.DataFrame({"pic": cells}, dtype=object)
    with pytest.warns(SkytellsWarning, match="4 of 5 rows failed and are missing"):
        out = frame.skytells.complete("What is it?", images="pic", images_from=folder, details=True, progress=False)
    report = out.skytells.report
    assert (server.stats["chat"].requests, report.failed, report.nulls, report.answered) == (1, 4, 0, 1)
    messages = [str(report.errors[row]) for row in range(1, 5)]
    assert "No such file" in messages[0]
    assert [text.split(";")[0] for text in messages[1:]] == [
        "an image must be PNG, JPEG, GIF or WebP, got something else",
        "an image must be a path, bytes, a URL or a PIL image, got int",
        "the data URL is not valid base64",
    ]
    assert out["completion_error"].notna().tolist() == [False, True, True, True, True]


def test_nothing_is_sent_for_a_bad_image_where_errors_raise(server: LocalServer) -> None:
    with pytest.raises(InputError, match="Row 1 cannot be sent"):
        pd.DataFrame({"p": [PNG, b"x"]}).skytells.complete("?", images="p", on_error="raise", progress=False)
    assert server.stats["chat"].requests == 0


def test_an_image_that_is_too_large_is_rejected_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(PNG)
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=r"20\.0 MB is more than 20 MB"):
        load_image(tmp_path / "large.png")


def test_a_file_that_changed_before_it_was_sent_is_not_sent(folder: Path) -> None:
    """Its answer would be cached under the key of another image."""
    made = load_image(folder / "cat.png")
    assert isinstance(made, Image)
    (folder / "cat.png").write_bytes(GIF)
    with pytest.raises(InputError, match="has changed"):
        made.url  # noqa: B018


def test_an_image_of_a_file_holds_no_bytes(folder: Path) -> None:
    made = load_image(folder / "cat.png")
    assert isinstance(made, Image)
    assert made.source == folder / "cat.png"


def test_pil_images_are_sent_as_png(server: LocalServer) -> None:
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    frame = pd.DataFrame({"pic": [pil.new("RGB", (4, 4), "red")]}, dtype=object)
    ((message,),) = frame.skytells.preview("What is it?", images="pic")
    assert urls(message)[0].startswith("data:image/png;base64,")


def test_a_pil_image_that_was_cut_is_an_error_of_its_row(tmp_path: Path, server: LocalServer) -> None:
    """PIL reads lazily."""
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pil.effect_noise((200, 200), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:9_000])
    with pil.open(tmp_path / "cut.png") as cut:
        preview = pd.DataFrame({"pic": [cut]}, dtype=object).skytells.preview("What is it?", images="pic")
    assert "PIL cannot read" in repr(preview)


def test_an_estimate_counts_images_and_not_their_bytes(server: LocalServer) -> None:
    small, large = (pd.DataFrame({"pic": [PNG + bytes(size)]}) for size in (0, 1_000_000))
    tokens = [frame.skytells.estimate("What?", images="pic").tokens_in for frame in (small, large)]
    assert tokens[0] == tokens[1]
    assert 700 < tokens[0] < 1_000


def test_data_in_messages_of_a_function_is_counted_as_an_image(server: LocalServer) -> None:
    url = data_url(PNG + bytes(1_000_000))
    frame = pd.DataFrame({"n": [1]})

    def ask(row: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    assert frame.skytells.estimate(ask).tokens_in < 1_000
    assert urls(frame.skytells.preview(ask)[0][0]) == [url]


@pytest.mark.parametrize(
    ("images", "what"),
    [("nope", "There is no column 'nope'"), ([], "images must be a column of images"), (["p", "q"], "'q'")],
)
def test_missing_columns_are_reported(server: LocalServer, images: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        pd.DataFrame({"p": [PNG]}).skytells.complete("?", images=images, progress=False)


def test_images_load_without_importing_pil(folder: Path) -> None:
    loaded = "PIL.Image" in sys.modules
    load_image(folder / "cat.png")
    assert ("PIL.Image" in sys.modules) == loaded


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures, in a folder and with a home that have pictures too."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    (tmp_path / "pictures-of-others").mkdir()
    for path in (
        root / "a.png",
        root / "more" / "b.png",
        tmp_path / "own.png",
        tmp_path / "pictures-of-others" / "c.png",
    ):
        path.write_bytes(PNG)
    (root / "inside.png").symlink_to(root / "more" / "b.png")
    (root / "outside.png").symlink_to(tmp_path / "own.png")
    (root / "others").symlink_to(tmp_path / "pictures-of-others")
    os.mkfifo(root / "pipe.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(root)
    return root


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", [str, Path])
def test_cells_name_files_below_the_folder_alone(places: Path, kind: type, server: LocalServer) -> None:
    """Cells are data: their author does not decide which picture of this user leaves the machine."""
    inside = ["a.png", "more/b.png", "./a.png", "more/../a.png", "inside.png", str(places / "a.png")]
    outside = ["../own.png", "~/own.png", str(places.parent / "own.png"), "outside.png", "others/c.png", "/dev/zero"]
    outside += ["../pictures-of-others/c.png", str(places.parent / "pictures-of-others" / "c.png"), "pipe.png", "more"]
    outside += ["/etc/passwd", "/proc/self/environ", "a.png\0", "x" * 5000, "file:///etc/passwd", "\\\\host\\own.png"]
    for images_from in (None, places, "../pictures"):
        frame = pd.DataFrame({"pic": [kind(name) for name in [*inside, *outside]]}, dtype=object).assign(n=range(22))
        preview = frame.skytells.preview("What is {n}?", len(frame), images="pic", images_from=images_from)
        assert [urls(message) for (message,) in preview if message] == [[data_url(PNG)]] * len(inside)
        assert sorted(preview.problems) == list(range(len(inside), len(frame)))
    reasons = {name: str(preview.problems[row]) for row, name in enumerate(outside, len(inside))}
    assert "must be a URL or a file below" in reasons["../own.png"]
    assert "images_from=" in reasons["outside.png"]
    assert "must be a regular file, got a pipe" in reasons["pipe.png"]
    assert "must be a regular file, got a folder" in reasons["more"]
    # Whether a file exists elsewhere is not said.
    nowhere = pd.DataFrame({"pic": ["../none.png"]}).skytells.preview("What?", images="pic")
    assert "must be a URL or a file below" in str(nowhere.problems[0])


@pytest.mark.parametrize("images_from", ["none", "a.png", 5, "\0", "x" * 5000])
def test_the_folder_of_images_must_exist(images_from: Any, folder: Path, server: LocalServer) -> None:
    with pytest.raises(InputError, match="images_from must be the path of a folder"):
        pd.DataFrame({"p": [PNG]}).skytells.complete("?", images="p", images_from=images_from, progress=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_users_own_path_is_a_regular_file_anywhere(places: Path) -> None:
    assert isinstance(load_image("~/own.png"), Image)
    for path in (places / "pipe.png", "/dev/zero", "/dev/null", places):
        with pytest.raises(InputError, match="regular file"):
            load_image(path)
