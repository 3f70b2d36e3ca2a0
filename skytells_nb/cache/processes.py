"""Which process holds a lease, and whether it may still be running."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from pathlib import Path
from typing import Any


def this_process() -> bytes:
    """Return what others recognize this process by: the machine, the process id and when it started."""
    return _identity(os.getpid())


@functools.lru_cache(maxsize=1)
def _identity(pid: int) -> bytes:
    return f"{_machine()} {pid} {_start_of(pid)}".encode()


def may_be_running(process: Any) -> bool:
    """Whether a process may still run; one that another machine, or another container, knows by its id may."""
    try:
        machine, pid, started = process.decode().rsplit(" ", 2)
        number = int(pid)
    except (AttributeError, ValueError):
        return True
    if machine != _machine() or os.name == "nt":  # signal 0 would end a process on Windows
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return bool(_start_of(number) == started)


def _start_of(pid: int) -> str:
    """Return when a process started, where the system says so; "" for one that has ended and is not yet reaped."""
    try:
        # Each request asks for every other process, so without what a text file costs.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            content = file.read(4096) or b""
        # The name before it, in parentheses, may contain any character.
        state, *fields = content.rpartition(b")")[2].split()
        return "" if state in b"ZX" else fields[18].decode()
    except (OSError, ValueError, IndexError):
        return "-"


@functools.cache
def _machine() -> str:
    """Return what is the same for all processes that know each other by the process id."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)
