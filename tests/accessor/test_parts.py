"""``to=`` a folder: parts that are written as rows are done, and a call that goes on where it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from local_fakes import fake_server

import skytells_nb as sky
from skytells_nb import files
from skytells_nb.accessor.results import parts
from skytells_nb.accessor.results.folder_claims import CLAIM, claimed
from skytells_nb.cache.processes import this_process
from skytells_nb.columns import to_matrix
from skytells_nb.errors import BudgetExceededError, InputError, SkytellsWarning
from skytells_nb.local.faults import Faults
from skytells_nb.progress.events import Progress
from skytells_nb.session import Session

dd = pytest.importorskip("dask.dataframe")
pq = pytest.importorskip("pyarrow.parquet")

FRAME = pd.DataFrame({"text": [f"text {n}" if n % 9 else None for n in range(50)], "n": range(50)})
CHILD = """
import sys
import pandas as pd
import skytells_nb as sky
from skytells_nb.accessor.results import parts
parts.PART_ROWS = 10
sky.connect(sys.argv[1], base_url=sys.argv[2], cache="off")
df = pd.DataFrame({"text": [f"text {n}" for n in range(100)]})
df.skytells.moderate("text", to=sys.argv[3], safety_to=sys.argv[3] + "-safety", max_in_flight=4, progress=False)
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)


@pytest.fixture
def session(isolated: None, tmp_path: Path) -> Any:
    with fake_server() as server:
        session = sky.connect(server.api_key, base_url=server.base_url, cache=tmp_path / "c.sqlite")
        session.stats = server.stats  # type: ignore[attr-defined]
        yield session


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("embed", ("text",), {"dimensions": 8}),
    ("classify", ("text", ["good", "bad"]), {"max_tokens": 5}),
    ("complete", ("Say {text}.",), {"max_tokens": 3, "details": True}),
    ("complete", ("Say {text}.",), {"schema": {"n": int, "words": list[str]}, "max_tokens": 30}),
    ("extract", ("text", {"n": int, "name": str}), {"max_tokens": 20}),
    ("filter", ("text", "Is it a text?"), {"max_tokens": 8}),
    ("moderate", ("text",), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), CALLS)
