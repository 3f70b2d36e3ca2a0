"""A cache that fails before or during a run costs a warning and no row."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from local_fakes import HoldingGenerator
from served import KEY, connected, served, wait_until_idle

from skytells_nb.errors import SkytellsWarning
from skytells_nb.progress.events import Progress

ROWS = 400
TEXTS = [f"say {n}" for n in range(ROWS)]


@contextlib.contextmanager
def every_warning() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 6 // 10)


def overwrite_with_noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def noise_on_the_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(2).randbytes(4_096))


def frame() -> pd.DataFrame:
    return pd.DataFrame({"n": range(ROWS)})


@pytest.mark.parametrize("damage", [cut, overwrite_with_noise, noise_on_the_header])
def test_a_file_damaged_before_the_run_is_set_aside_and_the_run_goes_on(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """One warning, every row right; the answers are in a new file, so that a third run sends nothing."""
    cache = tmp_path / "c.sqlite"
    with served() as server:
        with connected(server, cache):
            frame().skytells.complete("say {n}", progress=False)
        damage(cache)
        damaged = cache.read_bytes()
        with connected(server, cache), every_warning() as caught:
            done = frame().skytells.complete("say {n}", progress=False)
        assert done["completion"].tolist() == TEXTS
        requests = wait_until_idle(server, "chat").requests
        with connected(server, cache):
            again = frame().skytells.complete("say {n}", progress=False)
        assert again["completion"].tolist() == TEXTS
        assert wait_until_idle(server, "chat").requests == requests == 2 * ROWS
    (aside,) = tmp_path.glob("c.sqlite.corrupt-*")
    assert aside.read_bytes() == damaged
    (warning,) = caught
    assert warning.category is SkytellsWarning
    assert str(aside) in str(warning.message)


@pytest.mark.parametrize("damage", [cut, overwrite_with_noise])
def test_a_file_damaged_in_flight_is_set_aside_and_the_run_goes_on(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """No row is lost or sent twice; the damage is said at the latest by the next run, and a third one sends nothing."""
    cache = tmp_path / "c.sqlite"
    damaged_at: list[int] = []

    def damage_midway(event: Progress) -> None:
        if event.done >= 100 and not damaged_at:
            damaged_at.append(event.done)
            checkpoint(cache)
            damage(cache)
            generator.go.set()

    generator = HoldingGenerator(ROWS // 2)
    with served("latency=0.01", generator=generator) as server:
        with connected(server, cache, max_in_flight=4), every_warning() as caught:
            done = frame().skytells.complete("say {n}", progress=damage_midway)
        assert done["completion"].tolist() == TEXTS
        counts = wait_until_idle(server, "chat")
        assert (counts.requests, counts.distinct) == (ROWS, ROWS)
        for _ in range(2):
            requests = wait_until_idle(server, "chat").requests
            with connected(server, cache), every_warning() as later:
                again = frame().skytells.complete("say {n}", progress=False)
            assert again["completion"].tolist() == TEXTS
            caught += later
        assert wait_until_idle(server, "chat").requests == requests
    assert 100 <= damaged_at[0] < ROWS
    (aside,) = tmp_path.glob("c.sqlite.corrupt-*")
    (warning,) = caught
    assert warning.category is SkytellsWarning
    assert str(aside) in str(warning.message)


def checkpoint(cache: Path) -> None:
    """Move what is in the log into the file, so that the damage hits answers."""
    with contextlib.closing(sqlite3.connect(cache)) as connection:
        connection.execute("pragma wal_checkpoint(passive)")


FULL_DISK = """
import json, resource, signal, sys, warnings
import pandas as pd
import skytells_nb as sky

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
base_url, key, cache, rows = sys.argv[1:]
full_at = []

def fill(event):
    if event.done >= 100 and not full_at:
        full_at.append(event.done)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, resource.RLIM_INFINITY))
        print("full", flush=True)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    session = sky.connect(key, base_url=base_url, cache=cache, max_in_flight=4)
    done = pd.DataFrame({"n": range(int(rows))}).skytells.complete("say {n}", progress=fill)
print(json.dumps({
    "completions": done["completion"].tolist(),
    "full_at": full_at[0],
    "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
}))
SPACE
session.close()
"""
SPACE = "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to stand in for a full disk")
@pytest.mark.parametrize("space_again", [True, False])
def test_a_disk_that_fills_up_in_flight_costs_no_row(tmp_path: Path, space_again: bool) -> None:
    """One warning that says so; where there is space again in the end, nothing has to be paid for twice."""
    program = FULL_DISK.replace("SPACE", SPACE if space_again else "")
    cache = tmp_path / "c.sqlite"
    generator = HoldingGenerator(ROWS // 2)
    with served("latency=0.01", generator=generator) as server:
        command = [sys.executable, "-c", program, server.base_url, KEY, str(cache), str(ROWS)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = child.stdout.readline()
        generator.go.set()
        output, errors = child.communicate(timeout=240)
        assert (said, child.returncode) == ("full\n", 0), errors
        figures = json.loads(output)
        assert figures["completions"] == TEXTS
        assert 100 <= figures["full_at"] < ROWS
        (warning,) = figures["warnings"]
        assert warning.startswith("SkytellsWarning")
        assert str(cache) in warning
        counts = wait_until_idle(server, "chat")
        assert (counts.requests, counts.distinct) == (ROWS, ROWS)
        with connected(server, cache) as session:
            entries = session.cache.stats().entries
            again = frame().skytells.complete("say {n}", progress=False)
        assert again["completion"].tolist() == TEXTS
        assert wait_until_idle(server, "chat").requests == 2 * ROWS - entries
    assert entries == ROWS if space_again else 100 - 4 <= entries < ROWS


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_read_only_folder_costs_no_row(disk: Path) -> None:
    """What it holds is not sent again; what is new stays in memory for as long as the session lives."""
    cache = disk / "c.sqlite"
    with served() as server:
        with connected(server, cache):
            frame()[:100].skytells.complete("say {n}", progress=False)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with connected(server, cache), every_warning() as caught:
            for _ in range(2):
                done = frame().skytells.complete("say {n}", progress=False)
                assert done["completion"].tolist() == TEXTS
            assert wait_until_idle(server, "chat").requests == ROWS
            # What is asked again cannot replace the old answers in the file; it is held in memory like the others.
            done = frame().skytells.complete("say {n}", fresh=True, progress=False)
            assert done["completion"].tolist() == TEXTS
        assert wait_until_idle(server, "chat").requests == 2 * ROWS
    (warning,) = caught
    assert warning.category is SkytellsWarning
    assert "held in memory" in str(warning.message)
