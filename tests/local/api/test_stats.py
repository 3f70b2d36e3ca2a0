"""Counters of requests, inputs and responses."""

from __future__ import annotations

from local_fakes import client_of, fake_server
from served import wait_until_idle


def test_counters_distinguish_received_from_answered() -> None:
    """Inputs, distinct ones, answered ones, and those received again after an answer."""
    with fake_server() as server, client_of(server) as client:
        embed = {"model": "text-embedding-3-small", "input": ["a", "b", "a"]}
        client.post("/embeddings", json=embed)
        client.post("/embeddings", json={**embed, "input": ["b", "c"]}, headers={"x-skytells-fault": "status=500"})
        counts = wait_until_idle(server, "embeddings")
        assert (counts.requests, counts.inputs, counts.distinct, counts.answered, counts.repeated) == (2, 5, 3, 3, 1)
        assert counts.statuses == {200: 1, 500: 1}
        assert counts.most_in_flight == 1
        assert [record.status for record in server.stats.records] == [200, 500]
        over_http = client.get(f"http://127.0.0.1:{server.port}/_stats").json()
        assert over_http["endpoints"]["embeddings"]["answered"] == 3
        server.stats.reset()
        assert server.stats["embeddings"].requests == 0
