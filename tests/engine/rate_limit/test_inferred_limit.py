"""A limit that no header reports: found by one process, shared by several; simulated."""

from __future__ import annotations

import json
import math
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Clock, EventLimiter, MemoryPeers, Simulation

from skytells_nb.engine.rate_limit.adaptive import AdaptiveRate
from skytells_nb.engine.rate_limit.group import EXPIRY_S, RateGroup, share_of
from skytells_nb.engine.rate_limit.inferred_limit import InferredLimit, Opening
from skytells_nb.local.api.rate_limits import LimitOptions


def fairness(counts: list[int]) -> float:
    """Return Jain's index: 1 is equal."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


@pytest.mark.parametrize("kind", ["fixed", "bucket"])
@pytest.mark.parametrize("requests", [20, 60, 200])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_find_and_share_a_limit_that_nothing_tells(kind: str, requests: int, processes: int) -> None:
    limits = LimitOptions(requests, 1.0, kind=kind, headers=False)  # type: ignore[arg-type]
    simulation = Simulation(limits, processes, max_in_flight=32, peers=MemoryPeers()).run(31)
    assert simulation.use(1, 30) >= 0.9
    assert simulation.refused <= 0.02
    assert fairness(simulation.counts(1, 30)) >= 0.95


@pytest.mark.parametrize("requests", [20, 60])
def test_processes_that_begin_together_share_their_first_burst(requests: int) -> None:
    """On a slow network most of what is rejected is on its way when the first rejection comes."""
    limits = LimitOptions(requests, 1.0, headers=False)

    def rejected(peers: MemoryPeers | None) -> float:
        simulation = Simulation(limits, 4, max_in_flight=32, peers=peers, network=0.02).run(1)
        return sum(len(process.refused) for process in simulation.processes)

    assert rejected(MemoryPeers()) <= 0.6 * rejected(None)


def test_one_that_begins_alone_takes_all_of_its_first_burst() -> None:
    limits = LimitOptions(200, 1.0, headers=False)
    alone, together = (Simulation(limits, peers=peers).run(1).counts(0, 1) for peers in (None, MemoryPeers()))
    assert alone == together


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(
    "limits",
    [
        LimitOptions(60, 1.0, kind="bucket", burst=15, headers=False),
        LimitOptions(120, 2.0, headers=False),
        LimitOptions(120, 2.0, kind="bucket", headers=False),
        LimitOptions(60, 1.0, headers=False, retry_after_ms=True),
    ],
    ids=["small bursts", "2 s", "large bursts", "windows to the ms"],
)
def test_whatever_its_bursts_and_pauses_are(limits: LimitOptions, processes: int) -> None:
    simulation = Simulation(limits, processes, max_in_flight=32, peers=MemoryPeers()).run(41)
    assert simulation.use(2, 40) >= 0.88
    assert simulation.refused <= 0.05


@pytest.mark.parametrize("requests", [20, 60, 200])
def test_a_pause_of_milliseconds_shows_no_window(requests: int) -> None:
    limits = LimitOptions(requests, 1.0, kind="bucket", headers=False, retry_after_ms=True)
    simulation = Simulation(limits, max_in_flight=32).run(41)
    assert simulation.use(2, 40) >= 0.88
    assert simulation.refused <= 0.05


def test_a_limit_of_a_minute_is_found_too() -> None:
    for kind in ("fixed", "bucket"):
        limits = LimitOptions(25, 60.0, kind=kind, headers=False)  # type: ignore[arg-type]
        simulation = Simulation(limits, latency=1.0).run(1201)
        assert simulation.use(60, 1200) >= 0.9


def test_one_that_is_left_gets_the_whole_limit_and_one_that_comes_its_part() -> None:
    limits = LimitOptions(60, 1.0, kind="bucket", headers=False)
    simulation = Simulation(
        limits, 3, max_in_flight=32, starts=[0, 0, 20], ends=[1e9, 10, 1e9], peers=MemoryPeers()
    ).run(41)
    _, second, late = simulation.processes
    assert simulation.use(10 + EXPIRY_S, 20) >= 0.9
    together = simulation.counts(23, 40)
    assert together[1] == 0
    assert fairness([together[0], together[2]]) >= 0.95
    # It was told the limit, so it does not look for it.
    assert len(late.refused) <= 2
    assert second.admitted


def test_who_needs_less_leaves_the_rest_to_the_others() -> None:
    limits = LimitOptions(60, 1.0, kind="bucket", headers=False)
    simulation = Simulation(limits, 2, max_in_flight=32, peers=MemoryPeers())
    # One request in flight at a time, of 0.05 s on average: at most 20 a second.
    simulation.processes[1].limiter.configure(1, None, None)
    simulation.latency = 0.2
    simulation.run(41)
    counts = simulation.counts(15, 40)
    assert counts[1] <= 6 * 25
    assert sum(counts) >= 0.85 * 60 * 25


@pytest.mark.parametrize("limits", [LimitOptions(), LimitOptions(50, 1.0)], ids=["no limit", "a reported limit"])
def test_nothing_is_exchanged_after_the_first_burst_where_nothing_needs_to_be(limits: LimitOptions) -> None:
    peers = MemoryPeers()
    simulation = Simulation(limits, 2, max_in_flight=16, peers=peers).run(10)
    assert peers.exchanges <= 50
    assert not peers.records
    assert all(process.limiter.adaptive.ceiling == math.inf for process in simulation.processes)


def test_a_store_that_loses_every_record_leaves_each_alone() -> None:
    class Forgetful(MemoryPeers):
        def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
            return {}

    limits = LimitOptions(60, 1.0, kind="bucket", headers=False)
    simulation = Simulation(limits, 2, max_in_flight=32, peers=Forgetful()).run(31)
    assert simulation.use(5, 30) >= 0.7
    assert simulation.refused <= 0.1


def known(number: int = 3, ceiling: float = 50.0) -> InferredLimit:
    return InferredLimit(number, ceiling, 1.0, Opening(50.0, 0.1, 1.0))


def group_with(peers: MemoryPeers, clock: Clock, limit: InferredLimit) -> tuple[RateGroup, AdaptiveRate]:
    group, adaptive = RateGroup(peers, b"topic", wall=clock), AdaptiveRate()
    if limit.number:
        adaptive.adopt(limit, clock.now)
    group.apply(adaptive, clock.now, group.exchange(group.record(adaptive, clock.now)))
    return group, adaptive


@given(st.dictionaries(st.binary(min_size=1, max_size=16), st.binary(max_size=200), max_size=4))
def test_a_damaged_record_changes_nothing(records: dict[bytes, bytes]) -> None:
    clock = Clock()
    group, adaptive = group_with(MemoryPeers(), clock, known())
    assert not group.apply(adaptive, clock.now, records)
    assert (adaptive.share, adaptive.limit) == (1.0, known())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(["at", "limit", "opening", "since", "resumes_in", "sent", "demand"]), json_values)
def test_a_record_with_any_member_wrong_stalls_nobody(member: str, value: object) -> None:
    peers, clock = MemoryPeers(), Clock()
    other, _ = group_with(peers, clock, known(4, 20.0))
    record = json.loads(peers.records[other.owner])
    record[member] = value
    group, adaptive = group_with(MemoryPeers(), clock, known())
    group.apply(adaptive, clock.now, {b"other": json.dumps(record).encode()})
    assert 0 < adaptive.share <= 1
    assert 0.2 <= adaptive.limit.ceiling < math.inf
    assert math.isfinite(adaptive.others_sent(clock.now))


def test_a_record_from_before_the_clock_was_set_back_does_not_count() -> None:
    peers, clock = MemoryPeers(), Clock()
    group_with(peers, clock, known(9, 10.0))
    clock.now -= 3600
    assert group_with(peers, clock, known())[1].limit == known()
    clock.now += 3600 + EXPIRY_S + 1
    assert group_with(peers, clock, known())[1].limit == known()


def test_the_rejection_that_came_first_counts_once() -> None:
    """Two processes were rejected at the same time: neither lowers the rate for the other's, too."""
    peers, clock = MemoryPeers(), Clock()
    one, first = group_with(peers, clock, known(3, 50.0))
    clock.now += 0.01
    two, second = group_with(peers, clock, known(3, 40.0))
    for group, adaptive in ((two, second), (one, first)):
        group.apply(adaptive, clock.now, group.exchange(group.record(adaptive, clock.now)))
    assert first.limit == second.limit == known(3, 50.0)


