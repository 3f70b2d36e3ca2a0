"""Which adapter runs which workload, as what variant, with how many rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.workloads import WORKLOADS, Workload

Variant = Literal["default", "tuned"]

OWN = "skytells"
CEILING = "ceiling_aiohttp"
PEERS = ("openai_gather", "openaivec", "langchain", "silkloom", "litellm", "fenic")
SHARED = ("W1", "W2", "W3", "W4E", "W4M", "W4C", "W5", "W6", "W7", "W8")
"""Workloads for everybody."""
OWN_ONLY = ("W5X", "D1", "D2", *(f"{kind}{k}" for k in (3, 4, 5, 6) for kind in "SCP"))
"""Our own claims, which have no like in the peers."""

WITH_CACHE = {
    "W4E": ("openaivec", "langchain"),
    "W4M": ("openaivec", "langchain"),
    "W4C": ("openaivec", "langchain", "silkloom", "fenic"),
    "W8": ("openai_gather", "openaivec", "langchain", "silkloom", "fenic"),
}
"""Peers that have a cache on disk for it; in W8 also one that has none, to show what that costs. litellm has one whose
hits need packages of its proxy."""
WITHOUT_EMBEDDINGS = ("silkloom",)
DEFAULTS_TOO = ("W1", "W5")
"""Workloads where the peers' own defaults are measured beside the tuned variant."""
DEFAULT_TOO_SLOW = {("W5", "litellm"), ("W5", "silkloom"), ("W1", "litellm"), ("W1", "fenic")}
FEWER_ROWS = {
    **{(w, "litellm"): 1_000 for w in ("W1", "W2", "W3", "W5", "W7")},
    **{(w, "fenic"): 2_000 for w in ("W1", "W2", "W3")},
}
"""Where the full workload would take a peer minutes. Costs are given for each row."""
QUICK = ("W1", "W2", "W3", "W4E", "W4M", "W5", "W5X", "W6", "W7", "W8", "D1", "D2", "S3", "S4", "S5")
QUICK_PEERS_IN = ("W1", "W5", "W6")
QUICK_ROWS = {"W6": 250, "W7": 1_000, "W8": 1_000}


@dataclass(frozen=True)
class Cell:
    """One adapter on one workload."""

    adapter: str
    workload: Workload
    variant: Variant
    rows: int


def cells(adapters: Iterable[str], workloads: Iterable[str], *, quick: bool = False) -> list[Cell]:
    """What to run, workload by workload, so that what is compared is measured close together."""
    found = []
    for name in workloads:
        workload = WORKLOADS[name]
        for adapter in adapters:
            for variant in _variants(adapter, name, quick):
                rows = FEWER_ROWS.get((name, adapter), workload.rows)
                found.append(Cell(adapter, workload, variant, QUICK_ROWS.get(name, rows) if quick else rows))
    return found


def _variants(adapter: str, workload: str, quick: bool) -> tuple[Variant, ...]:
    if adapter == OWN:
        # Embeddings have no setting that our users would tune.
        if workload in ("W5", "W6") and not quick:
            return ("default", "tuned")
        return ("tuned",) if WORKLOADS[workload].kind == "chat" else ("default",)
    if quick and adapter in PEERS and workload not in QUICK_PEERS_IN:
        return ()
    if workload in OWN_ONLY or (adapter in WITHOUT_EMBEDDINGS and WORKLOADS[workload].kind == "embed"):
        return ()
    if adapter == CEILING:
        return () if WORKLOADS[workload].cached else ("tuned",)
    if workload in WITH_CACHE and adapter not in WITH_CACHE[workload]:
        return ()
    if workload in DEFAULTS_TOO and (workload, adapter) not in DEFAULT_TOO_SLOW and not quick:
        return ("default", "tuned")
    return ("tuned",)
