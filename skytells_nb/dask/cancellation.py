"""The end of what a partition sends, once no one waits for its result any more."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from dask.callbacks import Callback

from skytells_nb.engine.engine import Engine
from skytells_nb.errors import RequestCancelledError
from skytells_nb.session import Session

CANCEL_POLL_S = 0.2
"""How often a task looks whether it was cancelled."""


@contextlib.contextmanager
def ends_when_cancelled(session: Session, cache: Any, topic: str) -> Iterator[None]:
    """End what this thread sends in the block once its task is cancelled, and let the task be scheduled again if so.

    On threads of this process it ends with the computation, at Ctrl-C and where another partition has failed.
    """
    is_cancelled = _cancellation()
    if is_cancelled is None:
        with _on_threads(topic) as ended, _watched(session.engine_for(cache), ended.is_set):
            if ended.is_set():
                raise RequestCancelledError("The computation had ended before this partition began.")
            yield
        return
    with _watched(session.engine_for(cache), is_cancelled) as cancelled:
        try:
            yield
        except RequestCancelledError:
            if not cancelled.is_set():
                raise
            from distributed import Reschedule

            # It matters only where the same task was asked for again meanwhile.
            raise Reschedule from None


@contextlib.contextmanager
def _watched(engine: Engine, is_cancelled: Callable[[], bool]) -> Iterator[threading.Event]:
    """End whatever run this thread begins in the block once it is cancelled; yield whether it was."""
    done, cancelled, thread = threading.Event(), threading.Event(), threading.get_ident()

    def watch() -> None:
        while not done.wait(CANCEL_POLL_S):
            if is_cancelled():
                cancelled.set()
                # Again each time: a method may have several runs, and may be between two of them.
                engine.cancel(thread)

    watcher = threading.Thread(target=watch, name="skytells-dask", daemon=True)
    watcher.start()
    try:
        yield cancelled
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
        # One whose scheduler is gone closes; its threads would go on meanwhile.
        task, is_closing = worker.state.tasks.get(key), worker.status.name in ("closing", "closed", "failed")
        return task is None or task.state == "cancelled" or is_closing

    return is_cancelled


@dataclass(eq=False)
class _Computation:
    """A computation on threads of this process; ``ended`` is set once it was interrupted, or has failed."""

    outer: _Computation | None
    ended: threading.Event = field(default_factory=threading.Event)


_computation: ContextVar[_Computation | None] = ContextVar("_computation", default=None)
"""The one that a thread works for: Dask's own pools pass the context of the caller on to their threads."""
_others: set[tuple[str, threading.Event]] = set()
"""The topics of calls of partitions on threads that do not know their computation, and what ends each."""
_lock = threading.Lock()


@contextlib.contextmanager
def _on_threads(topic: str) -> Iterator[threading.Event]:
    """Yield what is set when the computation of this thread has ended."""
    watch_computations()
    computation = _computation.get()
    if computation is not None:
        yield computation.ended
        return
    call = (topic, threading.Event())
    with _lock:
        _others.add(call)
    try:
        yield call[1]
    finally:
        with _lock:
            _others.discard(call)


class _EndsWithComputation(Callback):
    """Ends the calls of a computation on threads: their tasks would go on where it was interrupted, or has failed.

    Those too that have not begun to send, whose threads come to it later.
    """

    def _start(self, dsk: Mapping[Any, Any]) -> None:
        _let_ctrl_c_wake()
        _computation.set(_Computation(_computation.get()))

    def _finish(self, dsk: Mapping[Any, Any], state: Mapping[str, Any], errored: bool) -> None:
        computation = _computation.get()
        if computation is not None:
            _computation.set(computation.outer)
        if not errored:
            return
        if computation is not None:
            computation.ended.set()
        topics = {topic for key in state.get("running", ()) for topic in _topics_in(dsk.get(key))}
        with _lock:
            ended = [event for other, event in _others if other in topics]
        for event in ended:
            event.set()


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


_ENDS_WITH_COMPUTATION = _EndsWithComputation()  # type: ignore[no-untyped-call]


def watch_computations() -> None:
    """Let computations on threads of this process end their calls.

    Dask forgets what watches all computations where two run at the same time, so this is said for each call again.
    """
    _let_ctrl_c_wake()
    _ENDS_WITH_COMPUTATION.register()


def _let_ctrl_c_wake() -> None:
    """Let Ctrl-C end a wait for a lock, as Python does; ``import polars`` sets that such waits go on instead.

    Dask waits for its threads without an end, so Ctrl-C would be seen only when a partition is done.
    """
    if hasattr(signal, "siginterrupt"):  # not on Windows, where Dask waits in short steps
        signal.siginterrupt(signal.SIGINT, True)


watch_computations()
