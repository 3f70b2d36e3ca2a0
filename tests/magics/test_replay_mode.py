"""Replay mode: a session that is answered by a recording, and by nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import pandas as pd
import pytest
from magic_service import KEY, Notebook, Ran
from nbclient import NotebookClient

import skytells_nb as sky
import skytells_nb.session as sessions
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import CacheError, MissingKeyError, ReplayMissError
from skytells_nb.local import LocalServer
from skytells_nb.session import Session

CELLS = (
    "print(frame.skytells.embed('text', progress=False))",
    "print(frame.skytells.complete('Say {text}', progress=False, cache='other.sqlite'))",
    "%%skytells_chat --cache\nHello **there**",
    "%%skytells_respond --cache\nHello **again**",
)


@dataclass
class Recorded:
    """A recording, and the address of its service, where a listener never answers."""

    path: Path
    base_url: str
    listener: socket.socket
    shown: list[Any]

    def received_no_request(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            return False
        return True


def shown(ran: Ran) -> Any:
    assert ran.error is None, ran.error
    return ran.stdout or ran.outputs[0].data["text/plain"]


@pytest.fixture
def recorded(
    server: LocalServer, shell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Recorded]:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shell.shell.user_ns["frame"] = pd.DataFrame({"text": ["one", "two", "one", None]})
    base_url = server.base_url
    with sessions.connect(KEY, base_url=base_url, cache="memory"):
        before = [shown(shell.run(cell)) for cell in CELLS]
        assert shell.run("%skytells cache export tutorial.sqlite").error is None
    sessions.reset()
    server.stop()
    (folder / "other.sqlite").unlink()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", urlsplit(base_url).port))
        listener.listen()
        listener.setblocking(False)
        yield Recorded(folder / "tutorial.sqlite", base_url, listener, before)
        sessions.reset()


@pytest.fixture
def replayed(recorded: Recorded, shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A shell with nothing but the environment: the address of then and the recording, no key."""
    monkeypatch.setenv("SKYTELLS_BASE_URL", recorded.base_url)
    monkeypatch.setenv("SKYTELLS_CACHE", "replay:tutorial.sqlite")
    return shell


def test_a_notebook_gives_what_was_recorded_without_key_and_network(recorded: Recorded, replayed: Notebook) -> None:
    """Columns, cells, and calls that named a cache of their own: the same outputs as when they were recorded."""
    assert [shown(replayed.run(cell)) for cell in CELLS] == recorded.shown
    assert sky.current().totals.requests == 0
    assert recorded.received_no_request()
    assert not Path("other.sqlite").exists()


def test_a_chat_cell_needs_no_option_to_be_answered(recorded: Recorded, replayed: Notebook) -> None:
    """What was recorded with --cache is found without it."""
    assert shown(replayed.run("%%skytells_chat -o reply\nHello **there**")).startswith("Hello **there**")
    assert replayed.shell.user_ns["reply"].text == "Hello **there**"
    assert recorded.received_no_request()


def test_a_chat_cell_that_was_not_recorded_fails_and_says_why(recorded: Recorded, replayed: Notebook) -> None:
    """The file, both ways on, and which cells a recording holds."""
    ran = replayed.run("%%skytells_chat\nSomething else")
    assert isinstance(ran.error, ReplayMissError)
    assert ran.outputs == []
    text = "\n".join(ran.error._render_traceback_())
    for said in (str(recorded.path), "%skytells cache export", "leave replay mode", "--cache"):
        assert said in text
    assert recorded.received_no_request()


def test_a_respond_cell_that_was_cached_is_answered(recorded: Recorded, replayed: Notebook) -> None:
    assert shown(replayed.run("%%skytells_respond -o reply\nHello **again**")).startswith("Hello **again**")
    assert replayed.shell.user_ns["reply"].output_text == "Hello **again**"
    assert recorded.received_no_request()


@pytest.mark.parametrize("options", ["", " --conversation c", " --store"])
def test_a_respond_cell_that_was_not_recorded_says_why(recorded: Recorded, replayed: Notebook, options: str) -> None:
    """Conversations live with the service; nothing is sent, and the error names what a recording holds."""
    ran = replayed.run(f"%%skytells_respond{options}\nHello **there**")
    assert isinstance(ran.error, ReplayMissError)
    assert "cells with --cache" in "\n".join(ran.error._render_traceback_())
    assert recorded.received_no_request()


