"""Pending rows are written in groups, and every caller gets the result of its own."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from skytells_nb.cache.group_commit import GroupCommit
from skytells_nb.cache.store import Row


class SlowDisk:
    """Saves nothing until it may, and remembers the groups."""

    def __init__(self) -> None:
        self.groups: list[list[Row]] = []
        self.writers: list[threading.Thread] = []
        self.busy = threading.Event()
        self.free = threading.Event()

    def save(self, rows: list[Row]) -> None:
        self.busy.set()
        assert self.free.wait(30)
        if (b"bad", b"") in rows:
            raise OSError("no space")
        self.groups.append(rows)
        self.writers.append(threading.current_thread())


def test_what_waits_is_written_as_one_group() -> None:
    """No caller returns before its rows are saved."""
    disk = SlowDisk()
    writer = GroupCommit(disk.save)
    rows = [(b"%d" % n, b"") for n in range(5)]
    threads = [threading.Thread(target=writer.write, args=([row],)) for row in rows]
    threads[0].start()
    assert disk.busy.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(writer._pending) < 4:
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
    writer = GroupCommit(disk.save)
    with pytest.raises(OSError, match="no space"):
        writer.write([(b"bad", b"")])
    writer.write([(b"good", b"")])
    assert disk.groups == [[(b"good", b"")]]


def test_whoever_waits_first_writes_for_those_who_came_after() -> None:
    """At most one group for each waiting caller, and no caller is forgotten."""
    disk = SlowDisk()
    disk.free.set()
    writer = GroupCommit(disk.save)
    rows = [[(b"%d %d" % (caller, n), b"") for n in range(50)] for caller in range(16)]

    def write(mine: list[Row]) -> None:
        for row in mine:
            writer.write([row])

    threads = [threading.Thread(target=write, args=(mine,)) for mine in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(row for group in disk.groups for row in group) == sorted(row for mine in rows for row in mine)
    assert set(disk.writers) <= set(threads)


def test_the_main_thread_never_writes_itself() -> None:
    """Ctrl-C would break the group."""
    disk = SlowDisk()
    disk.free.set()
    GroupCommit(disk.save).write([(b"row", b"")])
    assert disk.writers != [threading.main_thread()]
    assert disk.groups == [[(b"row", b"")]]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a signal to one thread")
def test_ctrl_c_while_a_group_is_written_loses_no_row_and_blocks_nobody() -> None:
    disk = SlowDisk()
    writer = GroupCommit(disk.save)
    main = threading.main_thread().ident
    assert main is not None
    other = threading.Thread(target=writer.write, args=([(b"other", b"")],))

    def press() -> None:
        assert disk.busy.wait(30)
        signal.pthread_kill(main, signal.SIGINT)
        other.start()
        disk.free.set()

    presser = threading.Thread(target=press, daemon=True)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        writer.write([(b"interrupted", b"")])
    presser.join(30)
    other.join(30)
    assert not other.is_alive()
    assert sorted(row for group in disk.groups for row in group) == [(b"interrupted", b""), (b"other", b"")]
