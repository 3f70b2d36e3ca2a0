"""Rate limits of the account: the counters with a simulated clock, the headers and 429s on a real port."""

from __future__ import annotations

import threading

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_fakes import EchoGenerator, chat_body, client_of, fake_server
from served import wait_until_idle

from skytells_nb.errors import InputError
from skytells_nb.local import LimitOptions
from skytells_nb.local.api.rate_limits import Account

EMBED = {"model": "skytells-embed-3-small", "input": "x"}


def test_a_fixed_window_rejects_further_requests_until_it_ends() -> None:
    """Three of three are admitted, the fourth waits for the window's end, then three are admitted again."""
    account = Account(LimitOptions(requests=3, window=10))
    assert [account.acquire("m", 100 + n).allowed for n in range(4)] == [True, True, True, False]
    assert account.acquire("m", 104.5).wait == pytest.approx(5.5)
    assert account.acquire("m", 110).allowed


def test_a_bucket_refills_evenly() -> None:
    """After a burst one request is admitted each window / requests seconds."""
    account = Account(LimitOptions(requests=10, window=10, kind="bucket", burst=2))
    assert [account.acquire("m", 0).allowed for _ in range(3)] == [True, True, False]
    assert account.acquire("m", 0.5).wait == pytest.approx(0.5)
    assert account.acquire("m", 1.0).allowed


def test_models_have_separate_counters() -> None:
    """One model's limit does not affect another's."""
    account = Account(LimitOptions(requests=1))
    assert account.acquire("a", 0).allowed
    assert account.acquire("b", 0).allowed
    assert not account.acquire("a", 0).allowed


