"""What annotators judged, in a file to which each judgment is appended: nothing is lost with the kernel.

A line is one JSON object: who said what about which row, when. It has the index label of the row and no text of it. The
latest line about a row counts; ``undo`` takes back the latest one of its annotator.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skytells_nb.errors import InputError

KIND = "skytells-review"
"""What each line begins with, so that another file is not taken for one."""


@dataclass
class Judgment:
    """What one annotator said of one row: the number of a label, -1 for none, and a note."""

    label: int = -1
    note: str = ""


@dataclass
class _Annotator:
    rows: dict[int, Judgment] = field(default_factory=dict)
    history: list[tuple[int, Judgment]] = field(default_factory=list)
    """Of each change the row and what was said before, the latest last."""


class JudgmentFile:
    """The judgments of all annotators about these rows, read from the file and appended to it.

    Several notebooks may have the same file open: each line is written at once, and read again before it is used.
    """

    def __init__(self, path: Path, rows: Sequence[Any], labels: Sequence[Any]) -> None:
        self.path = path
        self._numbers = {row_key(label): number for number, label in enumerate(rows)}
        self._keys = list(self._numbers)
        self._labels = {_json(label): number for number, label in enumerate(labels)}
        self._label_values = [_plain(label) for label in labels]
        self._annotators: dict[str, _Annotator] = {}
        self._read_to = 0
        self.unknown = 0
        """Lines about other rows or with other labels; they stay in the file."""
        self._check()
        self.refresh()

    @property
    def annotators(self) -> list[str]:
        """Who judged a row, in order of appearance."""
        return [name for name, each in self._annotators.items() if any(j.label >= 0 for j in each.rows.values())]

    def of(self, annotator: str) -> dict[int, Judgment]:
        """Return what an annotator said, by the position of the row."""
        return self._annotators.get(annotator, _Annotator()).rows

    def judge(self, annotator: str, row: int, label: int) -> None:
        """Store a label of a row; -1 takes it away."""
        value = None if label < 0 else self._label_values[label]
        self._append({"annotator": annotator, "row": self._keys[row], "label": value})

    def note(self, annotator: str, row: int, text: str) -> None:
        """Store a note about a row."""
        self._append({"annotator": annotator, "row": self._keys[row], "note": text})

    def undo(self, annotator: str) -> int | None:
        """Take back the latest change of an annotator; return the position of its row, ``None`` if there is none."""
        self.refresh()
        history = self._annotators.get(annotator, _Annotator()).history
        if not history:
            return None
        row = history[-1][0]
        self._append({"annotator": annotator, "undo": self._keys[row]})
        return row

    def refresh(self) -> None:
        """Read what was appended since, also by others."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._read_to += len(line)
                self._apply(line)

    def _check(self) -> None:
        """Raise InputError for a path that cannot be one of these files."""
        try:
            with self.path.open("rb") as file:
                first = file.readline()
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise InputError(f"file must be in a folder that exists, got {self.path.parent}.") from None
            return
        except OSError as problem:
            raise InputError(f"file must be a file that can be read, got {self.path}: {problem.strerror}.") from None
        # Also where a process was killed while it wrote the first line.
        begins, text = f'{{"kind": "{KIND}"'.encode(), first.strip()
        if text[: len(begins)] != begins[: len(text)]:
            raise InputError(
                f"file must be new, or one of judgments, got {self.path}, which is neither. Choose a path."
            )

    def _append(self, change: dict[str, Any]) -> None:
        line = json.dumps({"kind": KIND, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **change})
        try:
            with _locked(self.path) as file:
                # What a process that was killed left of a line would take the next one with it.
                torn = file.tell() > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
                file.write(b"\n" * torn + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise InputError(
                f"The judgment was not stored: {self.path} cannot be written: {problem.strerror or problem}."
            ) from None
        self.refresh()

    def _apply(self, line: bytes) -> None:
        try:
            change = json.loads(line)
        except ValueError:
            return  # the torn rest of a line
        if not isinstance(change, dict) or change.get("kind") != KIND or not isinstance(change.get("annotator"), str):
            return
        annotator = self._annotators.setdefault(change["annotator"], _Annotator())
        if "undo" in change:
            if annotator.history:
                row, before = annotator.history.pop()
                annotator.rows[row] = before
            return
        number = self._numbers.get(str(change.get("row")))
        if number is None:
            self.unknown += 1
            return
        before = annotator.rows.get(number, Judgment())
        after = Judgment(before.label, before.note)
        if "label" in change:
            label = -1 if change["label"] is None else self._labels.get(_json(change["label"]))
            if label is None:
                self.unknown += 1
                return
            after.label = label
        if isinstance(change.get("note"), str):
            after.note = change["note"]
        annotator.history.append((number, before))
        annotator.rows[number] = after


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Any]:
    """Open a file for appending, which no other process appends to meanwhile."""
    with path.open("ab+", buffering=0) as file:
        with contextlib.suppress(ImportError, OSError):  # not every system and disk has locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0, os.SEEK_END)
        yield file


def row_key(label: Any) -> str:
    """Return an index label as text, the same after it was stored in a file and read again.

    >>> row_key(3), row_key("3"), row_key(("a", 1))
    ('3', '"3"', '["a", 1]')
    """
    return _json(label)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.item() if hasattr(value, "item") and not isinstance(value, str) else value


def next_unjudged(judged: Callable[[int], bool], rows: int, after: int) -> int:
    """Return the first row that is not judged, from the one after this one on; this one where all are.

    >>> next_unjudged({0, 2}.__contains__, 4, 0), next_unjudged({0, 1}.__contains__, 2, 1)
    (1, 1)
    """
    order: Iterable[int] = (*range(after + 1, rows), *range(after + 1))
    return next((row for row in order if not judged(row)), after)