def test_a_folder_holds_what_the_call_returns(
    session: Session, tmp_path: Path, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """``files.read`` and Dask read it back; a second call sends nothing and writes nothing."""
    events: list[Progress] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        to = f"{tmp_path}/out/"
        path = getattr(FRAME.skytells, name)(*args, **options, to=to, progress=events.append)
        more = {"dtype": "arrow"} if name == "embed" else {"flatten": True} if "schema" in options else {}
        expected = getattr(sky.frame(FRAME), name)(*args, **options, **more, progress=False)
    assert path == tmp_path / "out"
    assert sorted(os.listdir(path)) == [f"part-0000{number}.parquet" for number in range(5)]
    read = files.read(path)
    variable = [column for column in read.columns if column.endswith(("_cost", "_request_id"))]
    if name == "embed":
        (matrix, valid), (expected_matrix, expected_valid) = (to_matrix(f["embedding"]) for f in (read, expected))
        assert (matrix == expected_matrix).all()
        assert (valid == expected_valid).all()
        variable.append("embedding")
    pd.testing.assert_frame_equal(
        read.drop(columns=variable), expected.drop(columns=variable), check_dtype=False, check_categorical=False
    )
    # In this process a completion of the same texts may have been these numbers.
    made = read.skytells.lineage.drop(index="n", errors="ignore")
    if name != "filter":  # which makes no column
        assert set(read.columns) - set(FRAME.columns) <= set(made.index)
        assert (made["method"] == name).all()
        assert made["call"].nunique() == 1
        assert (made["rows"] == 50).all(), "the sum of the parts"
    again = dd.read_parquet(path)
    assert len(again) == len(expected)
    assert list(again.columns) == list(expected.columns)
    assert (events[-1].state, events[-1].done, events[-1].rows) == ("done", 50, 50)
    report = sky.frame(FRAME).report
    assert report is not None
    assert (report.rows, report.nulls) == (50, 6)
    if not report.failed:
        before = {part: part.stat().st_mtime_ns for part in path.iterdir()}
        session.stats.reset()  # type: ignore[attr-defined]
        getattr(FRAME.skytells, name)(*args, **options, to=to, progress=False)
        assert not session.stats.records  # type: ignore[attr-defined]
        assert {part: part.stat().st_mtime_ns for part in path.iterdir()} == before


def test_parts_that_began_in_one_millisecond_are_each_counted(session: Any, tmp_path: Path) -> None:
    """By their call and not by their time; a call before them has one record, which each part repeats."""
    before = FRAME.skytells.embed("text", dimensions=8, progress=False)
    path = before.skytells.complete("Say {text}.", max_tokens=3, to=tmp_path / "out", progress=False)
    for part in path.iterdir():
        table = pq.read_table(part)
        for number, field in enumerate(table.schema):
            records = json.loads((field.metadata or {}).get(files.LINEAGE.encode(), b"[]"))
            if records:
                text = json.dumps([{**record, "time": "2026-01-01T00:00:00.000+00:00"} for record in records])
                described = table.schema.set(number, field.with_metadata({files.LINEAGE: text}))
                table = table.cast(described)
        pq.write_table(table, part)
    made = files.read(path).skytells.lineage
    assert made[["method", "rows"]].loc[["embedding", "completion"]].to_numpy().tolist() == [
        ["embed", 50],
        ["complete", 50],
    ]
    assert made["sent"].loc["completion"] == 44


def test_a_killed_process_costs_the_part_that_it_was_at(isolated: None, tmp_path: Path) -> None:
    """Without any cache; the safety table is whole too."""
    with fake_server(faults=Faults.parse("latency=0.05")) as server:
        folder = tmp_path / "out"
        command = [sys.executable, "-c", CHILD, server.api_key, server.base_url, str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(Path(sky.__file__).parent.parent)}
        child = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 100
        while not (folder / "part-00003.parquet").exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        written = len(list(folder.glob("part-*.parquet")))
        server.stats.reset()
        sky.connect(server.api_key, base_url=server.base_url, cache="off")
        df = pd.DataFrame({"text": [f"text {n}" for n in range(100)]})
        df.skytells.moderate("text", to=folder, safety_to=f"{folder}-safety", progress=False)
        assert server.stats["chat"].requests == 100 - 10 * written
        assert sky.frame(df).report.answered == 100
        result = files.read(folder)
        assert result["text"].tolist() == df["text"].tolist()
        assert result["moderation_severity"].notna().all()
        assert not list(folder.glob(".*"))
        table = files.read(f"{folder}-safety")
        expected = sky.frame(df.skytells.moderate("text", progress=False)).safety("moderation")
        pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_categorical=False)


def test_a_budget_ends_the_call_and_the_parts_stay(session: Session, tmp_path: Path) -> None:
    df = pd.DataFrame({"text": [f"a text {n}" for n in range(40)]})
    options: dict[str, Any] = {"max_tokens": 3, "progress": False}
    other = pd.DataFrame({"text": ["another text 0"]})
    price = sky.frame(other).complete("{text}", **options).skytells.report.cost
    assert price is not None
    with pytest.raises(BudgetExceededError) as caught:
        df.skytells.complete("{text}", to=tmp_path / "out", budget=25.5 * price, **options)
    assert any("2 of 4 parts" in note for note in caught.value.__notes__)
    assert session.stats["chat"].requests <= 26  # type: ignore[attr-defined]
    df.skytells.complete("{text}", to=tmp_path / "out", **options)
    assert len(files.read(tmp_path / "out")) == 40
    assert session.stats["chat"].requests == 41  # type: ignore[attr-defined]


