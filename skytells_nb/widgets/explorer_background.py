"""Work that a page asked for and that waits for the service."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from skytells_nb.errors import InputError
from skytells_nb.widgets.explorer_view import ExplorerView


def in_background(view: ExplorerView, what: str, work: Callable[[], object]) -> None:
    """Do it in a thread: a kernel that waits for the service hears neither the page nor the user.

    ``view.busy`` says what is under way, ``view.status`` why it failed. Raises InputError while something else is.
    """
    if view.busy:
        raise InputError("Something is under way already; wait for it.")
    view.busy = what

    def run() -> None:
        try:
            work()
        except Exception as problem:  # it belongs on the page, which has no cell to fail
            view.status = f"{type(problem).__name__}: {problem}"
        finally:
            view.busy = ""

    # The copied context tells the kernel which cell the thread's output belongs to.
    threading.Thread(target=contextvars.copy_context().run, args=(run,), name="skytells-explorer", daemon=True).start()
