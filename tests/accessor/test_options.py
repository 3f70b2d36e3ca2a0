"""Keywords of the accessors' methods: in signatures and docstrings, checked by name, equal to ``params``."""

from __future__ import annotations

import doctest
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from judges import Judged, WordJudge

from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.options import ModelOptions, ModelParameters, RowOptions, RunOptions, model_parameters
from skytells_nb.accessor.prompts.build import PromptArguments
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.client.parameters import ChatParams
from skytells_nb.errors import InputError
from skytells_nb.types import signatures

Frame = pd.DataFrame
QUIET: dict[str, Any] = {"progress": False}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CHAT: dict[str, Callable[..., Any]] = {
    "complete": lambda f, **o: f.skytells.complete("{t}", **o, **QUIET),
    "classify": lambda f, **o: f.skytells.classify("t", ["cat", "dog"], **o, **QUIET),
    "extract": lambda f, **o: f.skytells.extract("t", SCHEMA, **o, **QUIET),
    "filter": lambda f, **o: f.skytells.filter("t", "Is it?", **o, **QUIET),
    "translate": lambda f, **o: f.skytells.translate("t", "French", **o, **QUIET),
    "summarize": lambda f, **o: f.skytells.summarize("t", **o, **QUIET),
    "moderate": lambda f, **o: f.skytells.moderate("t", **o, **QUIET),
    "cluster": lambda f, **o: f.skytells.cluster("t", 2, **o, **QUIET),
    "join": lambda f, **o: f.skytells.join(f, "t", confirm=True, **o, **QUIET),
    "series.complete": lambda f, **o: f["t"].skytells.complete("Say it.", **o, **QUIET),
    "series.classify": lambda f, **o: f["t"].skytells.classify(["cat", "dog"], **o, **QUIET),
}
FOLDERS = ("to", "safety_to")
SENT: dict[str, Any] = {"temperature": 0.5, "seed": 7, "stop": ["END"], "top_p": 0.9, "presence_penalty": 0.25}
OPTIONS: dict[str, Any] = {
    f"Unpack[{each.__name__}]": each for each in (RunOptions, ModelOptions, RowOptions, PromptArguments)
}
METHODS = [
    pytest.param(accessor, name, id=f"{accessor.__name__}.{name}")
    for accessor in (FrameAccessor, SeriesAccessor)
    for name in dir(accessor)
    if hasattr(getattr(accessor, name), "__options__")
]


def parameters(method: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(method).parameters)


@pytest.mark.parametrize(("accessor", "name"), METHODS)
def test_every_option_is_in_the_signature_and_in_help(accessor: type, name: str) -> None:
    method = getattr(accessor, name)
    shown, documented = parameters(method), signatures.parameter_docs(method.__doc__)
    options = OPTIONS[method.__annotations__["options"]]
    assert options.__annotations__.keys() <= shown.keys()
    # Only estimate takes the arguments of another method, which its docstring names as it does.
    several = [p.name for p in shown.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert several == (["arguments"] if name == "estimate" else [])
    assert [each.lstrip("*") for each in documented] == [each for each in shown if each != "self"]


def test_methods_that_ask_a_chat_model_take_its_parameters() -> None:
    methods = {name: getattr(FrameAccessor, name) for name in dir(FrameAccessor) if not name.startswith("_")}
    without = {name for name, method in methods.items() if "\ntemperature : float" not in inspect.getdoc(method)}
    by_judged_rows = {"evaluate", "gold_sample", "mean", "share"}
    assert without == {
        *("embed", "search", "similar", "dedupe", "topics", "style", "report", "lineage", "safety", "failed"),
        *("html_report", "to_excel"),
        *by_judged_rows,
    }


def test_the_parameters_are_those_of_the_client() -> None:
    hints = typing.get_type_hints(ChatParams)
    assert {name: hints[name] for name in ModelParameters.__annotations__} == typing.get_type_hints(ModelParameters)


def test_defaults_that_differ_are_shown() -> None:
    assert parameters(FrameAccessor.classify)["temperature"].default == 0.0
    assert parameters(FrameAccessor.complete)["temperature"].default is None
    assert parameters(SeriesAccessor.moderate)["max_tokens"].default == 1
    assert parameters(FrameAccessor.preview)["api"].default == "chat"


@pytest.mark.parametrize(
    ("option", "default"), [("progress", True), ("on_error", "warn"), ("fresh", False), ("dry_run", False)]
)
def test_an_option_has_one_default_in_every_method(option: str, default: object) -> None:
    defaults = {
        f"{each.values[0].__name__}.{each.values[1]}": parameters(getattr(*each.values))[option].default
        for each in METHODS
        if option in parameters(getattr(*each.values))
    }
    assert len(defaults) > 10
    assert {name: value for name, value in defaults.items() if value is not default and value != default} == {}


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("classify", ("embedding", *FOLDERS)),
        ("extract", FOLDERS),
        ("translate", ()),
        ("moderate", ("embedding", *FOLDERS)),
        ("filter", ("keep", "details", "embedding", *FOLDERS)),
        ("dedupe", ("keep", "into")),
        ("cluster", ("text", "like")),
        ("summarize", ("by",)),
        ("embed", ("into", "to")),
    ],
)
def test_a_column_has_the_keywords_and_defaults_of_the_frame(name: str, without: tuple[str, ...]) -> None:
    """All but the column and what makes no sense for one, in the same order."""
    of_frame, of_series = parameters(getattr(FrameAccessor, name)), parameters(getattr(SeriesAccessor, name))
    expected = {key: value for key, value in of_frame.items() if key not in ("column", *without)}
    assert list(of_series) == list(expected)
    assert {key: (each.default, each.annotation) for key, each in of_series.items()} == {
        key: (each.default, each.annotation) for key, each in expected.items()
    }


