"""Errors, cut connections and rejections scattered over 5,000 rows change nothing in the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from local_fakes import HashEmbedder, fake_server
from served import KEY, connected, wait_until_idle

from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 5_000


@dataclass(frozen=True)
class Scattered(Faults):
    """Several kinds of fault at once, each on its own share of the attempts."""

    kinds: tuple[tuple[float, Faults], ...] = ()

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        digest = hashlib.blake2b(body + attempt.to_bytes(8, "big"), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        for share, fault in self.kinds:
            if place < share:
                return fault
            place -= share
        return Faults()


FAULTS = Scattered(
    kinds=(
        (0.01, Faults(status="500")),
        (0.0025, Faults(cut="before")),
        (0.0025, Faults(cut="body")),
        (0.02, Faults(status="429", retry_after="0")),
    )
)
# Told by headers, the account has requests left, so that a rejection is no word on the rate.
AMPLE = LimitOptions(requests=100_000, window=60.0)


@pytest.mark.parametrize("limits", [AMPLE, None], ids=["reported", "not reported"])
def test_scattered_faults_lose_no_completion(tmp_path: Path, limits: LimitOptions | None) -> None:
    """1 % errors, 0.5 % cut connections, 2 % rejections: each row has its own answer, and each was paid for once."""
    texts = [f"say {n}" for n in range(ROWS)]
    with (
        fake_server(api_key=KEY, faults=FAULTS, limits=limits) as server,
        connected(server, tmp_path / "c.sqlite", max_in_flight=16) as session,
    ):
        outcome = session.engine.run(completion_job("gpt-5"), texts)
        counts = wait_until_idle(server, "chat")
    assert [value and CachedCompletion.from_bytes(value).text for value in outcome.values] == texts
    assert (outcome.report.failed, outcome.report.sent, outcome.report.retries) == (0, ROWS, counts.requests - ROWS)
    assert (counts.answered, counts.repeated) == (ROWS, 0)
    assert counts.statuses[500] > ROWS // 200
    assert counts.statuses[429] > ROWS // 100
    assert counts.requests - counts.statuses[500] - counts.statuses[429] - ROWS > ROWS // 400


def test_scattered_faults_misplace_no_vector(tmp_path: Path) -> None:
    """Requests of 10 texts: the matrix is, bit for bit, that of a run without faults."""
    texts = [f"word{n} and word{n * 7 % 50}" for n in range(ROWS)]
    found = []
    for number, corrupted in enumerate((FAULTS, Faults())):
        with (
            fake_server(api_key=KEY, faults=corrupted, limits=AMPLE) as server,
            connected(server, tmp_path / f"{number}.sqlite", max_in_flight=8, inputs_per_request=10) as session,
        ):
            outcome = session.engine.run(embedding_job("skytells-embed-3-small"), texts)
            counts = wait_until_idle(server, "embeddings")
        assert (outcome.report.failed, outcome.report.sent) == (0, ROWS)
        assert (counts.answered, counts.repeated, counts.requests > ROWS // 10) == (ROWS, 0, corrupted is FAULTS)
        found.append(outcome.matrix[outcome.result_index])
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], HashEmbedder().encode(texts))
