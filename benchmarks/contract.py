"""What an adapter is, and what it is told.

An adapter is a module in ``adapters/`` with

    IMPORT: str                      statement that a user of the library writes, timed for the table of imports
    PACKAGES: tuple[str, ...]        distributions whose versions belong to its results
    def setup(run: Run) -> None      not timed: imports, clients, settings
    def embed(texts, run)            n vectors: a matrix, a series or a list; None for a row that failed
    def chat(texts, run)             n strings; None for a row that failed

and optionally a function named like a workload in small letters, which then replaces ``embed`` or ``chat`` there. It
runs in an environment of its own, beside which only this folder, numpy and the standard library are there.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.workloads import Workload

CHAT_MODEL = "gpt-4o-mini"
EMBEDDING_MODEL = "text-embedding-3-small"


@dataclass
class Run:
    """One adapter on one workload."""

    workload: Workload
    base_url: str
    cache_dir: Path
    tuned: bool
    """Whether to set what ``in_flight`` and ``inputs_per_request`` say, or leave the library's defaults."""
    api_key: str = "sk-mock"
    chat_model: str = CHAT_MODEL
    embedding_model: str = EMBEDDING_MODEL
    state: dict[str, Any] = field(default_factory=dict)
    """What ``setup`` made for the adapter's other functions."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Anything that belongs into the result."""

    @property
    def cached(self) -> bool:
        return self.workload.cached

    @property
    def in_flight(self) -> int:
        return self.workload.in_flight

    @property
    def inputs_per_request(self) -> int:
        return self.workload.inputs_per_request

    @property
    def permitted_per_s(self) -> float:
        """The rate that the server permits, for libraries that are told it; 0 is no limit."""
        return float(self.workload.server.get("requests_per_s", 0))


def adapter(name: str) -> ModuleType:
    """The adapter's module, in the environment that has its library."""
    return importlib.import_module(f"benchmarks.adapters.{name}")


def call_of(module: ModuleType, workload: Workload) -> Callable[[list[str], Run], Any] | None:
    """The function of an adapter for this workload, ``None`` where it cannot do it."""
    return getattr(module, workload.name.lower(), None) or getattr(module, workload.kind, None)