@pytest.mark.parametrize("method", CHAT)
def test_a_keyword_is_the_same_request_as_params(method: str, place: Judged, judge: WordJudge, tmp_path: Path) -> None:
    """The second call finds every completion of the first in the cache: the keys are the same."""
    frame = Frame({"t": ["a cat", "a dog", None]})
    CHAT[method](frame, params=SENT)
    before = place.requests
    CHAT[method](frame, **SENT)
    CHAT[method](frame, **dict(reversed(SENT.items())))
    CHAT[method](frame, temperature=0.5, params={name: SENT[name] for name in SENT if name != "temperature"})
    assert place.requests == before
    CHAT[method](frame, **{**SENT, "seed": 8})
    assert place.requests > before


def test_none_leaves_a_default_out(place: Judged, judge: WordJudge) -> None:
    frame = Frame({"t": ["a cat"]})
    for given in ({"temperature": None}, {"params": {"temperature": None}}):
        CHAT["classify"](frame, **given)
        before = place.requests
        CHAT["classify"](frame, **given)
        assert place.requests == before
    CHAT["classify"](frame)
    assert place.requests == before + 1


def test_what_is_sent_has_the_keywords(judge: WordJudge) -> None:
    sent = Frame({"t": ["a"]}).skytells.preview("{t}", max_tokens=5, reasoning_effort="low", params={"user": "u"})
    body = sent.requests[0]
    assert (body["max_tokens"], body["reasoning_effort"], body["user"]) == (5, "low", "u")
    assert model_parameters({"temperature": 0.5}, {"user": "u"}, {"temperature": 0.0}) == {
        "temperature": 0.5,
        "user": "u",
    }


def test_an_estimate_counts_the_tokens_of_max_tokens(judge: WordJudge) -> None:
    frame = Frame({"t": ["a"]})
    few, many = (frame.skytells.estimate("Say {t}", max_tokens=limit).tokens_out for limit in (5, 500))
    assert (few, many) == (5, 500)


@pytest.mark.parametrize("method", CHAT)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.2, "params": {"temperature": 0.2}}, "temperature must be given once"),
        ({"max_tokens": 5, "params": {"max_tokens": 7}}, "max_tokens must be given once"),
        ({"temprature": 0.2}, "Unknown keyword 'temprature'. Did you mean 'temperature'"),
        ({"budgett": 1}, "Unknown keyword 'budgett'. Did you mean 'budget'"),
        ({"max_token": 1}, "Unknown keyword 'max_token'. Did you mean 'max_tokens'"),
        ({"respose_format": {}}, r"Did you mean .params=\{'response_format': ...\}"),
        ({"logit_bias": {"1": 2}}, r"Pass it in params: params=\{'logit_bias': \{'1': 2\}\}"),
        ({"xyzzy": 1}, "Unknown keyword 'xyzzy'. The keywords of"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"reasoning_effort": ""}, "reasoning_effort must be a word"),
        ({"params": {"temprature": 1}}, "did you mean 'temperature'"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_sent(
    method: str, options: dict[str, Any], message: str, place: Judged, judge: WordJudge
) -> None:
    chat_before, before = len(judge.asked), place.server.stats["chat"].requests
    with pytest.raises(InputError, match=message):
        CHAT[method](Frame({"t": ["a cat", "a dog"]}), **options)
    assert (len(judge.asked), place.server.stats["chat"].requests) == (chat_before, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.skytells.embed("t", temperature=1), "'temperature': embed asks no chat model"),
        (lambda f: f.skytells.search("q", "t", params={}), "'params': search asks no chat model"),
        (lambda f: f["t"].skytells.dedupe(max_tokens=1), "'max_tokens': dedupe asks no chat model"),
        (lambda f: f.skytells.cluster("t", name=False, seed=1), "seed is for a chat model, and name=None"),
        (lambda f: f.skytells.cluster("t", name=False, params={"seed": 1}), "params is for a chat model"),
        (lambda f: f.skytells.join(f, "t", top_p=0.5), "top_p is for a chat model, and only confirm="),
        (lambda f: f.skytells.classify("t", ["a", "b"], via="embedding", seed=1), "seed is for a chat model"),
        (lambda f: f["t"].skytells.filter("q?", keep="column"), "Unknown keyword 'keep'"),
        (lambda f: f["t"].skytells.dedupe(keep="groups"), "Unknown keyword 'keep'"),
    ],
)
def test_parameters_of_a_model_that_is_not_asked_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(Frame({"t": ["a"]}))


def test_the_examples_are_true() -> None:
    assert doctest.testmod(signatures) == doctest.TestResults(0, 1)