@given(st.lists(st.floats(0.1, 100) | st.just(math.inf), max_size=6), st.floats(1, 300))
def test_shares_follow_demand_and_leave_nothing(demands: list[float], rate: float) -> None:
    share = share_of(rate, demands)
    others = sum(min(demand, share * rate) for demand in demands)
    assert share * rate + others == pytest.approx(rate)
    assert share >= 1 / (len(demands) + 1) - 1e-9


def test_a_pause_that_another_was_told_holds_this_process_too() -> None:
    peers, clock = MemoryPeers(), Clock()
    limiters = [EventLimiter(max_in_flight=8, clock=clock) for _ in range(2)]
    for limiter in limiters:
        limiter.join(partial(RateGroup, peers, b"topic", wall=clock))
        assert limiter.acquire(lambda: False)
    rejected, other = limiters
    rejected.record_rate_limited(12.0, seconds=0.01)
    assert other.wait(clock.now + 1) == 0
    assert rejected.exchange()
    assert other.exchange()
    assert 10 <= other.wait(clock.now + 1) <= 22
    assert rejected.limit_text is not None
    assert other.limit_text == rejected.limit_text


def test_a_process_in_its_first_burst_learns_of_the_rejection_of_another() -> None:
    peers, clock = MemoryPeers(), Clock()
    rejected, other = (EventLimiter(max_in_flight=8, clock=clock) for _ in range(2))
    for limiter in (rejected, other):
        limiter.join(partial(RateGroup, peers, b"topic", wall=clock))
        assert limiter.acquire(lambda: False)
    rejected.record_rate_limited(1.0, seconds=0.01)
    assert rejected.exchange()
    clock.now += 0.02
    assert other.acquire(lambda: False)
    assert other.exchange()
    assert other.exchange()
    # What it has sent is part of the burst that showed the limit.
    assert rejected.exchange()
    assert other.permitted == rejected.permitted == 3.0
