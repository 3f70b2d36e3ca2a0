"""The threads of one run: which of them sends what, and how they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skytells_nb.client.client import Skytells
from skytells_nb.engine.context import RunContext
from skytells_nb.engine.planning import PlannedRequest, RunCounters
from skytells_nb.engine.request_sender import RequestSender, StoreFailed
from skytells_nb.engine.results import Values
from skytells_nb.engine.single_flight import ClaimQueue, WakeEvent
from skytells_nb.errors import SkytellsError, TooManyOpenFilesError, warn

GRACE_S = 0.2
"""Time that requests in flight have to finish once the run is interrupted."""
TICK_S = 0.1
FILE_RETRIES = 20
FILE_WAIT_S = 0.5
"""How often, and after how long, a run that can open no connection at all tries again."""


class WorkerPool:
    """Sends requests with as many threads as the rate limiter lets run at once.

    ``claim`` is given requests that are about to be sent, and returns those to send: without the inputs that are
    answered or in flight elsewhere; it is ``None`` where no other run can send them. ``holds_claims`` is whether they
    are still to be sent. ``store`` and ``release`` are those of ``RequestSender``. ``tick`` is called about every
    ``TICK_S`` seconds meanwhile.

    ``run`` returns when every input has a result or an error. An error that concerns the whole account, a service that
    is down or a spent budget ends the run: nothing more is sent, requests in flight are stored, then it is raised.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        store: Callable[[NDArray[np.int64], Values], None],
        release: Callable[[NDArray[np.int64]], None],
        tick: Callable[[], None],
        claim: Callable[[Sequence[PlannedRequest]], Sequence[PlannedRequest]] | None,
        holds_claims: Callable[[], bool],
    ) -> None:
        self.counters = RunCounters()
        self._context = context
        self._tick = tick
        self._max_threads = context.rate_limiter.max_in_flight
        self.lock = threading.Lock()
        """For the counters, the queue and the threads."""
        self.stopped = threading.Event()
        self._queue = ClaimQueue(self.lock, claim, holds_claims, lambda request: len(request.numbers))
        self._last_thread_ended = WakeEvent()
        self._fatal: Exception | None = None
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()
        """Threads that take no more requests."""
        self._busy: set[Skytells] = set()
        self._out_of_files: TooManyOpenFilesError | None = None
        self._sending: set[threading.Thread] = set()
        """Threads that have taken a request from the queue."""
        self._sender = RequestSender(context, self, store=store, release=release)

    def run(self, requests: Sequence[PlannedRequest]) -> None:
        """Send everything; on KeyboardInterrupt abort the connections and raise it again within a second."""
        self._queue.add(requests)
        try:
            while self._add_worker_for_rest():
                while self._wait(TICK_S):
                    self._tick()
                    self._check_quota()
        except KeyboardInterrupt:
            self._cancel()
            raise
        except BaseException:
            # Not the requests' fault: those in flight are paid for, so they are stored.
            self.stopped.set()
            while self._wait(TICK_S):
                pass
            raise
        finally:
            self._sender.close()
        if self._out_of_files is not None:
            problem, self._out_of_files = self._out_of_files, None
            warn(f"{problem} The run continued with {self._max_threads} requests in flight.")
        if self._fatal is not None:
            raise self._fatal

    def abort(self) -> None:
        """Close the connections of the requests in flight, from any thread."""
        # Under the lock: a client that is given back meanwhile would be taken by the next run, and aborted there.
        with self.lock:
            for client in self._busy:
                client.abort()

    @property
    def fatal(self) -> Exception | None:
        """The error that ends the run, ``None`` while there is none."""
        return self._fatal

    def snapshot(self) -> RunCounters:
        """Return a copy of the counters; a worker that was left behind may still change the original."""
        with self.lock:
            return replace(self.counters, errors=dict(self.counters.errors), timeline=self.counters.timeline.copy())

    def end(self, problem: Exception) -> None:
        """Send nothing more; ``run`` raises this once the requests in flight are stored."""
        with self.lock:
            self._fatal = self._fatal or problem
            self.stopped.set()

    def record_errors(self, numbers: NDArray[np.int64], problem: Exception) -> None:
        """Count these inputs as failed, for this reason."""
        rows = int(self._context.weights[numbers].sum())
        with self.lock:
            self.counters.errors.update((number, problem) for number in numbers.tolist())
            self.counters.rows_done += rows
            self.counters.rows_failed += rows

    @property
    def has_queued(self) -> bool:
        """Whether more requests wait; called with ``lock`` held."""
        return bool(self._queue)

    def put_back(self, requests: Sequence[PlannedRequest]) -> None:
        """Queue these requests before all others."""
        with self.lock:
            self._queue.put_back(requests)
        # Threads that found the queue empty have ended.
        self.add_worker()

    def add_worker(self) -> None:
        """Start one more thread if there is work for it: as many threads as requests really overlap."""
        with self.lock:
            if len(self._threads) >= self._max_threads or self.stopped.is_set() or not self._queue:
                return
            if self._sender.searching_size and self._threads:
                return
            thread = threading.Thread(target=self._worker, name="skytells-worker", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except BaseException as problem:
                self._threads.discard(thread)
                if self._threads:
                    return
                if isinstance(problem, RuntimeError):
                    raise SkytellsError(
                        f"Requests are sent in threads, and none can start here ({problem}). In a browser replay a "
                        'recording instead: connect(cache="replay:FILE").'
                    ) from None
                raise

    def _add_worker_for_rest(self) -> bool:
        """Start a thread if there is anything left to send, which the last thread to end may have missed."""
        with self.lock:
            if self.stopped.is_set() or not self._queue:
                return False
        self.add_worker()
        return True

    def _wait(self, seconds: float) -> bool:
        """Wait for the last thread to end; return whether any is still running."""
        if self._threads:
            self._last_thread_ended.wait(seconds)
        return bool(self._threads)

    def _cancel(self) -> None:
        self.stopped.set()
        try:
            deadline = time.monotonic() + GRACE_S
            while time.monotonic() < deadline and self._wait(0.02):
                pass
        finally:
            # A second Ctrl-C ends the wait, and must not leave paid requests in flight.
            self.abort()
        deadline = time.monotonic() + 2 * GRACE_S
        while time.monotonic() < deadline and self._wait(0.02):
            pass

    def _worker(self) -> None:
        client: Skytells | None = None
        try:
            while (request := self._next()) is not None:
                if client is None:
                    client = self._take_client(None)
                try:
                    self._sender.send(request, client)
                except TooManyOpenFilesError as problem:
                    # An idle client may have a connection.
                    client = self._take_client(client)
                    if not self._go_on_without_files(request, problem):
                        break
                finally:
                    with self.lock:
                        self._sending.discard(threading.current_thread())
        except StoreFailed as failure:
            self.end(failure.cause)
        except Exception as problem:
            self.end(problem)
        finally:
            with self.lock:
                if client is not None:
                    self._busy.discard(client)
                self._threads.discard(threading.current_thread())
                self._leaving.discard(threading.current_thread())
                if not self._threads:
                    self._last_thread_ended.set()
            if client is not None:
                self._context.clients.release(client)

    def _take_client(self, before: Skytells | None) -> Skytells:
        """Return a client for this thread, another one than ``before``, which is given back."""
        client = self._context.clients.acquire()
        with self.lock:
            self._busy.add(client)
            if before is not None:
                self._busy.discard(before)
        if before is not None:
            self._context.clients.release(before)
        return client

    def _next(self) -> PlannedRequest | None:
        """Return the next request to send; claim some when none is left that is claimed."""
        while True:
            with self.lock:
                # While it is found out how much the service takes, the thread that sends takes the next one too.
                waits = self._sender.searching_size and self._sending
                if waits or self.stopped.is_set() or not self._queue:
                    self._leaving.add(threading.current_thread())
                    return None
                request = self._queue.pop()
                if request is not None:
                    self._sending.add(threading.current_thread())
                    request, *others = self._sender.fitting_parts(request)
                    self._queue.put_back(others)
                    return request
            self._queue.claim(self.stopped.is_set)

    def _go_on_without_files(self, request: PlannedRequest, problem: TooManyOpenFilesError) -> bool:
        """Leave the request to the threads that have a connection; return whether this one is to try again itself.

        Nothing was sent and the service is not at fault, so it counts as no attempt.
        """
        this_thread = threading.current_thread()
        with self.lock:
            # In the same step as the queue: a thread that asks for work in between would end for nothing.
            self._sending.discard(this_thread)
            self.counters.requests -= 1
            if self.stopped.is_set():
                return False
            self._queue.put_back([request])
            others = len(self._threads - self._leaving - {this_thread})
            if others:
                self._max_threads = max(1, min(self._max_threads, others))
                self._leaving.add(this_thread)
                self._out_of_files = problem
                return False
        request.failures += 1
        if request.failures > FILE_RETRIES:
            self.end(problem)
            return False
        return not self.stopped.wait(FILE_WAIT_S)

    def _check_quota(self) -> None:
        """End the run if the next request is only permitted after a wait beyond ``rate_limit_patience``."""
        limiter = self._context.rate_limiter
        problem = self._context.retry.quota_exhausted(limiter.seconds_to_next, limiter.limit_text)
        if problem is not None:
            self.end(problem)
