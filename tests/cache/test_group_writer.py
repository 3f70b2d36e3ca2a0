"""The writing thread groups what is waiting, and tells every caller the truth."""

from __future__ import annotations

import threading
import time

import pytest

from skytells_nb.cache.writer import Writer

Row = tuple[bytes, bytes]


class SlowDisk:
    """Saves nothing until it may, and remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[Row]] = []
        self.busy = threading.Event()
        self.free = threading.Event()

    def save(self, rows: list[Row]) -> None:
        self.busy.set()
        assert self.free.wait(30)
        if (b"bad", b"") in rows:
            raise OSError("no space")
        self.groups.append(rows)


def test_what_waits_is_written_as_one_group() -> None:
    """Nobody returns before their rows are saved."""
    disk = SlowDisk()
    writer = Writer(disk.save)
    rows = [(b"%d" % n, b"") for n in range(5)]
    threads = [threading.Thread(target=writer.write, args=([row],)) for row in rows]
    threads[0].start()
    assert disk.busy.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(writer._jobs) < 4:
        time.sleep(0.001)
    disk.free.set()
    for thread in threads:
        thread.join(30)
    assert [len(group) for group in disk.groups] == [1, 4]
    assert sorted(row for group in disk.groups for row in group) == rows


def test_a_failed_group_is_raised_where_it_was_asked_for() -> None:
    """And the next group is written as if nothing had been."""
    disk = SlowDisk()
    disk.free.set()
    writer = Writer(disk.save)
    with pytest.raises(OSError, match="no space"):
        writer.write([(b"bad", b"")])
    writer.write([(b"good", b"")])
    assert disk.groups == [[(b"good", b"")]]