def test_a_folder_of_something_else_is_refused(session: Session, tmp_path: Path) -> None:
    """Before anything is sent: other files, other arguments, other rows, a file, no strings as names."""
    FRAME.skytells.moderate("text", to=tmp_path / "out", progress=False)
    session.stats.reset()  # type: ignore[attr-defined]
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    for to, frame, options, message in [
        ("out", FRAME, {"into": "m"}, "not a part of this call"),
        ("out", FRAME[:40], {}, "not a part of this call"),
        ("out", FRAME.assign(text=FRAME["text"].to_numpy()[::-1], n=0), {}, "holds 5 parts of other rows"),
        ("new", FRAME[::-1], {"safety_to": tmp_path / "out"}, "out holds 5 parts of other rows"),
        ("mine", FRAME, {}, "notes.txt, which is not"),
        ("file", FRAME, {}, "got the file"),
        ("no/such", FRAME, {}, "folder that exists"),
        ("new", FRAME.rename(columns={"n": 1}), {}, "string column names"),
        ("new", FRAME, {"safety_to": tmp_path / "new"}, "another folder"),
    ]:
        with pytest.raises(InputError, match=message):
            frame.skytells.moderate("text", to=tmp_path / to, progress=False, **options)
    with pytest.raises(InputError, match="without to="):
        FRAME.skytells.moderate("text", safety_to=tmp_path / "s")
    assert not session.stats.records  # type: ignore[attr-defined]
    # The rows of one part have changed: only they are done again.
    changed = FRAME.assign(n=[*range(15), 99, *range(16, 50)])
    before = {part.name: part.stat().st_mtime_ns for part in (tmp_path / "out").iterdir()}
    changed.skytells.moderate("text", to=tmp_path / "out", progress=False)
    after = {part.name: part.stat().st_mtime_ns for part in (tmp_path / "out").iterdir()}
    assert [name for name in sorted(after) if after[name] != before[name]] == ["part-00001.parquet"]
    assert files.read(tmp_path / "out")["n"].tolist() == changed["n"].tolist()


def test_of_two_calls_that_begin_in_an_empty_folder_one_is_refused(session: Session, tmp_path: Path) -> None:
    """In whatever order they come; the parts that are there are all of the other."""
    together, found = threading.Barrier(2), []

    def write(prompt: str) -> None:
        together.wait(60)
        try:
            call = FRAME.copy().skytells.complete
            found.append((prompt, call(prompt, max_tokens=3, to=tmp_path / "out", progress=False)))
        except InputError as problem:
            found.append(("refused", problem))

    writers = [threading.Thread(target=write, args=(prompt,)) for prompt in ("Say {text}.", "Sing {text}.")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    outcomes = dict(found)
    assert "Choose another folder" in str(outcomes.pop("refused"))
    ((prompt, path),) = outcomes.items()
    assert sorted(os.listdir(path)) == [f"part-0000{number}.parquet" for number in range(5)]
    expected = sky.frame(FRAME).complete(prompt, max_tokens=3, progress=False)
    assert files.read(path)["completion"].tolist() == expected["completion"].tolist()


def test_a_folder_is_held_while_a_process_writes_there(session: Session, tmp_path: Path) -> None:
    """Also for the same call; a part of another is not written, however it came to begin."""
    folder = tmp_path / "out"
    with claimed(folder, "a call", "its rows"):
        session.stats.reset()  # type: ignore[attr-defined]
        for to in ({"to": folder}, {"to": tmp_path / "new", "safety_to": folder}):
            with pytest.raises(InputError, match=f"writes now, in process {os.getpid()} on"):
                FRAME.skytells.moderate("text", progress=False, **to)
        with pytest.raises(InputError, match="writes now"), claimed(folder, "a call", "its rows"):
            pass
        with pytest.raises(InputError, match="writes now"):
            parts._Folder(folder).write(0, parts._table(FRAME), {"call": "another"})
        assert os.listdir(folder) == [CLAIM]
        assert not session.stats.records  # type: ignore[attr-defined]
    assert not folder.exists()
    assert not (tmp_path / "new").exists()


def test_what_a_process_that_has_ended_claimed_is_free(tmp_path: Path) -> None:
    """Here whatever it was; of another machine, where it may run, for the same call only."""
    machine, pid, _ = this_process().decode().rsplit(" ", 2)
    ended, elsewhere = f"{machine} {pid} 0", "another/machine 7 70"
    (tmp_path / CLAIM).write_text(json.dumps(["a call", "its rows", ended]))
    with claimed(tmp_path, "another", "rows"):
        assert "another" in (tmp_path / CLAIM).read_text()
    assert not os.listdir(tmp_path)
    (tmp_path / CLAIM).write_text(json.dumps(["a call", "its rows", elsewhere]))
    for other in (("another", "its rows"), ("a call", "others")):
        with (
            pytest.raises(InputError, match=r"process 7 on another\. .* remove .*\.writing"),
            claimed(tmp_path, *other),
        ):
            pass
    with claimed(tmp_path, "a call", "its rows"):
        assert "another/machine" not in (tmp_path / CLAIM).read_text()
    assert not os.listdir(tmp_path)
    (tmp_path / CLAIM).write_text("[")
    with pytest.raises(InputError, match="cannot be read"), claimed(tmp_path, "a call", "its rows"):
        pass
