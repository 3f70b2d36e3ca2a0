"""Processes that a connected process starts connect to the same address; its key stays where it is."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import KEY, served

import skytells_nb as sky
from skytells_nb.config import PARENT_VARIABLE

WORKER = """
import json, os, sys, warnings
import skytells_nb as sky

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        session = sky.current()
        told = {"base_url": session.client.base_url, "local": session.is_local, "recording": str(session.recording)}
    except sky.SkytellsError as problem:
        told = {"error": type(problem).__name__}
ours = [warning for warning in caught if issubclass(warning.category, sky.errors.SkytellsWarning)]
told["warnings"] = [str(warning.message) for warning in ours]
print(json.dumps(told))
"""


def worker(**environment: str) -> dict[str, Any]:
    """What a process says of its connection."""
    environment = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def address_in_worker(_: int) -> str:
    return sky.current().client.base_url


def test_a_spawned_worker_connects_to_the_address_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)
    with served() as server:
        sky.connect(base_url=server.base_url, cache="off")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(address_in_worker, range(1)) == [server.base_url]


def test_the_address_travels_and_the_key_does_not() -> None:
    sky.connect("sk-of-the-parent-4242", base_url="http://127.0.0.1:9/v1", cache="off")
    assert not [name for name, value in os.environ.items() if "sk-of-the-parent" in value]
    assert worker() == {"error": "MissingKeyError", "warnings": []}
    told = worker(SKYTELLS_API_KEY="sk-of-the-environment")
    assert told["base_url"] == "http://127.0.0.1:9/v1"
    (warning,) = told["warnings"]
    assert "API key that workers do not inherit" in warning
    assert "sk-" not in warning


def test_a_key_of_the_environment_goes_where_the_parent_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-of-the-environment")
    sky.connect(base_url="http://127.0.0.1:9/v1", cache="off")
    assert worker() == {"base_url": "http://127.0.0.1:9/v1", "local": False, "recording": "None", "warnings": []}


def test_what_a_worker_is_told_itself_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-of-the-environment")
    sky.connect(base_url="http://127.0.0.1:9/v1", cache="off")
    assert worker(SKYTELLS_BASE_URL="http://127.0.0.1:8/v1")["base_url"] == "http://127.0.0.1:8/v1"
    monkeypatch.setenv("SKYTELLS_BASE_URL", "http://127.0.0.1:7/v1")
    sky.connect(base_url="http://127.0.0.1:9/v1", cache="off")
    assert worker()["base_url"] == "http://127.0.0.1:9/v1"


def test_the_local_skytells_and_replay_travel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a notebook that costs nothing costs nothing."""
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-of-the-environment")
    session = sky.connect(local=True, cache=tmp_path / "c.sqlite")
    session.cache.put_many([(bytes(32), b"recorded")])
    session.close()
    told = worker()
    assert (told["local"], told["warnings"]) == (True, [])
    monkeypatch.chdir(tmp_path)
    sky.connect(base_url="http://127.0.0.1:9/v1", cache="replay:c.sqlite")
    told = worker()
    assert told["recording"] == str(tmp_path / "c.sqlite")
    assert told["base_url"] == "http://127.0.0.1:9/v1"


def test_this_process_does_not_inherit_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-of-the-environment")
    sky.connect(base_url="http://127.0.0.1:9/v1", cache="off")
    assert sky.connect(cache="off").client.base_url == "https://api.skytells.ai/v1"
    assert worker()["base_url"] == "https://api.skytells.ai/v1"
    from skytells_nb import session

    session.reset()
    assert PARENT_VARIABLE not in os.environ


@pytest.mark.parametrize("value", ["", "{", "[]", "5", '{"pid": 1}', '{"pid": 1, "variable": null, "base_url": 5}'])
def test_a_variable_that_says_nothing_is_passed_over(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, value)
    assert sky.connect("sk-x", cache="off").client.base_url == "https://api.skytells.ai/v1"
