"""Answers that cannot be trusted: the error names the request, and no vector lands in another row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from local_fakes import HashEmbedder, fake_server
from served import KEY, connected, wait_until_idle

from skytells_nb.engine.operations.jobs import embedding_job
from skytells_nb.errors import InvalidResponseError
from skytells_nb.local.faults import Faults

JOB = embedding_job("skytells-embed-3-small")
SPOILT = range(40, 50)
TEXTS = [f"{'marked' if n in SPOILT else 'plain'} word{n} and word{n * 7 % 50}" for n in range(120)]


@dataclass(frozen=True)
class Marked(Faults):
    """Spoils every answer to a request with a marked text in it."""

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        return super().for_attempt(body, attempt) if b"marked" in body else Faults()


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        ("wrong_count", SPOILT),
        ("bad_index", SPOILT),
        # A single vector is wrong, the last or the first of the answer.
        ("wrong_dimension", SPOILT[-1:]),
        ("bad_base64", SPOILT[:1]),
    ],
)
def test_an_answer_that_is_wrong_each_time_costs_its_own_rows_only(tmp_path: Path, fault: str, lost: range) -> None:
    """Null and never misplaced; the error names a request that the service knows; healed, only these rows are sent."""
    cache = tmp_path / "c.sqlite"
    with fake_server(api_key=KEY, faults=Marked(**{fault: True})) as server:
        with connected(server, cache, inputs_per_request=10, max_in_flight=4) as session:
            outcome = session.engine.run(JOB, TEXTS)
            assert session.cache.stats().entries == len(TEXTS) - len(lost)
        wait_until_idle(server, "embeddings")
        wrong = {record.request_id for record in server.stats.records if record.faults}
        good = np.array([n not in lost for n in range(len(TEXTS))])
        assert (outcome.result_index >= 0).tolist() == good.tolist()
        assert np.array_equal(outcome.matrix[outcome.result_index[good]], HashEmbedder().encode(TEXTS)[good])
        assert sorted(outcome.report.errors) == list(lost)
        for error in outcome.report.errors.values():
            assert isinstance(error, InvalidResponseError)
            assert error.request_id in wrong
            assert str(error.request_id) in str(error)
        origin = server.port
    with fake_server(api_key=KEY, port=origin) as server, connected(server, cache, inputs_per_request=10) as session:
        outcome = session.engine.run(JOB, TEXTS)
        assert server.stats["embeddings"].inputs == len(lost)
    assert np.array_equal(outcome.matrix[outcome.result_index], HashEmbedder().encode(TEXTS))
