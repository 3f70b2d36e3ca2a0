"""CPU time, memory and what else the machine was doing. Linux."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
from pathlib import Path
from typing import Any

MB = 1e6


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def machine_cpu_s() -> float:
    """CPU seconds that everything on this machine has used."""
    user, nice, system, _idle, _wait, irq, softirq = map(int, _first_line("/proc/stat").split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def rss_mb(process: int | str = "self", *, own: bool = False) -> float:
    """Resident memory now, megabytes of 10^6 bytes; with ``own`` without pages of files."""
    pages = list(map(int, _first_line(f"/proc/{process}/statm").split()))
    return (pages[1] - (pages[2] if own else 0)) * os.sysconf("SC_PAGE_SIZE") / MB


def peak_rss_mb(process: int | str = "self") -> float:
    """The most resident memory since ``forget_peak``. Not ``ru_maxrss``: a child inherits that from its parent."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / MB


def forget_peak() -> None:
    """Measure the peak from here; where the kernel does not let us, from the start of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def touch(megabytes: int) -> None:
    """Use this much memory once, in this process.

    A virtual machine gives freed pages back to its host, and the next first touch waits for them: that belongs to no
    client's time.
    """
    # Repeating a byte writes each page; a new bytearray would consist of untouched zero pages.
    block = b"\x01" * (megabytes * 1_000_000)
    del block


def _first_line(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.readline()
