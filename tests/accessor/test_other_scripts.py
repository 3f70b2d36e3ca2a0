"""Texts in any script are sent and stored as they are: escapes of them cost tokens, and no one can read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving import Exchange, serving

import skytells_nb as sky

TEXT = "Ärger in 東京"
SCHEMA = {"type": "object", "properties": {"Straße": {"type": "string", "description": TEXT}}, "required": ["Straße"]}
QUIET: dict[str, Any] = {"progress": False, "on_error": "null"}
CALLS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "cells that are dicts": lambda df: df.skytells.complete("{facts}", **QUIET),
    "cells that are lists": lambda df: df.skytells.complete("{names}", **QUIET),
    "examples": lambda df: df.skytells.complete("{text}", examples=[(TEXT, {"Straße": TEXT})], **QUIET),
    "a schema": lambda df: df.skytells.extract("text", SCHEMA, **QUIET),
    "rows together": lambda df: df.skytells.complete("{text}", rows_per_request=2, **QUIET),
    "labels": lambda df: df.skytells.classify("text", [TEXT, "gut"], examples=[(TEXT, "gut")], **QUIET),
    "several labels": lambda df: df.skytells.classify("text", [TEXT, "gut"], multi=True, **QUIET),
    "pairs": lambda df: df.skytells.rank("text", "Wie schlimm?", **QUIET),
}


def answer(exchange: Exchange) -> None:
    """Also refuses a response format, so that the schema is sent in words."""
    if exchange.method == "POST" and "response_format" in exchange.json:
        exchange.reply({"error": {"message": "response_format is not supported", "param": "response_format"}}, 400)
    else:
        exchange.reply({"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}], "data": []})


@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_prompt_has_no_escapes(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"text": [TEXT, "Öl"], "facts": [{"Straße": TEXT}, {"Straße": "Öl"}], "names": [[TEXT], ["Öl"]]}
    )
    with serving(answer) as service, sky.connect("sk-x", base_url=service.url, cache=tmp_path / "c.sqlite"):
        CALLS[name](frame)
        bodies = [exchange.json for exchange in service.exchanges if exchange.method == "POST"]
    sent = [message["content"] for body in bodies for message in body["messages"]]
    assert any(TEXT in content for content in sent)
    assert not any("\\u" in content for content in sent)


def test_what_a_file_says_of_a_column_has_no_escapes(tmp_path: Path) -> None:
    import pyarrow.parquet

    from skytells_nb import files

    with serving(answer) as service, sky.connect("sk-x", base_url=service.url, cache=tmp_path / "c.sqlite"):
        frame = pd.DataFrame({"text": [TEXT]}).skytells.complete(f"{TEXT}: {{text}}", progress=False, on_error="null")
    path = tmp_path / "rows.parquet"
    files.write(frame, path)
    written = path.read_bytes()
    assert TEXT.encode() in written
    read = files.read(path)
    assert not any("\\u" in str(value) for value in read.attrs.values())
    assert read.skytells.lineage.equals(frame.skytells.lineage)
    assert json.dumps(TEXT).encode() not in written
    assert pyarrow.parquet.read_schema(path)
