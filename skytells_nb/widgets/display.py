"""Where output goes: which of three ways of showing fits the place the code runs in, and the way into a cell.

``live`` updates one output, ``final`` publishes once at the end, ``plain`` writes to a text stream. The environment
variable ``SKYTELLS_NB_STREAM`` names one of them; ``auto`` (the default) looks around.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args

from skytells_nb.errors import ConfigurationError

Mode = Literal["live", "final", "plain"]
MODE_VARIABLE = "SKYTELLS_NB_STREAM"


class Publish(Protocol):
    """Sends one MIME bundle; with ``update`` it takes the place of the output with this display id."""

    def __call__(self, data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None: ...


def display_mode(asked: str = "auto", environment: Mapping[str, str] = os.environ) -> Mode:
    """The mode for output made here and now; ``asked`` comes before the environment.

    Raises ConfigurationError for a word that is no mode.
    """
    asked = asked if asked != "auto" else environment.get(MODE_VARIABLE, "").strip().lower() or "auto"
    if asked not in ("auto", *get_args(Mode)):
        raise ConfigurationError(f"{MODE_VARIABLE} is {asked!r}; use auto, live, final or plain.")
    shell = _shell()
    if shell is None or asked == "plain":
        return "plain"
    if asked == "live":
        return "live"
    # A %%capture would keep every update as an output of its own, and nbval (whose kernel inherits pytest's variable)
    # ignores updates: both get one output.
    captured = type(shell.display_pub).__name__ == "CapturingDisplayPublisher"
    if asked == "final" or captured or "PYTEST_CURRENT_TEST" in environment:
        return "final"
    return "plain" if any(c.__name__ == "TerminalInteractiveShell" for c in type(shell).__mro__) else "live"


def cell_publish() -> Publish:
    """The way into the output of the running cell.

    Not ``IPython.display.Markdown`` or ``HTML``: those read the file or fetch the address that their text names.
    """
    shell = _shell()
    if shell is None:
        raise ConfigurationError("There is no IPython here to publish to; use the mode plain.")
    publisher = shell.display_pub

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        publisher.publish(data, metadata, transient={"display_id": display_id}, update=update)

    return publish


def new_display_id() -> str:
    return f"skytells-{os.urandom(6).hex()}"


def _shell() -> Any:
    """The running IPython shell; asking does not import IPython where nobody else did."""
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    return get_ipython()
