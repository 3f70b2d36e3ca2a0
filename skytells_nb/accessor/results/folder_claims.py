"""Which call writes into a folder of parts, while it does: two that begin in an empty folder would mix their parts."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from skytells_nb.cache.processes import may_be_running, this_process
from skytells_nb.errors import InputError, ScratchFileError
from skytells_nb.sanitize import sanitize

CLAIM = ".writing"
UNFINISHED = ".unfinished"
ATTEMPTS, PAUSE_S = 20, 0.01

Claim = tuple[str, str, str]
"""The call, its rows, and the process that has begun it."""


@contextlib.contextmanager
def claimed(folder: Path, call: str, rows: str) -> Iterator[None]:
    """Hold a folder, which is made if need be, for a call on these rows in the block.

    Raises InputError while another process holds it. A claim that a process has left is replaced; of one on another
    machine, which may run, only that of the same call.
    """
    mine = (call, rows, this_process().decode())
    was_there = folder.is_dir()
    try:
        _claim(folder, mine)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if _read(folder) == mine:
                    (folder / CLAIM).unlink()
    finally:
        if not was_there:
            # Only where nothing is in it.
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_claim(folder: Path, call: str) -> None:
    """Raise InputError if a folder is held for another call, such as by one that took the claim for an ended one's."""
    found = _read(folder)
    if found is not None and found[0] != call:
        raise _held(folder, found)


def _claim(folder: Path, mine: Claim) -> None:
    try:
        for _ in range(ATTEMPTS):
            folder.mkdir(exist_ok=True)
            found = _read(folder)
            if found is not None and _holds(found, mine):
                raise _held(folder, found)
            # Another process may be doing the same, or remove the folder, which is empty for it.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                _put(folder, mine, replaces=found is not None)
                if _read(folder) == mine:
                    return
            time.sleep(PAUSE_S)
    except OSError as problem:
        raise ScratchFileError(f"{folder} cannot be written: {problem.strerror or problem}.") from None
    raise InputError(f"{folder / CLAIM} cannot be read. Remove it if no call writes into this folder.")


def _holds(found: Claim, mine: Claim) -> bool:
    """Whether a claim is to be respected: that of a process here which runs, or of another call elsewhere."""
    *what, process = found
    is_here = os.name != "nt" and process.rsplit(" ", 2)[0] == mine[2].rsplit(" ", 2)[0]
    return may_be_running(process.encode()) and (is_here or what != [*mine[:2]])


def _put(folder: Path, claim: Claim, *, replaces: bool) -> None:
    """Write a claim that appears complete, and only where there is none unless it ``replaces`` that."""
    text, place = json.dumps(claim), folder / CLAIM
    unfinished = folder / f".{uuid.uuid4().hex}{UNFINISHED}"
    unfinished.write_text(text, "utf-8")
    try:
        if replaces:
            os.replace(unfinished, place)
            return
        try:
            os.link(unfinished, place)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError:  # no links on this disk
            with place.open("x", encoding="utf-8") as file:
                file.write(text)
    finally:
        unfinished.unlink(missing_ok=True)


def _read(folder: Path) -> Claim | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        call, rows, process = json.loads((folder / CLAIM).read_text("utf-8"))
        return str(call), str(rows), str(process)
    return None


def _held(folder: Path, claim: Claim) -> InputError:
    machine, _, numbers = claim[2].partition(" ")
    process = f"process {numbers.partition(' ')[0]} on {machine.partition('/')[0]}"
    return InputError(
        f"{folder} is where another call writes now, in {sanitize(process)}. Choose another folder for to=, or wait "
        f"until it has ended; if it was ended on another machine, remove {folder / CLAIM}."
    )
