"""The end of what a partition sends, once no one waits for its result any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dask.callbacks import Callback

from skytells_nb.engine.engine import Engine
from skytells_nb.errors import RequestCancelledError
from skytells_nb.session import Session

CANCEL_POLL_S = 0.2
"""How often a task looks whether it was cancelled."""

_running: set[tuple[str, Engine, int]] = set()
"""The calls that partitions make in this process: the topic of each, its engine and its thread."""
_lock = threading.Lock()


@contextlib.contextmanager
def ends_when_cancelled(session: Session, cache: Any, topic: str) -> Iterator[None]:
    """End what this thread sends in the block once its task is cancelled, and let the task be scheduled again if so.

    On threads of this process it ends with the computation, at Ctrl-C and where another partition has failed.
    """
    engine, thread, is_cancelled = session.engine_for(cache), threading.get_ident(), _cancellation()
    if is_cancelled is None:
        with _lock:
            _running.add((topic, engine, thread))
        try:
            yield
        finally:
            with _lock:
                _running.discard((topic, engine, thread))
        return
    done, cancelled = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(CANCEL_POLL_S):
            if is_cancelled():
                cancelled.set()
                engine.cancel(thread)

    watcher = threading.Thread(target=watch, name="skytells-dask", daemon=True)
    watcher.start()
    try:
        yield
    except RequestCancelledError:
        if not cancelled.is_set():
            raise
        from distributed import Reschedule

        # It matters only where the same task was asked for again meanwhile.
        raise Reschedule from None
    finally:
        done.set()
        watcher.join()


def _cancellation() -> Callable[[], bool] | None:
    """Return what tells whether the task of this thread was cancelled; ``None`` outside a task of a worker."""
    try:
        from distributed import get_worker
        from distributed.worker import thread_state  # type: ignore[attr-defined]

        worker, key = get_worker(), thread_state.key
    except (ImportError, ValueError, AttributeError):
        return None

    def is_cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return is_cancelled


class _EndsWithComputation(Callback):
    """Ends the calls of a computation on threads: their tasks would go on where it was interrupted, or has failed."""

    def _finish(self, dsk: Mapping[Any, Any], state: Mapping[str, Any], errored: bool) -> None:
        if not errored:
            return
        topics = {topic for key in state["running"] for topic in _topics_in(dsk.get(key))}
        with _lock:
            ended = [(engine, thread) for topic, engine, thread in _running if topic in topics]
        for engine, thread in ended:
            engine.cancel(thread)


def _topics_in(task: Any) -> Iterator[str]:
    """Yield the topics of the calls in a task, which may be several that Dask has joined."""
    stack = [task]
    while stack:
        part = stack.pop()
        if isinstance(part, Mapping):
            stack.extend(part.values())
        elif isinstance(part, (list, tuple)):
            stack.extend(part)
        elif hasattr(part, "func") and hasattr(part, "args"):
            topic = getattr(part.func, "topic", None)
            if isinstance(topic, str):
                yield topic
            stack.append(part.args)


_EndsWithComputation().register()  # type: ignore[no-untyped-call]
