"""The session: one default, its settings, its prices and its totals."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import keyring
import keyring.backend
import pytest
from local_fakes import fake_server

import skytells_nb as sky
from skytells_nb import session as sessions
from skytells_nb.engine.report import Report, UsageTotals
from skytells_nb.errors import ConfigurationError, MissingKeyError
from skytells_nb.local.server import LocalServer
from skytells_nb.session import Session
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.models import Price
from skytells_nb.types.responses import Response

KEY = "sk-of-a-session-0123456789"
URL = "https://own.example/v1"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that lasts as long as the test."""

    priority = 1

    def __init__(self, password: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._password = password

    def get_password(self, service: str, username: str) -> str | None:
        return self._password if (service, username) == ("skytells", "api_key") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        self._password = password


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no settings, no default session, and an empty keyring."""
    for name in list(os.environ):
        if name.startswith("SKYTELLS_") and name not in ("SKYTELLS_LOCAL_DIR", "SKYTELLS_LOCAL_MODEL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTELLS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SKYTELLS_CACHE_DIR", str(tmp_path / "cache"))
    before = keyring.get_keyring()
    keyring.set_keyring(MemoryKeyring())
    sessions.reset()
    yield
    sessions.reset()
    keyring.set_keyring(before)


@pytest.fixture(scope="module")
def served() -> Iterator[LocalServer]:
    with fake_server() as server:
        yield server


def connect(**given: Any) -> Session:
    return sky.connect(KEY, **{"base_url": URL, "cache": "off", **given})


def test_without_a_key_both_ways_out_are_named() -> None:
    for call in (sky.connect, sky.current):
        with pytest.raises(MissingKeyError) as caught:
            call()
        for way in ("SKYTELLS_API_KEY", "connect(local=True)", "SKYTELLS_BASE_URL=local"):
            assert way in str(caught.value)
    assert not sessions.has_current()


def test_a_request_of_a_session_without_a_key_says_how_to_give_one() -> None:
    with (
        sessions.current_or_keyless() as session,
        pytest.raises(MissingKeyError, match=r"SKYTELLS_API_KEY or call conn"),
    ):
        session.models()


def test_current_connects_from_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)
    monkeypatch.setenv("SKYTELLS_BASE_URL", URL)
    monkeypatch.setenv("SKYTELLS_MODEL", "gpt-5.4")
    session = sky.current()
    assert (session.client.base_url, session.settings.model) == (URL, "gpt-5.4")
    assert sky.current() is session


def test_current_makes_one_session_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)
    found: list[Session] = []
    threads = [threading.Thread(target=lambda: found.append(sky.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert len({id(session) for session in found}) == 1


def test_connect_replaces_the_default() -> None:
    first = connect()
    assert sky.current() is first
    second = connect(model="gpt-5.4")
    assert sky.current() is second is not first


def test_a_connect_that_fails_leaves_the_default_as_it_was() -> None:
    session = connect()
    with pytest.raises(ConfigurationError):
        connect(base_url="http://own.example")
    with pytest.raises(ConfigurationError):
        connect(max_workers=3)
    assert sky.current() is session


def test_the_key_may_be_in_the_systems_keyring(served: LocalServer) -> None:
    keyring.set_keyring(MemoryKeyring(served.api_key))
    with sky.connect(base_url=served.base_url, cache="off") as session:
        assert session.models()


def test_arguments_reach_the_settings_and_the_client(tmp_path: Path) -> None:
    session = connect(model="m", embedding_model="e", cache=tmp_path / "a.sqlite", max_in_flight=3, timeout=7.0)
    assert (session.settings.model, session.settings.embedding_model) == ("m", "e")
    assert session.settings.max_in_flight == 3
    timeouts = session.client._transport.timeouts
    assert (timeouts.read, timeouts.idle) == (7.0, 7.0)
    assert str(tmp_path / "a.sqlite") in session.cache.url


def test_a_long_time_limit_does_not_lengthen_the_silence_of_streams() -> None:
    timeouts = connect(timeout=3600.0).client._transport.timeouts
    assert (timeouts.read, timeouts.idle) == (3600.0, 120.0)


@pytest.mark.parametrize("way", ["argument", "base_url", "environment"])
def test_local_is_asked_for_in_three_ways_and_needs_no_key(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "environment":
        monkeypatch.setenv("SKYTELLS_BASE_URL", "local")
        session = sky.current()
    else:
        session = sky.connect(local=True) if way == "argument" else sky.connect(base_url="Local")
    assert session.is_local
    assert session.client.base_url.startswith("http://127.0.0.1:")
    assert session.origin.startswith("local http://127.0.0.1:")
    assert session.models()


def test_sessions_share_the_local_server() -> None:
    first, second = sky.connect(local=True), sky.connect(local=True)
    assert first.client.base_url == second.client.base_url
    first.close()
    assert second.models()


def test_an_address_wins_over_local_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_BASE_URL", "local")
    assert not connect().is_local


def test_local_and_an_address_contradict_each_other() -> None:
    with pytest.raises(ConfigurationError, match="contradict"):
        sky.connect(local=True, base_url=URL)


def test_nothing_shows_the_key() -> None:
    session = connect()
    for text in (repr(session), repr(vars(session)), repr(session.engine), repr(vars(session.engine))):
        assert KEY not in text
    assert repr(session).startswith("Session(https://own.example, model='deepbrain-router'")


def test_a_failing_connect_does_not_show_the_key_in_its_frames() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(timeout="soon")
    frame, found = caught.value.__traceback__, []
    while frame is not None:
        if frame.tb_frame.f_code.co_filename != __file__:
            found.append(repr(frame.tb_frame.f_locals))
        frame = frame.tb_next
    assert found
    assert KEY not in "".join(found)


def test_a_listed_model_has_its_listed_price() -> None:
    assert connect().price("gpt-5.4") == Price(0.5, 1.25)
    assert connect().price("skytells-embed-3-small") is None


def test_local_costs_nothing() -> None:
    assert sky.connect(local=True).price("anything") == Price(0.0, 0.0)


class Catalog(http.server.BaseHTTPRequestHandler):
    """Two models at other prices than the listed ones."""

    PRICES: ClassVar = {"gpt-5.4": (2.0, 4.0), "own-model": (1.0, 1.0)}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        models = [
            {"namespace": name, "metadata": {"openai_compatible": True}, "pricing": _pricing(*prices)}
            for name, prices in self.PRICES.items()
        ]
        body = json.dumps([*models, {"namespace": "pictures"}]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


def _pricing(tokens_in: float, tokens_out: float) -> dict[str, Any]:
    prices = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    criteria = [{"field": name, "billable_price": price} for name, price in prices.items()]
    return {"currency": "USD", "unit": "million_token", "criterias": criteria}


@pytest.fixture
def catalog_url() -> Iterator[str]:
    Catalog.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Catalog) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def test_the_catalog_is_asked_once_and_its_prices_win(catalog_url: str) -> None:
    session = connect(base_url=catalog_url)
    assert session.price("gpt-5.4") == Price(0.5, 1.25)
    assert [m.namespace for m in session.models()] == ["gpt-5.4", "own-model"]
    session.models()
    assert Catalog.asked == ["/v1/models"]
    assert session.price("gpt-5.4") == Price(2.0, 4.0)
    assert session.price("own-model") == Price(1.0, 1.0)
    assert session.price("gpt-5") == Price(0.5, 1.25)


def test_names_of_models_are_known_without_asking_and_better_after_it(catalog_url: str) -> None:
    session = connect(base_url=catalog_url)
    assert session.known_models()[:2] == ["deepbrain-router", "skytells-embed-3-small"]
    assert "gpt-5.3-codex" in session.known_models()
    assert Catalog.asked == []
    session.models()
    assert "own-model" in session.known_models()


def chat(tokens_in: int, tokens_out: int, **more: Any) -> ChatCompletion:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return ChatCompletion.model_validate({"usage": usage, "choices": [{"index": 0, **more}]})


SAFE = {"hate": {"filtered": False, "severity": "safe"}}


def test_totals_add_up_by_model_and_over_all() -> None:
    session = connect()
    session.record(chat(1_000_000, 0, content_filter_results=SAFE), model="gpt-5.4")
    session.record(chat(0, 1_000_000, content_filter_results=SAFE), model="gpt-5.4")
    usage = {"input_tokens": 10, "output_tokens": 20}
    session.record(Response.model_validate({"usage": usage}), model="gpt-5")
    totals = session.totals
    assert (totals.requests, totals.input_tokens, totals.output_tokens) == (3, 1_000_010, 1_000_020)
    assert totals.cost == pytest.approx(1.75 + (10 * 0.5 + 20 * 1.25) / 1e6)
    assert set(totals.by_model) == {"gpt-5.4", "gpt-5"}
    assert totals.by_model["gpt-5.4"].cost == pytest.approx(1.75)
    assert totals.by_model["gpt-5"].requests == 1


def test_totals_count_what_the_safety_filter_said() -> None:
    session = connect()
    guilty = {"hate": {"filtered": True, "severity": "high"}}
    session.record(chat(1, 1, content_filter_results=SAFE), model="gpt-5")
    session.record(chat(1, 1, content_filter_results=guilty, finish_reason="content_filter"), model="gpt-5")
    session.record(chat(1, 1), model="gpt-5")
    totals = session.totals
    assert (totals.filtered, totals.blocked, totals.unchecked) == (1, 1, 1)


def test_a_cost_that_is_not_known_stays_unknown() -> None:
    totals = UsageTotals()
    totals.add("a", 1, 1, 1, 0.5)
    totals.add("b", 1, 1, 1, None)
    totals.add("a", 1, 1, 1, 0.5)
    assert totals.cost is None
    assert totals.by_model["a"].cost == 1.0
    assert totals.by_model["b"].cost is None


def test_totals_hold_when_threads_record_at_once() -> None:
    session = connect()
    answer = chat(1, 2, content_filter_results=SAFE)

    def record() -> None:
        for _ in range(200):
            session.record(answer, model="gpt-5")

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (session.totals.requests, session.totals.input_tokens, session.totals.output_tokens) == (800, 800, 1600)


def test_an_engine_for_each_cache_is_made_once(tmp_path: Path) -> None:
    session = connect()
    assert session.engine_for(None) is session.engine
    other = session.engine_for(tmp_path / "b.sqlite")
    assert session.engine_for(str(tmp_path / "b.sqlite")) is other is not session.engine


def test_a_closed_session_sends_nothing() -> None:
    with connect() as session:
        pass
    with pytest.raises(sky.errors.TransportError, match="closed"):
        session.client.models.list()


def test_reset_forgets_the_default() -> None:
    connect()
    sessions.reset()
    assert not sessions.has_current()
    sessions.reset()


def test_a_run_that_the_cache_answered_keeps_the_cost_known() -> None:
    """No price is known for embeddings; nothing was asked, so nothing was spent."""
    session = connect()
    session.record_run(Report("embed", "skytells-embed-3-small", "done", rows=3, cached=3, cost=None))
    assert session.totals.cost == 0.0
    session.record_run(Report("embed", "skytells-embed-3-small", "done", rows=3, sent=3, requests=1, cost=None))
    assert session.totals.cost is None


def test_a_revised_report_takes_the_place_of_its_own_and_no_other() -> None:
    session = connect()
    first, second = (Report("embed", "m", "done", rows=rows) for rows in (1, 2))
    session.record_run(first)
    session.record_run(second)
    session.revise_report(first, replace(first, rows=10))
    assert [report.rows for report in session.reports] == [10, 2]