def test_concurrency_is_released() -> None:
    """Two at once, a third only after one has ended."""
    account = Account(LimitOptions(concurrency=2))
    assert [account.acquire("m", 0).allowed for _ in range(3)] == [True, True, False]
    account.release("m")
    assert account.acquire("m", 0).allowed


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
    st.integers(1, 6),
    st.sampled_from(["fixed", "bucket"]),
)
def test_no_window_admits_more_than_its_limit(gaps: list[float], requests: int, kind: str) -> None:
    """For any arrivals, a fixed window admits at most its requests, a bucket at most twice as many per window."""
    window = 4.0
    account = Account(LimitOptions(requests=requests, window=window, kind=kind))  # type: ignore[arg-type]
    now, admitted = 0.0, []
    for gap in gaps:
        now += gap
        if account.acquire("m", now).allowed:
            admitted.append(now)
    first = gaps[0]
    for start in admitted:
        if kind == "fixed":
            number = (start - first) // window
            assert sum((t - first) // window == number for t in admitted) <= requests
        else:
            assert sum(start <= t < start + window for t in admitted) <= 2 * requests


def test_the_headers_count_down_to_a_429() -> None:
    """On every response, with ``-`` for token limits that are not configured, and Retry-After in whole seconds."""
    with fake_server(limits=LimitOptions(requests=2, window=60)) as server, client_of(server) as client:
        answers = [client.post("/embeddings", json=EMBED) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        prefix = "x-skytells-ratelimit-"
        assert [a.headers[prefix + "remaining-requests"] for a in answers] == ["1", "0", "0"]
        for answer in answers:
            assert answer.headers[prefix + "limit-requests"] == "2"
            assert answer.headers[prefix + "window"] == "60"
            for name in ("limit-tokens-in", "remaining-tokens-in", "limit-tokens-out", "remaining-tokens-out"):
                assert answer.headers[prefix + name] == "-"
        error = answers[2].json()["error"]
        assert (error["error_id"], error["type"], error["code"]) == (
            "RATE_LIMITED",
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert "retry-after-ms" not in answers[2].headers
        assert "retry-after" not in answers[0].headers
        assert wait_until_idle(server, "embeddings").answered == 2


def test_an_invalid_request_counts_and_has_the_headers() -> None:
    with fake_server(limits=LimitOptions(requests=5)) as server, client_of(server) as client:
        answer = client.post("/embeddings", json={**EMBED, "input": []})
        assert (answer.status_code, answer.headers["x-skytells-ratelimit-remaining-requests"]) == (400, "4")


def test_retry_after_in_milliseconds_is_an_option() -> None:
    """For windows shorter than a second."""
    limits = LimitOptions(requests=1, window=0.4, retry_after_ms=True)
    with fake_server(limits=limits) as server, client_of(server) as client:
        answers = [client.post("/embeddings", json=EMBED) for _ in range(10)]
        rejected = [answer for answer in answers if answer.status_code == 429]
        assert rejected
        assert all(1 <= int(answer.headers["retry-after-ms"]) <= 400 for answer in rejected)
        assert all(answer.headers["retry-after"] == "1" for answer in rejected)


def test_concurrent_requests_over_the_limit_are_rejected() -> None:
    """While one chat is held a second one gets 429; after its end the next one is admitted."""
    gate = threading.Event()
    server = fake_server(limits=LimitOptions(concurrency=1), generator=EchoGenerator(gate=gate))
    with server, client_of(server) as client, client_of(server) as other:
        with client.stream("POST", "/chat/completions", json=chat_body("a b c", stream=True)) as held:
            lines = held.iter_lines()
            next(lines)
            assert other.post("/chat/completions", json=chat_body("x")).status_code == 429
            gate.set()
            list(lines)
        while server.stats["chat"].in_flight:
            threading.Event().wait(0.01)
        assert other.post("/chat/completions", json=chat_body("x")).status_code == 200


def test_without_limits_there_are_no_headers() -> None:
    with fake_server() as server, httpx.Client(trust_env=False) as client:
        answer = client.post(
            f"{server.base_url}/embeddings", json=EMBED, headers={"authorization": f"Bearer {server.api_key}"}
        )
        assert not [name for name in answer.headers if "ratelimit" in name]


def test_limits_are_parsed() -> None:
    """As on the command line; invalid names and values are named."""
    assert LimitOptions.parse("requests=25, window=2") == LimitOptions(requests=25, window=2)
    assert LimitOptions.parse({"concurrency": 3}) == LimitOptions(concurrency=3)
    with pytest.raises(InputError, match="speed"):
        LimitOptions.parse("speed=3")
    with pytest.raises(InputError, match="at least 1"):
        LimitOptions(requests=0)


def test_tokens_are_limited_per_window() -> None:
    account = Account(LimitOptions(requests=100, window=10.0, tokens_in=50, tokens_out=20))
    first = account.acquire("m", 0.0)
    account.release("m", tokens_in=30, tokens_out=5)
    second = account.acquire("m", 1.0)
    assert [a.headers["x-skytells-ratelimit-remaining-tokens-in"] for a in (first, second)] == ["50", "20"]
    account.release("m", tokens_in=30, tokens_out=5)
    third = account.acquire("m", 4.0)
    assert (third.allowed, third.wait) == (False, 6.0)
    assert third.headers["x-skytells-ratelimit-remaining-tokens-in"] == "0"
    assert third.headers["x-skytells-ratelimit-limit-tokens-out"] == "20"
    assert account.acquire("m", 10.0).allowed


def test_a_bucket_of_tokens_refills_evenly() -> None:
    account = Account(LimitOptions(window=10.0, tokens_out=100, kind="bucket"))
    assert account.acquire("m", 0.0).allowed
    account.release("m", tokens_out=110)
    rejected = account.acquire("m", 0.0)
    assert not rejected.allowed
    assert rejected.wait == pytest.approx(1.1)
    assert not account.acquire("m", 0.9).allowed
    assert account.acquire("m", 1.2).allowed


@pytest.mark.parametrize("endpoint", ["chat", "responses", "embeddings"])
def test_each_endpoint_counts_its_tokens(endpoint: str) -> None:
    """The stand-ins count words."""
    path, body = {
        "chat": ("/chat/completions", {"model": "gpt-5", "messages": [{"role": "user", "content": "a b c"}]}),
        "responses": ("/responses", {"model": "gpt-5", "input": "a b c"}),
        "embeddings": ("/embeddings", {"model": "skytells-embed-3-small", "input": "a b c"}),
    }[endpoint]
    limits = LimitOptions(requests=100, window=60.0, tokens_in=1_000, tokens_out=1_000)
    with fake_server(limits=limits) as server, client_of(server) as client:
        headers = [client.post(path, json=body).headers for _ in range(2)]
    name = "x-skytells-ratelimit-remaining-tokens-"
    assert [h[f"{name}in"] for h in headers] == ["1000", "997"]
    assert headers[1][f"{name}out"] == ("1000" if endpoint == "embeddings" else "997")
