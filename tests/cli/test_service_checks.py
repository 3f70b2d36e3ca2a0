"""``doctor --url``: what a first call would meet, each in one line, with what to set."""

from __future__ import annotations

import json
import re
import resource
import socket
import time
from pathlib import Path

import pytest
from local_fakes import fake_server
from serving import Exchange, certificates, serving

from skytells_nb.cache import SqliteStore
from skytells_nb.cli import doctor
from skytells_nb.cli import main as cli
from skytells_nb.cli.service_checks import ServiceCheck, check_service
from skytells_nb.errors import SkytellsWarning
from skytells_nb.local import LocalServer
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.faults import Faults

KEY = "sk-of-nobody-0123456789"


def checks(url: str) -> dict[str, ServiceCheck]:
    return {check.name: check for check in check_service(url)}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)


def server_with(faults: str = "", limits: str = "") -> LocalServer:
    return fake_server(api_key=KEY, faults=Faults.parse(faults), limits=LimitOptions.parse(limits))


def test_a_service_that_works_needs_nothing_set(capsys: pytest.CaptureFixture[str]) -> None:
    with server_with() as server:
        assert cli.main(["doctor", "--url", server.base_url]) == 0

    shown = capsys.readouterr().out
    service = shown.partition("\nservice\n")[2].partition("\n\n")[0]
    names = [line.split("  ")[1] for line in service.splitlines()]
    assert names == [
        *(
            "address",
            "proxy",
            "connection",
            "models",
            "key",
            "text",
            "safety fields",
            "stream",
            "embeddings",
            "rate limit",
        )
    ]
    assert "Set " not in service
    assert KEY not in shown


def test_the_rate_limit_is_told_where_the_service_reports_it() -> None:
    with server_with(limits="requests=25,window=60") as server:
        assert checks(server.base_url)["rate limit"].result == "25 requests in 60 s"


@pytest.mark.parametrize(
    ("faults", "name", "advice"),
    [
        ("status=401", "text", "SKYTELLS_API_KEY"),
        ("status=402", "text", "credit"),
        ("status=403", "text", "SKYTELLS_MODEL"),
        ("status=429", "text", "SKYTELLS_REQUESTS_PER_MINUTE"),
        ("status=503", "text", "503"),
        ("cut=headers", "text", "lost"),
    ],
)
def test_what_ends_a_first_call_ends_the_checks_with_what_to_set(faults: str, name: str, advice: str) -> None:
    with server_with(faults=faults) as server:
        found = check_service(server.base_url)
        diagnosis = doctor.examine(server.base_url)

    assert [check.name for check in found if check.is_fatal] == [name] == [found[-1].name]
    assert advice in found[-1].advice
    assert not diagnosis.ready
    assert advice in str(diagnosis).rpartition("Not ready: ")[2]


@pytest.mark.parametrize(
    ("faults", "name", "text"),
    [
        ("float_only", "embeddings", "base64 refused"),
        ("filter_down", "safety fields", "not checked"),
        ("stream_cut_after=2", "stream", "Cells need it"),
    ],
)
def test_what_only_limits_a_service_is_said_and_passed_over(faults: str, name: str, text: str) -> None:
    with server_with(faults=faults) as server:
        found = checks(server.base_url)

    assert text in f"{found[name].result}. {found[name].advice}"
    assert not any(check.is_fatal for check in found.values())
    assert "rate limit" in found


def test_models_that_the_service_does_not_have_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_MODEL", "no-such-model")
    with server_with() as server:
        found = checks(server.base_url)

    assert "no-such-model is not in the list" in found["models"].advice
    assert found["text"].is_fatal
    assert "Set SKYTELLS_MODEL" in found["text"].advice


def test_another_key_is_not_accepted_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-another-9876543210")
    with server_with() as server:
        diagnosis = doctor.examine(server.base_url)

    assert not diagnosis.ready
    assert "SKYTELLS_API_KEY" in str(diagnosis)
    assert "9876543210" not in str(diagnosis)


def test_a_service_of_other_makers_is_tried_as_it_is() -> None:
    """No list of models, no safety fields, no usage, no embeddings, and a stream that a proxy held back."""

    def script(exchange: Exchange) -> None:
        if exchange.path.endswith("/chat/completions") and exchange.json.get("stream"):
            exchange.begin()
            part = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            lines = [{**part, "choices": [{"index": 0, "delta": {"content": f"{n} "}}]} for n in range(8)]
            lines.append({**part, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            time.sleep(held)  # as long as a proxy takes that waits for the whole stream
            exchange.send(b"".join(b"data: %s\n\n" % json.dumps(line).encode() for line in lines) + b"data: [DONE]\n\n")
        elif exchange.path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": "one"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            exchange.reply({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        else:
            exchange.reply({"error": {"message": "there is no such path"}}, 404)

    held = 0.5
    with serving(script) as server:
        # The parts are read within a share of that time, unless the machine does something else meanwhile.
        for _ in range(5):
            found = checks(server.url)
            if found["stream"].advice:
                break
            held *= 2

    assert found["models"].result == "no list"
    assert "no usage" in found["text"].result
    assert found["safety fields"].result == "not sent"
    assert "came at once" in found["stream"].advice
    assert "no such path" in found["embeddings"].advice
    assert found["rate limit"].result == "not reported"


def test_a_certificate_that_is_not_trusted_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving_side, _ = certificates(tmp_path)
    with serving(lambda exchange: exchange.reply({"data": []}), serving_side) as server:
        found = check_service(server.url)
        assert (found[-1].name, found[-1].is_fatal) == ("connection", True)
        assert "SSL_CERT_FILE" in found[-1].advice
        assert server.exchanges == []

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert checks(server.url)["connection"].result.startswith("with TLS")


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = check_service(f"http://127.0.0.1:{port}/v1")

    assert found[-1].name == "connection"
    assert "could not be reached" in found[-1].advice


def test_an_address_and_a_proxy_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.name for check in check_service("http://far.example/v1")] == ["address"]

    monkeypatch.setenv("HTTPS_PROXY", "gopher://secret:word@proxy")
    found = check_service("https://far.example/v1")
    assert (found[-1].name, found[-1].is_fatal) == ("address", True)
    assert "HTTPS_PROXY" in found[-1].advice
    assert "secret" not in found[-1].advice


def test_the_cache_of_another_user_and_too_few_files_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.sqlite"
    store = SqliteStore(path)
    store.put_many([(bytes(32), b"x")])
    store.close()
    path.chmod(0o666)
    monkeypatch.setenv("SKYTELLS_CACHE", str(path))
    monkeypatch.setenv("SKYTELLS_MAX_IN_FLIGHT", "1024")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limits[1]))
    try:
        with pytest.warns(SkytellsWarning, match="may be written by other users"):
            shown = str(doctor.examine())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert "may be written by other users: set SKYTELLS_CACHE" in shown
    assert re.search(r"open files +1,000 at most, too few for 1024 requests in flight: ulimit -n \d+", shown)


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving_side, _ = certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with serving(lambda exchange: exchange.reply({"data": []}), serving_side) as server:
        found = check_service(server.url)
        assert server.exchanges == []

    assert found[-1].is_fatal
    assert "SSL_CERT_FILE must name a file" in found[-1].advice
