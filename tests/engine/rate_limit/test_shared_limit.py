"""Several processes on one account, who know nothing of each other; simulated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Simulation

from skytells_nb.local.api.rate_limits import LimitOptions


@pytest.mark.parametrize("kind", ["fixed", "bucket"])
@pytest.mark.parametrize(("requests", "window", "latency"), [(25, 60.0, 1.0), (50, 1.0, 0.05), (200, 1.0, 0.05)])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_use_up_the_limit_and_share_it(
    kind: str, requests: int, window: float, latency: float, processes: int
) -> None:
    limits = LimitOptions(requests, window, kind=kind)  # type: ignore[arg-type]
    simulation = Simulation(limits, processes, latency=latency).run(31 * window)
    assert simulation.use(window, 30 * window) >= 0.94
    assert simulation.refused <= 0.02
    counts = simulation.counts(10 * window, 30 * window)
    assert sum(counts) ** 2 / (processes * sum(count**2 for count in counts)) >= 0.85


@settings(deadline=None, max_examples=25)
@given(
    st.integers(20, 200), st.sampled_from(["fixed", "bucket"]), st.integers(2, 4), st.floats(0, 6), st.integers(0, 99)
)
def test_each_process_makes_progress_whenever_it_started(
    requests: int, kind: str, processes: int, late: float, seed: int
) -> None:
    limits = LimitOptions(requests, 2.0, kind=kind)  # type: ignore[arg-type]
    starts = [late * number for number in range(processes)]
    simulation = Simulation(limits, processes, starts=starts, seed=seed).run(60)
    counts = simulation.counts(40, 58)
    assert min(counts) >= 0.02 * sum(counts)
    assert simulation.use(20, 58) >= 0.8
    assert simulation.refused <= 0.08


@pytest.mark.parametrize("kind", ["fixed", "bucket"])
def test_a_process_that_stays_gets_what_another_leaves(kind: str) -> None:
    limits = LimitOptions(50, 2.0, kind=kind)  # type: ignore[arg-type]
    simulation = Simulation(limits, 2, ends=[1e9, 20.5]).run(61)
    assert simulation.counts(26, 60)[1] == 0
    assert simulation.use(26, 60) >= 0.95


def test_a_rejected_request_is_admitted_later() -> None:
    """Every row of every process is answered in the end."""
    simulation = Simulation(LimitOptions(10, 1.0), 3, rows=40).run(60)
    assert [len(process.admitted) for process in simulation.processes] == [40, 40, 40]
