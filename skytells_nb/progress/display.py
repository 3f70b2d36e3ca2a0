"""Display modes: which of three fits the front end, and how to publish to a cell.

``live`` updates one output, ``final`` publishes once at the end, ``plain`` writes to a text stream. The environment
variable ``SKYTELLS_NB_STREAM`` names one of them; ``auto`` (the default) chooses by the front end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, get_args

from skytells_nb.errors import ConfigurationError
from skytells_nb.progress.line import Mode, Publish

MODE_VARIABLE = "SKYTELLS_NB_STREAM"


def display_mode(requested: str = "auto", environment: Mapping[str, str] = os.environ) -> Mode:
    """Return the display mode; ``requested`` takes precedence over the environment.

    Raises ConfigurationError for an unknown mode.
    """
    requested = requested if requested != "auto" else environment.get(MODE_VARIABLE, "").strip().lower() or "auto"
    if requested not in ("auto", *get_args(Mode)):
        raise ConfigurationError(f"{MODE_VARIABLE} must be auto, live, final or plain, got {requested!r}.")
    shell = running_shell()
    if shell is None or requested == "plain":
        return "plain"
    if requested == "live":
        return "live"
    # %%capture would record every update as a separate output, and nbval (whose kernel inherits pytest's variable)
    # ignores updates: both get one output.
    captured = type(shell.display_pub).__name__ == "CapturingDisplayPublisher"
    if requested == "final" or captured or "PYTEST_CURRENT_TEST" in environment:
        return "final"
    return "plain" if any(c.__name__ == "TerminalInteractiveShell" for c in type(shell).__mro__) else "live"


def cell_publish() -> Publish:
    """Return a function that publishes to the output of the running cell.

    ``IPython.display.Markdown`` and ``HTML`` are not used: they read a file or fetch a URL that their text names.
    """
    shell = running_shell()
    if shell is None:
        raise ConfigurationError("IPython is not running, so nothing can be published; use the mode plain.")
    publisher = shell.display_pub

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        publisher.publish(data, metadata, transient={"display_id": display_id}, update=update)

    return publish


def new_display_id() -> str:
    return f"skytells-{os.urandom(6).hex()}"


def running_shell() -> Any:
    """Return the running IPython shell; where IPython is not imported, none runs."""
    get_ipython = getattr(sys.modules.get("IPython.core.getipython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()
