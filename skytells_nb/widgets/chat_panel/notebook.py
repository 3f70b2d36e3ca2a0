"""The notebook around a panel: its variables, and its next cell."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from skytells_nb.errors import InputError
from skytells_nb.widgets.display import running_shell

MAX_NAMES = 200
HIDDEN_NAMES = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})


def notebook_variables() -> dict[str, Any]:
    """Return the notebook's variables; none outside of IPython."""
    shell = running_shell()
    return {} if shell is None else dict(shell.user_ns)


def notebook_variable(name: str) -> Any:
    """Return the notebook's variable of this name; raises InputError if there is none.

    Only a whole name is looked up: no expression, attribute or path.
    """
    variables = notebook_variables()
    if name not in variables:
        raise InputError(
            f"The notebook must have the variable to attach, got {name[:60]!r}; run the cell that makes it."
        )
    return variables[name]


def attachable_names(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the notebook's variables that may be attached, the newest first, without their values."""
    names = [
        name
        for name, value in variables.items()
        if not name.startswith("_")
        and name not in HIDDEN_NAMES
        and not isinstance(value, (ModuleType, type))
        and not callable(value)
        and not hasattr(type(value), "_ipython_display_")
    ]
    return names[::-1][:MAX_NAMES]


def put_into_new_cell(text: Any) -> str:
    """Have the front end put code into a new cell, not run, and say where it will be.

    Raises InputError where no front end makes cells, such as in a terminal.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("The new cell must have some code, got none.")
    shell = running_shell()
    if shell is None or not hasattr(shell, "payload_manager") or not hasattr(shell, "kernel"):
        raise InputError("This front end makes no cells for a panel; the code is in the clipboard, to be pasted.")
    shell.set_next_input(text, replace=False)
    # It travels with the reply to a cell, and a message of a widget has none.
    return "It comes into a new cell below the next cell that you run; it is in the clipboard too."
