"""%skytells cache in a real shell: what the cache holds, and recordings of what a notebook used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from magic_service import KEY, Notebook, Ran

import skytells_nb.session as sessions
from skytells_nb.cache import ReplayStore
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import CacheError
from skytells_nb.local import LocalServer
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.command_arguments import cache_options, parse_cache_line
from skytells_nb.magics.completer import complete_command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's folder."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cells(shell: Notebook, server: LocalServer, here: Path) -> Iterator[Notebook]:
    """A shell that is connected, with a cache in a file."""
    first = sessions.connect(KEY, base_url=server.base_url, cache=here / "answers.sqlite", max_retries=0)
    shell.shell.user_ns["frame"] = pd.DataFrame({"text": ["one", "two", "one", None]})
    yield shell
    first.close()
    sessions.reset()


def rows(ran: Ran) -> dict[str, list[str]]:
    """The table that a cell shows: the other cells of each row by its first."""
    assert ran.error is None, ran.error
    lines = ran.outputs[0].data["text/plain"].splitlines()[2:]
    return {first: rest for first, *rest in ([cell.strip() for cell in line.split("  ") if cell] for line in lines)}


def recorded(path: Path) -> int:
    store = ReplayStore(path)
    try:
        return store.stats().entries
    finally:
        store.close()


def test_it_says_what_each_cache_of_the_session_holds(cells: Notebook) -> None:
    """File, answers, bytes, and what this session found there and did not find."""
    cells.run("frame.skytells.embed('text', progress=False)")
    cells.run("frame.skytells.embed('text', progress=False)")
    cells.run("frame.skytells.embed('text', progress=False, cache='memory')")
    assert rows(cells.run("%skytells cache")) == {
        "answers.sqlite": ["2", "32", "2", "2"],
        "memory": ["2", "32", "0", "2"],
    }


def test_an_export_holds_what_the_notebook_used_and_no_more(cells: Notebook, here: Path) -> None:
    """Rows, prompts and cells with --cache, read or asked; what others put into the same cache stays out."""
    cells.run("frame.skytells.embed('text', progress=False)")
    sessions.connect(KEY, base_url=sessions.current().client.base_url, cache=here / "answers.sqlite")
    cells.run("frame[:1].skytells.embed('text', progress=False)")
    cells.run("frame.skytells.complete('Say {text}', progress=False)")
    cells.run("%%skytells_chat --cache\nHello there")
    cells.run("%%skytells_chat\nNot kept")
    shown = rows(cells.run("%skytells cache export tutorial.sqlite"))
    assert shown["answers"] == ["4"]
    assert shown["bytes"] == [f"{(here / 'tutorial.sqlite').stat().st_size:,}"]
    assert recorded(here / "tutorial.sqlite") == 4


def test_answers_of_every_cache_that_a_call_named_are_exported(cells: Notebook, here: Path) -> None:
    """A call's cache= does not keep its answers out of the recording."""
    cells.run("frame.skytells.embed('text', progress=False, cache='other.sqlite')")
    cells.run("frame[1:2].skytells.embed('text', progress=False, dimensions=3, cache='memory')")
    cells.run("frame[:1].skytells.complete('Say {text}', progress=False)")
    assert rows(cells.run("%skytells cache export tutorial.sqlite"))["answers"] == [
        str(recorded(here / "tutorial.sqlite"))
    ]
    assert recorded(here / "tutorial.sqlite") >= 3


def test_an_export_replaces_nothing_unless_it_is_told_to(cells: Notebook, here: Path) -> None:
    """And with --force a recording only: neither a cache with paid answers nor any other file."""
    cells.run("frame.skytells.embed('text', progress=False)")
    cells.run("%skytells cache export tutorial.sqlite")
    cells.run("%%skytells_chat --cache\nHello there")
    refused = cells.run("%skytells cache export tutorial.sqlite")
    assert isinstance(refused.error, CacheError)
    assert "--force" in str(refused.error)
    assert recorded(here / "tutorial.sqlite") == 2
    assert rows(cells.run("%skytells cache export tutorial.sqlite --force"))["answers"] == ["3"]

    (here / "notes.txt").write_text("precious")
    for name in ("notes.txt", "answers.sqlite"):
        assert "was not changed" in str(cells.run(f"%skytells cache export {name} --force").error)
    assert (here / "notes.txt").read_text() == "precious"
    assert rows(cells.run("%skytells cache"))["answers.sqlite"][0] == "3"


