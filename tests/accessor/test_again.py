"""Asking again: ``fresh``, ``retry``, the rows that failed, and what an error that ends a call carries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scripted import Scripted, blocked, scripted

from skytells_nb.errors import BudgetExceededError, InputError, PaymentRequiredError, RowError, SkytellsWarning

FIELD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TEXTS = ["cat", "dog", None, "cat", "hen"]
SETTINGS: dict[str, Any] = {"progress": False, "on_error": "null"}


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"t": TEXTS}, index=list("vwxyz"))


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(sensible, tmp_path / "c.sqlite") as script:
        yield script


def sensible(text: str) -> str:
    """An answer that fits any of the schemas here."""
    return json.dumps({"label": "one", "word": text, "answer": "yes", "match": True, "name": f"about {text[:9]}"})


CHAT: dict[str, Callable[..., Any]] = {
    "complete": lambda df, **o: df.skytells.complete("{t}", **o),
    "schema": lambda df, **o: df.skytells.complete("{t}", schema=FIELD, flatten=True, **o),
    "extract": lambda df, **o: df.skytells.extract("t", FIELD, **o),
    "translate": lambda df, **o: df.skytells.translate("t", "French", **o),
    "moderate": lambda df, **o: df.skytells.moderate("t", **o),
    "series.complete": lambda df, **o: df["t"].skytells.complete("Say it.", **o),
    "series.extract": lambda df, **o: df["t"].skytells.extract(FIELD, **o),
    "series.translate": lambda df, **o: df["t"].skytells.translate("French", **o),
}
EMBED: dict[str, Callable[..., Any]] = {
    "embed": lambda df, **o: df.skytells.embed("t", **o),
    "search": lambda df, **o: df.skytells.search("pets", "t", **o),
    "dedupe": lambda df, **o: df.skytells.dedupe("t", **o),
    "similar": lambda df, **o: df.skytells.similar("v", "t", **o),
    "cluster": lambda df, **o: df.skytells.cluster("t", 2, name=False, **o),
    "join": lambda df, **o: df.skytells.join(df, "t", **o),
    "nearest label": lambda df, **o: df.skytells.classify("t", ["a", "b"], via="embedding", **o),
    "series.embed": lambda df, **o: df["t"].skytells.embed(**o),
}


@pytest.mark.parametrize("name", CHAT)
def test_fresh_asks_each_text_anew_and_its_answer_is_the_one_that_is_kept(
    name: str, df: pd.DataFrame, script: Scripted
) -> None:
    method = CHAT[name]
    method(df, **SETTINGS)
    first = len(script.asked)
    script.answer = lambda text: json.dumps({"word": "new"})
    new = method(df, fresh=True, **SETTINGS)
    assert len(script.asked) == 2 * first == 6
    pd.testing.assert_frame_equal(pd.DataFrame(method(df, **SETTINGS)), pd.DataFrame(new))
    assert len(script.asked) == 2 * first


@pytest.mark.parametrize("name", EMBED)
def test_fresh_embeds_anew(name: str, df: pd.DataFrame, script: Scripted) -> None:
    EMBED[name](df, **SETTINGS)
    first = len(script.embedded)
    EMBED[name](df, **SETTINGS)
    assert len(script.embedded) == first
    EMBED[name](df, fresh=True, **SETTINGS)
    assert len(script.embedded) == 2 * first


@pytest.mark.parametrize("name", sorted(CHAT.keys() - {"moderate"}))
def test_retry_asks_only_about_the_rows_that_failed(name: str, df: pd.DataFrame, script: Scripted) -> None:
    method = CHAT[name]
    script.answer = lambda text: blocked() if text.startswith("dog") else sensible(text)
    method(df, **SETTINGS)
    script.forget()
    assert pd.DataFrame(method(df, **SETTINGS)).iloc[1, -1] is not None
    assert script.asked == []
    script.answer = sensible
    made = pd.DataFrame(method(df, retry="failed", **SETTINGS))
    assert script.asked == ["dog"]
    assert made.iloc[:, -1].isna().tolist() == [False, False, True, False, False]
    script.forget()
    method(df, **SETTINGS)
    assert script.asked == []


def test_an_answer_that_was_cut_or_withheld_is_asked_again_by_retry_alone(df: pd.DataFrame, script: Scripted) -> None:
    for reason in ("length", "content_filter"):
        script.answer = lambda text, reason=reason: (
            {"message": {"content": '{"word'}, "finish_reason": reason} if text == "hen" else sensible(text)
        )
        df.skytells.extract("t", FIELD, instructions=reason, **SETTINGS)
        script.forget()
        made = df.skytells.extract("t", FIELD, instructions=reason, **SETTINGS)
        assert script.asked == []
        assert made.skytells.failed().index.tolist() == ["z"]
        script.answer = sensible
        made = df.skytells.extract("t", FIELD, instructions=reason, retry="failed", **SETTINGS)
        assert script.asked == ["hen"]
        assert made["word"].tolist()[-1] == "hen"


def test_an_empty_answer_is_asked_again_by_retry_alone(df: pd.DataFrame, script: Scripted) -> None:
    for said in ("", " \n", {"message": {"content": None}, "finish_reason": "stop"}):
        script.answer = lambda text, said=said: said if text == "hen" else sensible(text)
        with pytest.warns(SkytellsWarning, match=r"1 of 5 completions are empty.* retry='failed'"):
            df.skytells.complete("{t}", progress=False, fresh=True)
        script.forget()
        assert df.skytells.complete("{t}", **SETTINGS)["completion"].tolist()[-1].strip() == ""
        assert script.asked == []
        assert df.skytells.estimate("{t}", retry="failed").requests == 1
        script.answer = sensible
        assert df.skytells.complete("{t}", retry="failed", **SETTINGS)["completion"].tolist()[-1] == sensible("hen")
        assert script.asked == ["hen"]


@pytest.mark.parametrize(
    "said",
    [
        {"message": {"content": "half a sen"}, "finish_reason": "length"},
        {"message": {"content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}},
    ],
    ids=["a plain text that was cut", "a tool call"],
)
def test_what_is_a_result_is_not_asked_again(said: dict[str, Any], df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: {"finish_reason": "stop", **said}
    df.skytells.complete("{t}", **SETTINGS)
    script.forget()
    df.skytells.complete("{t}", retry="failed", **SETTINGS)
    assert script.asked == []


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_moderated_text_needs_no_answer_to_be_done(reason: str, df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: {"message": {"content": ""}, "finish_reason": reason}
    df.skytells.moderate("t", **SETTINGS)
    script.forget()
    df.skytells.moderate("t", retry="failed", **SETTINGS)
    assert script.asked == []


def test_a_fresh_answer_that_does_not_come_leaves_the_old_one(df: pd.DataFrame, script: Scripted) -> None:
    before = df.skytells.complete("{t}", **SETTINGS)
    script.answer = lambda text: (400, {"error": {"message": "No."}})
    failed = df.skytells.complete("{t}", fresh=True, **SETTINGS)
    assert failed["completion"].isna().all()
    pd.testing.assert_frame_equal(df.skytells.complete("{t}", **SETTINGS), before)


def test_an_estimate_counts_what_would_be_asked_again(df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: blocked() if text == "dog" else sensible(text)
    df.skytells.complete("{t}", **SETTINGS)
    assert df.skytells.estimate("{t}").requests == 0
    assert df.skytells.estimate("{t}", retry="failed").requests == 1
    assert df.skytells.estimate("{t}", fresh=True).requests == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fresh": "yes"}, "fresh must be True or False, got 'yes'"),
        ({"retry": "all"}, "retry must be 'failed' or None, got 'all'"),
        ({"fresh": True, "retry": "failed"}, "pass fresh or retry, not both"),
    ],
)
def test_what_they_take(given: dict[str, Any], message: str, df: pd.DataFrame, script: Scripted) -> None:
    with pytest.raises(InputError, match=message):
        df.skytells.complete("{t}", **given)
    assert script.asked == []


def test_the_rows_that_failed_with_their_reasons(df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: (400, {"error": {"message": "Too rude."}}) if text == "cat" else sensible(text)
    made = df.assign(error="mine").skytells.complete("{t}", **SETTINGS)
    failed = made.skytells.failed()
    assert failed.index.tolist() == ["v", "y"]
    assert failed.columns.tolist() == ["t", "error", "completion", "skytells_error"]
    assert failed["skytells_error"].str.contains("Too rude").all()
    assert df["t"].skytells.complete("Say it.", **SETTINGS).skytells.failed().index.tolist() == ["v", "y"]


def test_the_rows_that_failed_of_methods_with_other_rows(df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: (400, {"error": {"message": "No."}}) if "cat" in text else '{"answer": "no"}'
    kept = df.skytells.filter("t", "Is it?", **SETTINGS)
    assert len(kept) == 0
    assert kept.skytells.failed()["t"].tolist() == df.skytells.failed()["t"].tolist() == ["cat", "cat"]
    frame = pd.DataFrame({"t": ["cat", "dog"], "by": ["x", "y"]})
    table = frame.skytells.summarize("t", "by", **SETTINGS)
    assert table.skytells.failed().index.tolist() == frame.skytells.failed().index.tolist() == ["x"]


def test_a_frame_without_a_call_has_no_failed_rows(df: pd.DataFrame, script: Scripted) -> None:
    made = df.skytells.complete("{t}", **SETTINGS)
    assert made.skytells.failed().empty
    with pytest.raises(InputError, match="No call was made on this object"):
        made.copy().skytells.failed()


ENDED: dict[str, Callable[..., Any]] = {
    **CHAT,
    **EMBED,
    "classify": lambda df, **o: df.skytells.classify("t", ["one", "two"], details=True, **o),
    "classify multi": lambda df, **o: df.skytells.classify("t", ["one", "two"], multi=True, **o),
    "filter": lambda df, **o: df.skytells.filter("t", "Is it?", keep="column", **o),
    "filter rows": lambda df, **o: df.skytells.filter("t", "Is it?", **o),
    "summarize": lambda df, **o: df.skytells.summarize("t", **o),
    "confirm": lambda df, **o: df.skytells.join(df, "t", confirm=True, **o),
    "named": lambda df, **o: df.skytells.cluster("t", 2, **o),
    "series.classify": lambda df, **o: df["t"].skytells.classify(["one", "two"], **o),
    "series.dedupe": lambda df, **o: df["t"].skytells.dedupe(**o),
}


@pytest.mark.parametrize("name", ENDED)
def test_a_budget_that_ends_a_call_leaves_a_report_and_a_frame(name: str, df: pd.DataFrame, script: Scripted) -> None:
    from skytells_nb.types.models import LISTED_PRICES, Price

    before = dict(LISTED_PRICES)
    LISTED_PRICES.update({"gpt-5": Price(1.0, 1.0), "skytells-embed-3-small": Price(1.0, 0.0)})
    try:
        with pytest.raises(BudgetExceededError) as stopped:
            ENDED[name](df, budget=1e-9, progress=False)
    finally:
        LISTED_PRICES.clear()
        LISTED_PRICES.update(before)
    report, frame = stopped.value.report, stopped.value.frame
    assert report.state == "failed"
    assert report.answered == 0
    if name == "summarize":
        assert frame["summary"].isna().all()
    else:
        assert frame.index.tolist() == list("vwxyz")
        new = frame.drop(columns=["t", "t_x", "t_y"], errors="ignore") if isinstance(frame, pd.DataFrame) else frame
        assert new.isna().to_numpy().all()


def test_what_is_finished_is_in_the_frame_of_the_error(df: pd.DataFrame, tmp_path: Path) -> None:
    said = {"cat": '{"label": "one"}', "dog": (402, {"error": {"message": "No credit."}}), "hen": '{"label": "two"}'}
    with scripted(lambda text: said[text]) as script:
        for on_error, rejected, kind in (
            ("warn", said["dog"], PaymentRequiredError),
            ("raise", (400, {"error": {"message": "No."}}), RowError),
        ):
            said["dog"] = rejected
            options = {"on_error": on_error, "max_in_flight": 1, "progress": False, "fresh": True}
            with pytest.raises(kind) as stopped:
                df.skytells.classify("t", ["one", "two"], **options)
            assert stopped.value.report is df.skytells.report
            frame = stopped.value.frame
            assert frame.index.tolist() == list("vwxyz")
            assert frame["label"].tolist()[0] == "one"
            assert frame["label"].isna().tolist()[1:3] == [True, True]
            assert isinstance(frame["label"].dtype, pd.CategoricalDtype)
        assert script.asked.count("cat") == 2


def test_an_answer_that_does_not_fit_leaves_the_others_in_the_frame(df: pd.DataFrame, script: Scripted) -> None:
    script.answer = lambda text: "{}" if text == "dog" or text.startswith("That answer") else sensible(text)
    with pytest.raises(RowError, match="do not match the schema") as stopped:
        df.skytells.extract("t", FIELD, repair=1, on_error="raise", progress=False)
    assert stopped.value.frame["word"].fillna("-").tolist() == ["cat", "-", "-", "cat", "hen"]
    with pytest.raises(RowError) as stopped:
        df["t"].skytells.extract(FIELD, repair=1, on_error="raise", progress=False)
    assert stopped.value.frame.columns.tolist() == ["word"]


def test_details_replace_no_column_that_was_there(df: pd.DataFrame, script: Scripted) -> None:
    mine = df.assign(label_cost=7)
    with pytest.raises(InputError, match="would overwrite column 'label_cost'"):
        mine.skytells.classify("t", ["one", "two"], details=True, progress=False)
    schema = {"type": "object", "properties": {"x_model": {"type": "string"}}, "required": ["x_model"]}
    with pytest.raises(InputError, match="would overwrite column 'x_model'"):
        df.skytells.extract("t", schema, into="x", details=True, progress=False)
    assert script.asked == []
    script.answer = lambda text: '{"label": "one"}'
    once = df.skytells.classify("t", ["one", "two"], details=True, progress=False)
    pd.testing.assert_frame_equal(once.skytells.classify("t", ["one", "two"], details=True, progress=False), once)


def test_a_vector_that_is_not_made_costs_only_its_own_row(df: pd.DataFrame, script: Scripted) -> None:
    script.vector = lambda text: None if text == "dog" else [1.0, 2.0]  # type: ignore[assignment, return-value]
    made = df.skytells.embed("t", **SETTINGS)
    assert made["embedding"].isna().tolist() == [False, True, True, False, False]
    assert made.skytells.failed()["t"].tolist() == ["dog"]
    assert df.skytells.dedupe("t", keep="groups", **SETTINGS)["group"].isna().tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]
