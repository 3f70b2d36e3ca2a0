"""Records that processes exchange through files; with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from skytells_nb.cache.peers import FolderPeers, machine_peers

TOPIC, OTHER_TOPIC = b"t" * 16, b"u" * 16
ONE, TWO = b"1" * 16, b"2" * 16
CHILD = """
import sys
from pathlib import Path
from skytells_nb.cache.peers import FolderPeers
peers = FolderPeers(Path(sys.argv[1]))
peers.exchange(b"t" * 16, b"c" * 16, b"child", 60.0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_each_sees_the_last_record_of_the_others_under_its_topic(tmp_path: Path) -> None:
    peers = FolderPeers(tmp_path / "peers")
    assert not peers.watch(TOPIC)()
    assert peers.exchange(TOPIC, ONE, b"first", 60.0) == {}
    assert peers.exchange(TOPIC, ONE, b"one", 60.0) == {}
    assert peers.watch(TOPIC)()
    assert FolderPeers(tmp_path / "peers").exchange(TOPIC, TWO, b"two", 60.0) == {ONE: b"one"}
    assert peers.exchange(OTHER_TOPIC, ONE, b"else", 60.0) == {}
    peers.leave(TOPIC, TWO)
    assert peers.exchange(TOPIC, ONE, b"one", 60.0) == {}
    peers.leave(TOPIC, ONE)
    assert not peers.watch(TOPIC)()
    peers.leave(TOPIC, ONE)


def test_the_record_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    """Within the time that it is given, half an hour after the fact or not: the process is asked for."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    peers = FolderPeers(tmp_path)
    threading.Event().wait(0.6)
    assert peers.exchange(TOPIC, ONE, b"one", 600.0) == {b"c" * 16: b"child"}
    child.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    child.wait()
    assert peers.exchange(TOPIC, ONE, b"one", 600.0) == {}


def test_a_record_that_was_not_replaced_in_time_is_left_out(tmp_path: Path) -> None:
    peers = FolderPeers(tmp_path)
    peers.exchange(TOPIC, TWO, b"two", 60.0)
    (record,) = (tmp_path / TOPIC.hex()).iterdir()
    os.utime(record, (time.time() - 5, time.time() - 5))
    assert peers.exchange(TOPIC, ONE, b"one", 60.0) == {TWO: b"two"}
    assert peers.exchange(TOPIC, ONE, b"one", 3.0) == {}
    os.utime(record, (time.time() - 3600, time.time() - 3600))
    assert peers.exchange(TOPIC, ONE, b"one", 7200.0) == {}
    assert not record.exists()


def test_topics_whose_processes_were_killed_do_not_stay(tmp_path: Path) -> None:
    peers = FolderPeers(tmp_path)
    peers.exchange(OTHER_TOPIC, TWO, b"two", 60.0)
    folder = tmp_path / OTHER_TOPIC.hex()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    peers.exchange(TOPIC, ONE, b"one", 60.0)
    assert not peers.watch(OTHER_TOPIC)()


@pytest.mark.skipif(os.name == "nt", reason="the folder of temporary files is the user's own there")
def test_the_folder_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "peers"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    FolderPeers(folder).exchange(TOPIC, ONE, b"one", 60.0)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (record,) = (folder / TOPIC.hex()).iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="making a link needs a privilege there")
def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "peers").symlink_to(elsewhere)
    assert FolderPeers(tmp_path / "peers").exchange(TOPIC, ONE, b"one", 60.0) == {}
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("what", ["a file", "a file in place of the topic", "a file without end", "no such folder"])
def test_a_folder_that_cannot_be_used_leaves_a_process_alone(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "peers"
    if what == "a file":
        folder.write_text("x")
    elif what == "no such folder":
        folder = tmp_path / "none" / "peers"
    else:
        folder.mkdir()
        if what == "a file in place of the topic":
            (folder / TOPIC.hex()).write_text("x")
        else:
            (folder / TOPIC.hex()).mkdir()
            with (folder / TOPIC.hex() / f"{TWO.hex()}.peer").open("wb") as file:
                file.truncate(1 << 34)
    peers = FolderPeers(folder)
    assert len(peers.exchange(TOPIC, ONE, b"one", 60.0).get(TWO, b"")) < 10_000
    peers.leave(TOPIC, ONE)


def test_the_runtime_folder_is_used_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert machine_peers().folder == tmp_path / "skytells-nb"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    assert tmp_path not in machine_peers().folder.parents


@pytest.mark.skipif(sys.platform == "win32", reason="users there have no number, and temporary folders of their own")
def test_without_a_runtime_folder_each_user_has_one_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for all users would belong to the first, and the others could not write into it."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert machine_peers().folder == tmp_path / f"skytells-nb-{os.getuid()}"
