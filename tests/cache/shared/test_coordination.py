"""What processes tell each other through servers: records of their rate, and what they spend of one limit."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from store_servers import SERVERS, StoreServer, shared_server

from skytells_nb.cache import SharedStore
from skytells_nb.cache.shared.coordination import SharedCounter, SharedPeers
from skytells_nb.cache.spending import Claim, MemoryCounter, SpendingCounter
from skytells_nb.errors import CacheError

TOPIC, OTHER_TOPIC = b"t" * 16, b"u" * 16
ONE, TWO, THREE = b"1" * 16, b"2\n \x00" * 4, b"3" * 16
CHILD = """
import os, sys
from skytells_nb.cache import SharedStore
store = SharedStore(sys.argv[1])
store.peers.exchange(b"t" * 16, b"c" * 16, b"child", 60.0)
counter = store.counter(b"t" * 16, 1.0)
assert counter.claim(b"c" * 16, 0.1, 0.0, 0.4).granted
print(store.peers.exchange(b"t" * 16, b"c" * 16, b"child", 60.0), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> StoreServer:
    return shared_server(str(request.param))


@pytest.fixture
def store(server: StoreServer) -> Iterator[SharedStore]:
    server.start()
    with closing(SharedStore(server.address())) as found:
        yield found


@pytest.fixture(params=["memory", *SERVERS])
def counter(request: pytest.FixtureRequest) -> Iterator[Callable[[float], SpendingCounter]]:
    """What makes a counter for a limit."""
    if request.param == "memory":
        yield MemoryCounter
        return
    with closing(SharedStore(shared_server(request.param).address())) as store:

        def opened(limit: float) -> SharedCounter:
            found = store.counter(TOPIC, limit)
            found.open()
            found.open()  # nothing new
            return found

        yield opened


def test_one_limit_holds_for_all_owners(counter: Callable[[float], SpendingCounter]) -> None:
    count = counter(1.0)
    assert count.claim(ONE, 0.0, 0.0, 0.5) == Claim(True, 0.0, 0.0)
    assert count.claim(TWO, 0.0, 0.0, 0.5) == Claim(True, 0.0, 0.5)
    assert count.claim(THREE, 0.0, 0.0, 1e-9) == Claim(False, 0.0, 1.0)
    # One has settled for less.
    assert count.claim(ONE, 0.25, 0.0, float("inf")) == Claim(False, 0.0, 0.5)
    assert count.claim(THREE, 0.0, 0.0, 0.25) == Claim(True, 0.25, 0.5)
    count.end(ONE, 0.25)
    count.end(TWO, 0.5)
    assert count.claim(THREE, 0.0, 0.25, 0.1) == Claim(False, 0.75, 0.0)


def test_what_is_likely_goes_alone(counter: Callable[[float], SpendingCounter]) -> None:
    """Its most does not fit, and so nothing else does until it has settled."""
    count = counter(1.0)
    assert count.claim(ONE, 0.8, 0.0, 0.1) == Claim(True, 0.0, 0.0)
    assert not count.claim(TWO, 0.0, 0.0, 3.0, 0.05).granted
    assert count.claim(ONE, 0.85, 0.0, float("inf")) == Claim(False, 0.0, 0.0)
    assert not count.claim(TWO, 0.0, 0.0, 3.0, 0.2).granted
    assert count.claim(TWO, 0.0, 0.0, 3.0, 0.1) == Claim(True, 0.85, 0.0)
    assert count.claim(ONE, 0.85, 0.0, 0.0) == Claim(False, 0.0, 3.0)


def test_what_an_ended_process_had_reserved_counts_as_spent(store: SharedStore) -> None:
    count = store.counter(TOPIC, 1.0)
    count.open()
    subprocess.run([sys.executable, "-c", CHILD, _address(store)], check=True, timeout=100)
    assert count.claim(ONE, 0.0, 0.0, 0.6) == Claim(False, 0.5, 0.0)
    assert count.claim(ONE, 0.0, 0.0, 0.5) == Claim(True, 0.5, 0.0)


def _address(store: SharedStore) -> str:
    return store._address.with_password()


def test_records_reach_the_others_on_the_server(store: SharedStore) -> None:
    began = time.monotonic()
    peers, others = store.peers, SharedPeers(store._server.backend.coordinator)
    assert peers.watch(TOPIC)()
    assert peers.exchange(TOPIC, ONE, b"first", 60.0) == {}
    assert others.exchange(TOPIC, TWO, b"two\n\x00", 60.0) == {ONE: b"first"}
    assert peers.exchange(OTHER_TOPIC, THREE, b"else", 60.0) == {}
    assert peers.exchange(TOPIC, ONE, b"", 60.0) == {TWO: b"two\n\x00"}
    assert others.exchange(TOPIC, TWO, b"two", 60.0) == {ONE: b""}
    assert peers.exchange(TOPIC, ONE, b"one", 1e-6) == {}
    # An exchange that took long tells the server's time less exactly.
    assert abs(peers.now() - others.now()) <= time.monotonic() - began
    others.leave(TOPIC, TWO)
    assert peers.exchange(TOPIC, ONE, b"one", 60.0) == {}


def test_a_limit_that_the_server_lost_ends_the_spending(server: StoreServer, store: SharedStore) -> None:
    """Zero would be wrong. One that cannot be reached is said when it is opened, and later not known."""
    with pytest.raises(CacheError, match="no longer knows"):
        store.counter(OTHER_TOPIC, 1.0).claim(ONE, 0.0, 0.0, 0.1)
    count = store.counter(TOPIC, 1.0)
    count.open()
    server.crash()
    assert count.claim(ONE, 0.0, 0.0, 0.1) is None
    with pytest.raises(CacheError, match="Nothing was sent"):
        count.open()
    assert store.peers.exchange(TOPIC, ONE, b"one", 60.0) == {}
    count.end(ONE, 0.0)
    store.peers.leave(TOPIC, ONE)
    server.start()
    assert count.claim(ONE, 0.1, 0.0, 0.1) == Claim(True, 0.0, 0.0)