@pytest.mark.parametrize("used", [False, True])
def test_an_export_of_nothing_is_an_error_and_leaves_no_file(cells: Notebook, here: Path, used: bool) -> None:
    """The message distinguishes an unused cache from one that is off, and says what to do."""
    if used:
        sessions.connect(KEY, base_url=sessions.current().client.base_url, cache="off")
        cells.run("frame.skytells.embed('text', progress=False)")
    ran = cells.run("%skytells cache export tutorial.sqlite")
    assert isinstance(ran.error, CacheError)
    assert ("connect with a normal cache" if used else "No response was used yet") in str(ran.error)
    assert not [file for file in here.iterdir() if "tutorial" in file.name]


def test_answers_that_no_cache_kept_are_said_to_be_missing(cells: Notebook) -> None:
    """A recording that cannot answer the whole notebook does not look as if it could."""
    cells.run("frame.skytells.embed('text', progress=False)")
    assert "not included" not in rows(cells.run("%skytells cache export whole.sqlite"))
    cells.run("%skytells cache prune --max-bytes 16")
    assert rows(cells.run("%skytells cache export pruned.sqlite"))["not included"][0].startswith("1 answers")
    cells.run("frame.skytells.complete('Say {text}', progress=False, cache='off')")
    cells.run("frame.skytells.embed('text', progress=False)")
    assert "cache='off'" in rows(cells.run("%skytells cache export off.sqlite"))["not included"][0]


@pytest.mark.parametrize("server", ["status=503"], indirect=True)
def test_rows_that_failed_are_said_beside_the_recording(cells: Notebook) -> None:
    """Their answers are in no cache, so replay would stop there."""
    cells.run("frame.skytells.embed('text', progress=False, on_error='null')")
    kept = completion_job(sessions.current().settings.model)
    sessions.current().engine.store(kept, "Hello there", CachedCompletion("Hello").to_bytes())
    assert rows(cells.run("%skytells cache export tutorial.sqlite"))["failed"][0].startswith("3 rows; ")


def test_prune_removes_the_oldest_of_the_sessions_cache(cells: Notebook) -> None:
    """By bytes, by age, and never without a limit."""
    cells.run("frame.skytells.embed('text', progress=False)")
    assert isinstance(cells.run("%skytells cache prune").error, MagicUsageError)
    assert rows(cells.run("%skytells cache prune --older-than 1"))["removed"] == ["0 answers"]
    assert rows(cells.run("%skytells cache prune --max-bytes 16"))["left"] == ["1 answers, 16 bytes"]


def test_a_path_with_a_space_is_quoted_like_in_a_shell(cells: Notebook, here: Path) -> None:
    """The command to replay it can be copied unchanged."""
    cells.run("frame.skytells.embed('text', progress=False)")
    shown = rows(cells.run("%skytells cache export 'my tutorial.sqlite'"))
    assert (here / "my tutorial.sqlite").is_file()
    line = shown["to replay it"][0].partition(", or ")[0]
    assert rows(cells.run(line))["answers come from"] == ["my tutorial.sqlite"]


@pytest.mark.parametrize(
    "line", ["burn", "export", "replay", "prune", "export a b", "prune --max-bytes few", "prune --older-than -1", "'x"]
)
def test_a_line_that_cannot_be_read_says_so_in_one_line(line: str, cells: Notebook) -> None:
    """A usage error, and nothing is done."""
    with pytest.raises(MagicUsageError) as caught:
        parse_cache_line(line)
    assert "\n" not in str(caught.value)
    assert isinstance(cells.run(f"%skytells cache {line}").error, MagicUsageError)


@pytest.mark.parametrize("word", ["", *cache_options()])
def test_every_word_explains_itself(word: str, cells: Notebook) -> None:
    """-h prints what it does and its options, and does nothing."""
    ran = cells.run(f"%skytells cache {word} -h")
    assert ran.error is None
    assert ran.outputs == []
    for option in cache_options(word or "stats"):
        assert option in ran.stdout


def candidates(line: str) -> list[str]:
    symbol = line.rpartition(" ")[2]
    event = SimpleNamespace(text_until_cursor=line, symbol=symbol, line=line, command="")
    return [name for name in complete_command(None, event) if name.startswith(symbol)]


def test_words_options_and_recordings_complete(here: Path) -> None:
    """After cache its words, after a word its options, after export and replay the files that are here."""
    (here / "tutorial.sqlite").touch()
    (here / "notes.txt").touch()
    assert candidates("%skytells ca") == ["cache"]
    assert candidates("%skytells cache ex") == ["export"]
    assert candidates("%skytells cache replay t") == ["tutorial.sqlite"]
    assert candidates("%skytells cache replay n") == []
    assert candidates("%skytells cache export x.sqlite --f") == ["--force"]
    assert candidates("%skytells cache prune --") == ["--older-than", "--max-bytes", "--compact", "--help"]
