"""Several processes on one file, and processes that are killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skytells_nb.cache import SqliteStore


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# A quarter of each group is the same for all processes.
SHARE = """
import sys
from skytells_nb.cache import SqliteStore
path, me = sys.argv[1], int(sys.argv[2])
store = SqliteStore(path)
for group in range(20):
    numbers = [*range(group * 10, group * 10 + 10), *range(10_000 * me + group * 30, 10_000 * me + group * 30 + 30)]
    store.put_many([(n.to_bytes(32, "big"), n.to_bytes(4, "big") * 500) for n in numbers])
    assert None not in store.get_many([n.to_bytes(32, "big") for n in numbers])
print(store.stats().stored)
store.close()
"""


OFTEN = "import skytells_nb.cache.sqlite.index as index\nindex.MAX_RECENT = 50\n"
"""The small index is merged into the large one often."""


@pytest.mark.parametrize("first", ["", OFTEN])
def test_four_processes_share_one_file(tmp_path: Path, first: str) -> None:
    """Every response is stored once, though all four start without a file."""
    path = tmp_path / "answers.sqlite"
    processes = [start(first + SHARE, path, me) for me in range(1, 5)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, outputs, strict=True)] == [
        (0, "")
    ] * 4
    numbers = [*range(200), *(10_000 * me + n for me in range(1, 5) for n in range(600))]
    store = SqliteStore(path)
    assert store.get_many([key(n) for n in numbers]) == [n.to_bytes(4, "big") * 500 for n in numbers]
    assert store.stats().entries == len(numbers) == sum(int(output) for output, _ in outputs)
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_four_processes_set_one_damaged_file_aside_once(tmp_path: Path) -> None:
    """None of them takes the new file of another for the damaged one."""
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"noise" * 1_000)
    processes = [start(SHARE, path, me) for me in range(1, 5)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, [errors for _, errors in outputs]
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes() == b"noise" * 1_000
    assert sum("SkytellsWarning" in errors for _, errors in outputs) == 1
    store = SqliteStore(path)
    assert store.stats().entries == 200 + 4 * 600
    store.close()


WRITE = """
import sys
from skytells_nb.cache import SqliteStore
store = SqliteStore(sys.argv[1])
start = int(sys.argv[2])
for group in range(start, start + 100_000):
    store.put_many([((group * 64 + n).to_bytes(32, "big"), group.to_bytes(4, "big") * 1_000) for n in range(64)])
    print(group, flush=True)
"""


@pytest.mark.parametrize("first", ["", OFTEN])
def test_a_killed_process_loses_nothing_it_was_told_is_stored(tmp_path: Path, first: str) -> None:
    """Five times kill -9 in mid-write: every group that was stored is there, and no group in part."""
    path = tmp_path / "answers.sqlite"
    acknowledged: list[int] = []
    for kill in range(5):
        process = start(first + WRITE, path, kill * 100_000)
        assert process.stdout is not None
        for _ in range(10 + 7 * kill):
            acknowledged.append(int(process.stdout.readline()))
        process.kill()
        rest, _ = process.communicate(timeout=60)
        acknowledged.extend(int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n"))
    store = SqliteStore(path)
    for group in acknowledged:
        assert store.get_many([key(group * 64 + n) for n in range(64)]) == [group.to_bytes(4, "big") * 1_000] * 64
    for kill in range(5):
        following = max(group for group in acknowledged if group // 100_000 == kill) + 1
        found = store.get_many([key(following * 64 + n) for n in range(64)])
        assert found in ([None] * 64, [following.to_bytes(4, "big") * 1_000] * 64)
    store.close()


CONTENDED = """
import sys, threading
from skytells_nb.cache import SqliteStore
store = SqliteStore(sys.argv[1])
def work(me):
    for n in range(50):
        store.put_many([((1_000 * me + n).to_bytes(32, "big"), b"x")])
threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
[thread.start() for thread in threads]
if sys.argv[2] == "fork":
    import multiprocessing
    child = multiprocessing.get_context("fork").Process(target=work, args=(9,))
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode
[thread.join() for thread in threads]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_a_fork_amid_writing_threads_harms_neither_side(tmp_path: Path) -> None:
    """Nor does leaving without closing the store."""
    path = tmp_path / "answers.sqlite"
    process = start(CONTENDED, path, "fork")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    store = SqliteStore(path)
    assert store.stats().entries == 5 * 50
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_threads_that_make_the_file_at_the_same_moment_share_it(tmp_path: Path) -> None:
    """None of them mistakes the half-created file for another program's; all of their responses are in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for turn in range(40):
            path = tmp_path / f"{turn}.sqlite"
            stores = [SqliteStore(path) for _ in range(4)]
            together = threading.Barrier(len(stores))

            def put(number: int, stores: list[SqliteStore] = stores, together: threading.Barrier = together) -> None:
                together.wait(60)
                stores[number].put_many([(bytes([number]) * 32, b"answer")])

            with ThreadPoolExecutor(len(stores)) as pool:
                list(pool.map(put, range(len(stores))))
            assert stores[0].stats().entries == len(stores)
            for store in stores:
                store.close()
