"""An account that is closed, and a service that dies, in the middle of a run: one error, and what was paid stays."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from local_fakes import HoldingGenerator, fake_server
from served import KEY, connected, served, wait_until_idle

import skytells_nb as sky
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.engine.report import Report
from skytells_nb.engine.retry import RetryPolicy
from skytells_nb.errors import (
    APIError,
    AuthenticationError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    TransportError,
)
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults
from skytells_nb.progress.events import Progress

JOB = completion_job("gpt-5")
TEXTS = [f"say {n}" for n in range(400)]
IN_FLIGHT = 4
TRIES = 60
"""Requests that a run may spend on finding out that a service is down, whatever the number of its rows."""


@dataclass(frozen=True)
class Later(Faults):
    """No fault for the first requests, then this one, until it is healed."""

    fault: Faults = field(default_factory=Faults)
    first: int = 100
    healed: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        return Faults() if next(self.numbers) < self.first or self.healed.is_set() else self.fault


@pytest.mark.parametrize(
    ("status", "error"),
    [("401", AuthenticationError), ("402", PaymentRequiredError), ("403", PermissionDeniedError)],
)
def test_an_account_closed_in_flight_ends_the_run_at_once(tmp_path: Path, status: str, error: type[APIError]) -> None:
    """Each request in flight is rejected once, none is sent again; a run after it sends only the rest."""
    faults = Later(fault=Faults(status=status))
    ended: list[Report] = []
    with (
        fake_server(api_key=KEY, faults=faults) as server,
        connected(server, tmp_path / "c.sqlite", max_in_flight=IN_FLIGHT) as session,
    ):
        with pytest.raises(error) as caught:
            session.engine.run(JOB, TEXTS, on_end=ended.append)
        counts = wait_until_idle(server, "chat")
        assert counts.answered == faults.first == session.cache.stats().entries == ended[0].answered
        assert faults.first < counts.requests <= faults.first + IN_FLIGHT
        assert any("100 of 400 rows are answered" in note for note in caught.value.__notes__)
        faults.healed.set()
        outcome = session.engine.run(JOB, TEXTS)
        counts = wait_until_idle(server, "chat")
    assert outcome.report.sent == len(TEXTS) - faults.first
    assert (counts.distinct, counts.repeated) == (len(TEXTS), 0)
    assert [value and CachedCompletion.from_bytes(value).text for value in outcome.values] == TEXTS


@pytest.mark.timeout(240)
def test_a_server_stopped_in_flight_is_one_error(tmp_path: Path) -> None:
    """No one listens any more: the run ends after few tries and not with one failure for each row."""
    ended: list[Report] = []
    generator = HoldingGenerator(200)
    with served("latency=0.01", generator=generator) as server:

        def stop_midway(event: Progress) -> None:
            if event.done >= 100 and server.running:
                server.stop()
                generator.go.set()

        with connected(server, tmp_path / "c.sqlite", max_in_flight=IN_FLIGHT) as session:
            session.engine._retry = RetryPolicy(retries=3)  # three probes, which is seconds less than five
            with pytest.raises(TransportError):
                session.engine.run(JOB, TEXTS, on_progress=stop_midway, on_end=ended.append)
            (report,) = ended
            assert 100 <= report.answered == session.cache.stats().entries < len(TEXTS)
    assert report.state == "failed"
    assert report.requests - report.answered <= TRIES
    assert report.failed <= 10 + IN_FLIGHT


class SilentService:
    """A socket that takes every request and answers none; counts them."""

    def __init__(self) -> None:
        self.requests = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._lock = threading.Lock()

    def __enter__(self) -> SilentService:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(65_536):
                with self._lock:
                    self.requests += piece.count(b"POST ")


@pytest.mark.timeout(240)
def test_a_silent_service_is_one_error_and_not_a_timeout_for_each_row(tmp_path: Path) -> None:
    ended: list[Report] = []
    with SilentService() as service:
        session = sky.connect(
            KEY, base_url=service.base_url, cache=tmp_path / "c.sqlite", max_in_flight=IN_FLIGHT, timeout=1.0
        )
        with session, pytest.raises(RequestTimeoutError):
            session.engine.run(JOB, TEXTS, on_end=ended.append)
        deadline = time.monotonic() + 60
        while service.requests < ended[0].requests:  # a thread of the service reads the last one a moment later
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert 0 < service.requests <= TRIES
        assert ended[0].requests == service.requests
    assert ended[0].failed <= 10 + IN_FLIGHT
    assert ended[0].skipped >= len(TEXTS) - 10 - IN_FLIGHT


def test_a_wait_of_a_day_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    """The daily quota is used up: what was answered before is stored."""
    faults = Later(fault=Faults(status="429", huge_retry_after=True))
    with (
        fake_server(api_key=KEY, faults=faults) as server,
        connected(server, tmp_path / "c.sqlite", max_in_flight=IN_FLIGHT) as session,
    ):
        with pytest.raises(RateLimitError) as caught:
            session.engine.run(JOB, TEXTS)
        counts = wait_until_idle(server, "chat")
        assert faults.first < counts.requests <= faults.first + IN_FLIGHT
        assert session.cache.stats().entries == counts.answered == faults.first
        assert "asks to wait 24 hours: the account's quota is probably used up" in str(caught.value)


def test_a_limit_of_a_day_that_is_used_up_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    """Hardly anything is rejected: the headers say it. All of the limit was used at once, and what came is stored."""
    limits = LimitOptions(30, 86_400.0)
    with served(limits=limits) as server, connected(server, tmp_path / "c.sqlite", max_in_flight=4) as session:
        with pytest.raises(
            RateLimitError, match=r"30 requests per 86400 s permits the next .* in about [12]\d(\.\d)? hours"
        ):
            session.engine.run(JOB, TEXTS)
        counts = wait_until_idle(server, "chat")
        assert session.cache.stats().entries == counts.answered
        assert 29 <= counts.answered <= 30
        assert counts.requests <= counts.answered + 1


def test_endless_rejections_are_an_error_once_patience_is_over(tmp_path: Path) -> None:
    """The limit of 15 minutes is set to a second and a half here; nothing but rejections came in that time."""
    ended: list[Report] = []
    with (
        fake_server(api_key=KEY, faults=Later(fault=Faults(status="429", retry_after="0"))) as server,
        connected(server, tmp_path / "c.sqlite", max_in_flight=IN_FLIGHT) as session,
    ):
        session.engine._retry = RetryPolicy(rate_limit_patience=1.5)
        with pytest.raises(RateLimitError) as caught:
            session.engine.run(JOB, TEXTS, on_end=ended.append)
        counts = wait_until_idle(server, "chat")
        assert session.cache.stats().entries == counts.answered == 100
        # The first rejection did not end it, whatever kept the others from being sent.
        assert counts.statuses[429] >= 2
        assert ended[0].seconds > 1.5
    assert "rejected by the account's limit" in str(caught.value)