CALLS: list[Callable[[Session], object]] = [
    lambda s: s.client.chat.completions.create(model="m", messages="Hello"),
    lambda s: list(s.client.chat.completions.create(model="m", messages="Hello", stream=True)),
    lambda s: s.client.responses.create(model="m", input="Hello"),
    lambda s: s.client.embeddings.create(model="m", input=["one"]),
    lambda s: s.client.models.list(),
    lambda s: s.models(),
    lambda s: pd.DataFrame({"text": ["new"]}).skytells.embed("text", progress=False),
    lambda s: pd.DataFrame({"text": ["new"]}).skytells.embed("text", progress=False, cache="off"),
    lambda s: pd.DataFrame({"text": ["new"]}).skytells.complete("{text}", progress=False, on_error="null"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.usefixtures("replayed")
def test_what_would_send_is_an_error_before_any_socket(
    call: Callable[[Session], object], key: str | None, recorded: Recorded
) -> None:
    """With a key as without one: the error names the recording and both ways on."""
    with sky.connect(key) as session, pytest.raises(ReplayMissError) as caught:
        call(session)
    for said in (str(recorded.path), "%skytells cache export", "leave replay mode"):
        assert said in str(caught.value)
    assert KEY not in repr(caught.value)
    assert recorded.received_no_request()


def test_an_estimate_works_in_replay(recorded: Recorded, replayed: Notebook) -> None:
    """It sends nothing: what is recorded is cached, all else would be sent."""
    replayed.run("known = frame.skytells.estimate('Say {text}').cached")
    replayed.run("new = frame.skytells.estimate('Sing {text}').cached")
    assert (replayed.shell.user_ns["known"], replayed.shell.user_ns["new"]) == (2, 0)
    assert recorded.received_no_request()


def test_the_status_says_that_it_is_replay_and_how_to_leave(recorded: Recorded, replayed: Notebook) -> None:
    """Connection, file and how to leave replay; no key is requested."""
    text = shown(replayed.run("%skytells"))
    assert "tutorial.sqlite" in text
    assert "nothing is sent" in text
    assert "%env SKYTELLS_CACHE=, then %skytells connect" in text
    assert "not needed" in text
    assert str(recorded.path.parent) not in text


def test_the_way_out_leads_out(replayed: Notebook) -> None:
    """After it a key is asked for, as anywhere else."""
    replayed.run("%skytells")
    replayed.run("%env SKYTELLS_CACHE=")
    assert isinstance(replayed.run("%skytells connect").error, MissingKeyError)


def test_cache_replay_connects_the_session_of_now_to_the_recording(recorded: Recorded, shell: Notebook) -> None:
    """Address and models stay the same; the table names the source of answers and how to leave."""
    with sessions.connect(KEY, base_url=recorded.base_url, model="gpt-5", cache="memory", max_in_flight=3):
        text = shown(shell.run("%skytells cache replay tutorial.sqlite"))
        session = sky.current()
    assert "tutorial.sqlite" in text
    assert "%skytells connect" in text
    assert session.recording == recorded.path
    assert (session.settings.model, session.settings.max_in_flight) == ("gpt-5", 3)
    assert shown(shell.run(CELLS[0])) == recorded.shown[0]
    assert recorded.received_no_request()


@pytest.mark.parametrize("name", ["missing.sqlite", ".", "notes.txt", "cut.sqlite", "stranger.sqlite"])
def test_a_recording_that_cannot_be_used_leaves_the_session_as_it_was(
    name: str, recorded: Recorded, shell: Notebook
) -> None:
    """Missing, a folder, text, cut short, a database of something else: one line that names it."""
    Path("notes.txt").write_text("not a recording " * 100)
    Path("cut.sqlite").write_bytes(recorded.path.read_bytes()[:50_000])
    subprocess.run(
        [sys.executable, "-c", "import sqlite3; sqlite3.connect('stranger.sqlite').execute('create table t(x)')"]
    )
    with sessions.connect(KEY, base_url=recorded.base_url, cache="memory") as session:
        error = shell.run(f"%skytells cache replay {name}").error
        assert isinstance(error, CacheError)
        assert str(Path(name).absolute()) in str(error)
        assert "\n" not in str(error)
        assert sky.current() is session


def test_a_session_in_replay_can_be_exported_too(recorded: Recorded, replayed: Notebook) -> None:
    """The smaller recording holds what was used since, byte for byte what the first one gave."""
    replayed.run(CELLS[0])
    replayed.run("%%skytells_chat\nSomething else")
    assert "answers       2" in shown(replayed.run("%skytells cache export smaller.sqlite"))
    replayed.run("%skytells cache replay smaller.sqlite")
    assert shown(replayed.run(CELLS[0])) == recorded.shown[0]
    assert isinstance(replayed.run(CELLS[1]).error, ReplayMissError)


def test_a_recording_is_not_pruned(recorded: Recorded, replayed: Notebook) -> None:
    before = recorded.path.read_bytes()
    assert isinstance(replayed.run("%skytells cache prune --max-bytes 0").error, CacheError)
    assert recorded.path.read_bytes() == before


def test_a_recording_of_the_service_needs_no_key(shell: Notebook, tmp_path: Path) -> None:
    """Without a setting but the recording, answers of the public address are found."""
    with sessions.connect(KEY, cache="memory") as session:
        job = completion_job(session.settings.model)
        session.engine.store(job, "Hello", CachedCompletion("From the service.").to_bytes())
        session.export(tmp_path / "service.sqlite")
    sessions.reset()
    sky.connect(cache=f"replay:{tmp_path / 'service.sqlite'}")
    assert shown(shell.run("%%skytells_chat\nHello")).startswith("From the service.")


LOCAL = """
import sys
import skytells_nb as sky

def replay(**how):
    with sky.connect(**how) as session:
        from skytells_nb.engine.operations.jobs import completion_job
        assert session.is_local, session
        assert session.engine.load_cached(completion_job(session.settings.model), "Hello") == b"kept"
        print(session.origin, *sorted(name for name in sys.modules if name.startswith("skytells_nb.local")))

if sys.argv[1] == "environment":
    replay()
else:
    replay(local=True, cache=sys.argv[1])
"""


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_recording_of_the_local_models_needs_neither_server_nor_models(way: str, tmp_path: Path) -> None:
    """Not one module of the local Skytells is loaded."""
    recording = tmp_path / "local.sqlite"
    with sky.connect(local=True, cache="memory") as session:
        session.engine.store(completion_job(session.settings.model), "Hello", b"kept")
        session.export(recording)
    replay = f"replay:{recording}"
    environment = {"SKYTELLS_BASE_URL": "local", "SKYTELLS_CACHE": replay} if way == "environment" else {}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL, replay if way == "argument" else way],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("local\n", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fresh_kernel_replays_what_another_recorded(server: LocalServer, tmp_path: Path) -> None:
    """The first has key and service; the second has the file alone, and shows the same."""
    cells = (
        "import pandas as pd\nimport skytells_nb\n%load_ext skytells_nb",
        "frame = pd.DataFrame({'text': ['one', 'two', 'one', None]})\nframe.skytells.embed('text', progress=False)",
        "frame.skytells.complete('Say {text}', progress=False)",
        "%%skytells_chat --cache -o reply\nHello **there**",
        "reply.text, reply.usage.total_tokens",
    )
    online = {
        "SKYTELLS_API_KEY": KEY,
        "SKYTELLS_BASE_URL": server.base_url,
        "SKYTELLS_CACHE": str(tmp_path / "answers.sqlite"),
    }
    offline = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_CACHE": "replay:tutorial.sqlite"}

    first = kernel((*cells, "%skytells cache export tutorial.sqlite"), online, tmp_path)
    asked = server.stats["chat"].requests
    server.stop()
    second = kernel(cells, offline, tmp_path)

    assert asked == 3
    assert len(second[3]) == 1
    assert second == first[: len(cells)]


def kernel(cells: tuple[str, ...], settings: dict[str, str], folder: Path) -> list[Any]:
    """The outputs of the cells in a kernel of their own."""
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=90, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    with client.setup_kernel(env={**os.environ, **settings}):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    return [cell.outputs for cell in notebook.cells]
