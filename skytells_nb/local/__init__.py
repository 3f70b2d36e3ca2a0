"""A local Skytells server: the whole API on loopback, backed by small models on this machine."""

from __future__ import annotations

from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer, serve

__all__ = ["Faults", "LimitOptions", "LocalServer", "serve"]
