"""df.skytells on a real server: new columns, same index, input as it was."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from local_fakes import HashEmbedder
from served import connected, served

import skytells_nb as sky
from skytells_nb.errors import (
    AuthenticationError,
    ConnectError,
    InputError,
    MissingKeyError,
    ModelNotFoundError,
    RowError,
    SkytellsWarning,
)
from skytells_nb.local.server import LocalServer
from skytells_nb.progress.events import Progress


def test_embed_adds_a_column_of_float32_vectors(server: LocalServer, df: pd.DataFrame) -> None:
    before = df.copy(deep=True)
    out = df.skytells.embed("text", progress=False)
    pd.testing.assert_frame_equal(df, before)
    assert out.columns.tolist() == ["text", "n", "embedding"]
    assert out.index.equals(df.index)
    assert out["embedding"].isna().tolist() == [False, False, False, True, False]
    assert out.loc["w", "embedding"].dtype == np.float32
    np.testing.assert_array_equal(out.loc["z", "embedding"], HashEmbedder().encode(["stocks fell"])[0])


def test_equal_texts_share_one_vector_and_one_input(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.embed("text", progress=False)
    assert server.stats["embeddings"].inputs == 3
    assert np.shares_memory(out.loc["v", "embedding"], out.loc["x", "embedding"])


def test_embeddings_as_an_arrow_column(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.embed("text", dtype="arrow", progress=False)
    assert str(out["embedding"].dtype).startswith("fixed_size_list")
    assert out["embedding"].isna().tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(("dtype", "backend"), [("numpy", "numpy_nullable"), ("arrow", "pyarrow")])
def test_embeddings_come_back_from_parquet(
    server: LocalServer, df: pd.DataFrame, tmp_path: Path, dtype: Any, backend: Any
) -> None:
    out = df.skytells.embed("text", dtype=dtype, progress=False)
    out.to_parquet(tmp_path / "x.parquet")
    back = pd.read_parquet(tmp_path / "x.parquet", dtype_backend=backend)
    for label in "vwxz":
        np.testing.assert_array_equal(np.asarray(back.loc[label, "embedding"]), np.asarray(out.loc[label, "embedding"]))
    assert back["embedding"].isna().tolist() == out["embedding"].isna().tolist()


def test_embeddings_come_back_from_parquet_with_plain_read(
    server: LocalServer, df: pd.DataFrame, tmp_path: Path
) -> None:
    out = df.skytells.embed("text", progress=False)
    out.to_parquet(tmp_path / "x.parquet")
    back = pd.read_parquet(tmp_path / "x.parquet")
    assert back.loc["v", "embedding"].dtype == np.float32
    np.testing.assert_array_equal(back.loc["v", "embedding"], out.loc["v", "embedding"])


def test_dimensions_are_passed_on(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.embed("text", into="v", dimensions=4, progress=False)
    assert out.loc["w", "v"].shape == (4,)


def test_complete_fills_the_template_for_each_row(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.complete("{n}: {text} {{kept}}", progress=False)
    assert out["completion"].tolist()[:2] == ["0: a cat sleeps {kept}", "1: a dog runs {kept}"]
    assert out["completion"].isna().tolist() == [False, False, False, True, False]
    assert pd.api.types.is_string_dtype(out["completion"].dtype)


def test_completions_come_back_from_parquet(server: LocalServer, df: pd.DataFrame, tmp_path: Path) -> None:
    out = df.skytells.complete("{text}", details=True, progress=False)
    out.to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), out)


def test_details_say_what_is_known_of_each_answer(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.complete("{text}", details=True, params={"max_tokens": 2}, on_error="null", progress=False)
    row = out.loc["w"]
    assert row["completion_finish_reason"] == "length"
    assert row["completion_filtered"] is False or not row["completion_filtered"]
    assert row["completion_severity"] == "safe"
    assert (row["completion_tokens_in"], row["completion_tokens_out"]) == (3, 2)
    assert row["completion_cost"] == pytest.approx((3 * 0.5 + 2 * 1.25) / 1e6)
    assert row["completion_model"] == "local-echo"
    assert row["completion_request_id"].startswith("req_")
    assert out.loc["y", [c for c in out if c.startswith("completion_")]].isna().all()


def test_answers_cut_at_max_tokens_are_said_in_one_warning(server: LocalServer, df: pd.DataFrame) -> None:
    with pytest.warns(SkytellsWarning, match=r"4 of 5 completions were cut at max_tokens"):
        df.skytells.complete("{text}", params={"max_tokens": 1}, progress=False)


def test_failed_rows_are_null_with_one_warning_at_the_callers_line(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": ["fine", "half \ud83d", "violence:high now", "  "]}, dtype=object)
    with pytest.warns(SkytellsWarning) as caught:
        out = frame.skytells.complete("{text}", progress=False)
    assert len(caught) == 1
    assert "2 of 4 rows" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert out["completion"].isna().tolist() == [False, True, True, True]


def test_null_policy_says_nothing(server: LocalServer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = pd.DataFrame({"t": ["half \ud83d"]}, dtype=object)
        out = frame.skytells.embed("t", on_error="null", progress=False)
    assert out["embedding"].isna().all()
    assert list(out.skytells.report.errors) == [0]


def test_raise_policy_raises(server: LocalServer) -> None:
    with pytest.raises(RowError):
        pd.DataFrame({"t": ["violence:high"]}).skytells.complete("{t}", on_error="raise", progress=False)


def test_report_belongs_to_the_frame_it_made(server: LocalServer, df: pd.DataFrame) -> None:
    first = df.skytells.embed("text", progress=False)
    second = df.skytells.complete("{text}", progress=False)
    assert first.skytells.report.operation == "embed"
    assert second.skytells.report.operation == "complete"
    assert df.skytells.report.operation == "complete"
    report = first.skytells.report
    assert (report.rows, report.distinct, report.nulls, report.sent, report.requests) == (5, 3, 1, 3, 1)
    assert report.to_dict()["state"] == "done"
    assert "5 (3 distinct, 1 missing)" in str(report)
    assert "<table>" in report._repr_html_()


def test_session_totals_add_up(server: LocalServer, df: pd.DataFrame) -> None:
    df.skytells.complete("{text}", progress=False)
    df.skytells.complete("{text}", progress=False)
    totals = sky.current().totals
    assert totals.requests == 3
    assert totals.by_model["deepbrain-router"].input_tokens == totals.input_tokens > 0


def test_a_schema_makes_each_answer_fit_it(server: LocalServer, df: pd.DataFrame) -> None:
    class Animal(pydantic.BaseModel):
        name: str
        legs: int

    out = df.skytells.complete("{text}", schema=Animal, progress=False)
    assert out.loc["v", "completion"] == {"name": "text", "legs": 1}
    flat = df.skytells.complete("{text}", schema=Animal, flatten=True, progress=False)
    assert flat.columns.tolist() == ["text", "n", "name", "legs"]
    assert flat["legs"].dtype == "Int64"
    assert flat["legs"].isna().tolist() == [False, False, False, True, False]


def test_an_answer_that_does_not_fit_its_schema_is_null_and_an_error(server: LocalServer, df: pd.DataFrame) -> None:
    class Long(pydantic.BaseModel):
        name: str = pydantic.Field(min_length=40)

    with pytest.warns(SkytellsWarning, match="does not match the schema"):
        out = df.skytells.complete("{text}", schema=Long, progress=False)
    assert out["completion"].isna().all()
    assert list(out.skytells.report.errors) == [0, 1, 2, 4]


def test_classify_gives_categories(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", ["pets", "money"], progress=False)
    assert out["label"].dtype == pd.CategoricalDtype(["pets", "money"])
    assert out["label"].isna().tolist() == [False, False, False, True, False]


def test_classify_by_embedding_takes_the_nearest_label(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", ["a cat", "stocks"], via="embedding", progress=False)
    assert out["label"].tolist()[0] == "a cat"
    assert out["label"].tolist()[4] == "stocks"
    assert server.stats["chat"].requests == 0


@pytest.mark.parametrize("labels", ["pos", ["one"], ["a", "a"], ["a", ""], ["a", 1]])
def test_labels_that_are_no_labels_are_refused_unsent(server: LocalServer, df: pd.DataFrame, labels: Any) -> None:
    with pytest.raises(InputError, match=r"[Ll]abel"):
        df.skytells.classify("text", labels, progress=False)
    assert server.stats["chat"].requests == 0


def test_search_finds_the_nearest_rows_best_first(server: LocalServer, df: pd.DataFrame) -> None:
    found = df.skytells.search("a cat sleeps", column="text", k=3, progress=False)
    assert found.index.tolist()[:2] == ["v", "x"]
    assert found["score"].tolist() == sorted(found["score"], reverse=True)
    assert found["score"].iloc[0] == pytest.approx(1.0)
    again = df.skytells.embed("text", progress=False).skytells.search("a cat sleeps", k=3, progress=False)
    assert again.index.tolist() == found.index.tolist()


def test_search_with_vectors_of_another_size_is_refused(server: LocalServer, df: pd.DataFrame) -> None:
    small = df.skytells.embed("text", dimensions=4, progress=False)
    with pytest.raises(InputError, match="4 dimensions and the query has 16"):
        small.skytells.search("cat", progress=False)


def test_safety_is_a_tidy_table(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["fine", "violence:medium", "violence:high"]}, index=["a", "b", "c"])
    out = frame.skytells.complete("{t}", details=True, on_error="null", progress=False)
    tidy = out.skytells.safety("completion")
    assert tidy.columns.tolist()[:5] == ["row", "source", "index", "category", "severity"]
    hit = tidy[(tidy["row"] == "b") & (tidy["category"] == "violence")]
    assert set(hit["source"]) == {"prompt", "completion"}
    assert set(hit["severity"]) == {"medium"}


def test_a_blocked_prompt_has_its_verdict_in_details_and_safety(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["fine", "violence:high"]}, index=["a", "b"])
    out = frame.skytells.complete("{t}", details=True, on_error="null", progress=False)
    row = out.loc["b"]
    assert (row["completion_finish_reason"], row["completion_severity"]) == ("content_filter", "high")
    assert row["completion_filtered"]
    assert "ContentPolicyError" in row["completion_error"]
    assert pd.isna(row["completion"])
    assert pd.isna(row["completion_tokens_in"])
    tidy = out.skytells.safety()
    blocked = tidy[(tidy["row"] == "b") & tidy["filtered"]]
    assert blocked[["source", "category", "severity"]].to_numpy().tolist() == [["prompt", "violence", "high"]]
    assert sky.current().totals.blocked == 1


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_the_filter_left_of_a_completion_is_shown(tmp_path: Path, api: str) -> None:
    """The filter withholds this service's completions from the third piece on; of a short one nothing is left."""
    frame = pd.DataFrame({"t": ["one two three four five six", "seven"]})
    with served("filter_completion=default") as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", api=api, details=True, on_error="null", progress=False)
    assert out["completion_filtered"].tolist() == [True, True]
    assert out["completion"].notna().tolist() == [True, False]
    assert not out.loc[0, "completion"].endswith("six")


def test_safety_survives_filtering_when_kept_as_details(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.complete("{text}", details=True, progress=False)
    assert set(out[out["n"] > 2].skytells.safety()["row"]) == {"z"}


def test_safety_without_verdicts_says_how_to_get_them(server: LocalServer, df: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="details=True"):
        df.skytells.safety("completion")


def test_estimate_sends_nothing(server: LocalServer, df: pd.DataFrame) -> None:
    estimate = df.skytells.estimate("text")
    assert (estimate.rows, estimate.distinct, estimate.requests) == (5, 3, 1)
    chat = df.skytells.estimate("Say {text}", params={"max_tokens": 10})
    assert (chat.distinct, chat.requests, chat.tokens_out) == (3, 3, 30)
    assert chat.cost is not None
    assert not server.stats.records


def test_events_go_to_a_listener(server: LocalServer, df: pd.DataFrame) -> None:
    events: list[Progress] = []
    df.skytells.embed("text", progress=events.append)
    assert events[-1].done == 5
    # The missing row took no time, and neither do cached rows.
    assert events[-1].processed == 4
    assert events[-1].processing_seconds > 0
    df.skytells.embed("text", progress=events.append)
    assert (events[-1].done, events[-1].processed, events[-1].rate) == (5, 0, 0.0)


def test_the_series_forms(server: LocalServer, df: pd.DataFrame) -> None:
    vectors = df["text"].skytells.embed(progress=False)
    assert vectors.name == "text"
    assert vectors.index.equals(df.index)
    said = df["text"].skytells.complete("Repeat it.", progress=False)
    assert said.tolist()[:3] == ["a cat sleeps", "a dog runs", "a cat sleeps"]
    assert said.skytells.report.operation == "complete"


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": pd.Series([], dtype="str"), "n": []}),
        pd.DataFrame({"text": [None, None], "n": [1, 2]}),
        pd.DataFrame({"text": pd.Series([pd.NA, pd.NA], dtype="string"), "n": [1, 2]}),
        pd.DataFrame({"text": [float("nan")] * 2, "n": [1, 2]}),
        pd.DataFrame({"text": [pd.NaT] * 2, "n": [1, 2]}),
        pd.DataFrame({"text": pd.Series([pd.NaT, None], dtype=object), "n": [1, 2]}),
    ],
    ids=["empty", "all null", "all NA", "all NaN", "all NaT", "all null objects"],
)
def test_nothing_in_nothing_out_and_nothing_sent(server: LocalServer, frame: pd.DataFrame) -> None:
    assert frame.skytells.embed("text", progress=False)["embedding"].isna().all()
    assert frame.skytells.complete("{text}", progress=False)["completion"].isna().all()
    assert len(frame.skytells.classify("text", ["a", "b"], progress=False)) == len(frame)
    assert not server.stats.records


def test_duplicate_index_labels_keep_their_own_answers(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["one", "two", "three"]}, index=[7, 7, 7])
    assert frame.skytells.complete("{t}", progress=False)["completion"].tolist() == ["one", "two", "three"]


def test_categorical_text_is_text(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": pd.Categorical(["a b", "c", "a b"])})
    assert frame.skytells.embed("t", progress=False)["embedding"].notna().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.skytells.embed("nope"), "no column 'nope'. The columns are: 'text', 'n'"),
        (lambda d: d.skytells.embed("n"), r"must hold text, got int64\. Convert it first with .astype\('string'\)"),
        (lambda d: d.assign(m=["a", 1, 2, 3, 4]).skytells.embed("m"), "must hold text, got int at row 'w'"),
        (lambda d: d.skytells.embed("text", into="text"), "would replace the column that it is made from"),
        (lambda d: d.skytells.embed("text", modle="x"), "Unknown keyword 'modle'. Did you mean 'model'"),
        (lambda d: d.skytells.embed("text", on_error="ignore"), "on_error must be 'warn', 'raise' or 'null'"),
        (lambda d: d.skytells.complete("{nope}"), r"names \{nope\}, which is not a column"),
        (lambda d: d.skytells.complete("hello"), "must name a column"),
        (lambda d: d.skytells.complete("text"), r"Did you mean '\{text\}'"),
        (lambda d: d.skytells.complete("{text"), "cannot be parsed"),
        (lambda d: d.skytells.complete("{text!r}"), "Conversions such as !r are not supported"),
        (lambda d: d.skytells.complete("{n:%d %b}"), "The format '%d %b' does not fit the value 0 of 'n' at row 'v'"),
        (lambda d: d.skytells.complete("{text.__class__}"), "is not a column"),
        (lambda d: d.skytells.complete("{0}"), "is not a column"),
        (lambda d: d.skytells.complete("{text}", flatten=True), "flatten=True needs schema="),
        (lambda d: d.skytells.complete("{text}", schema=int), "pydantic model or a JSON schema"),
        (lambda d: d.skytells.complete("{text}", into="text"), "would replace the column that it is made from"),
        (lambda d: d.skytells.complete("{text}", into=["x"]), "into must be the name of a column"),
        (lambda d: d.skytells.complete("{text}", params={"stream": True}), "params cannot contain 'stream'"),
        (lambda d: d.skytells.complete("{text}", params={"temperature": 9}), "temperature cannot be 9"),
        (lambda d: d.skytells.complete("{text}", params=["x"]), "params must be a dict"),
        (lambda d: d.skytells.complete("{text}", system=5), "system must be a string"),
        (lambda d: d.skytells.complete("{text}", budget="5"), "budget must be US dollars"),
        (lambda d: d.skytells.complete("{text}", max_in_flight=2.5), "max_in_flight must be a positive integer"),
        (lambda d: d.skytells.complete("{text}", session="x"), "session must be a session that connect"),
        (lambda d: d.skytells.complete("{text}", cache=5), "cache must be a path"),
        (lambda d: d.skytells.embed("text", dimensions=0), "dimensions cannot be 0"),
        (lambda d: d.skytells.embed("text", dtype="list"), "dtype must be"),
        (lambda d: d.skytells.search("", column="text"), "non-empty string"),
        (lambda d: d.skytells.search("x", column="text", k=0), "k must be a positive integer"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: LocalServer, df: pd.DataFrame, call: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(df)
    assert not server.stats.records


def test_a_text_far_over_the_limit_is_named_and_not_sent(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["word " * 80_000, "fine"]})
    with pytest.warns(SkytellsWarning, match=r"about 100,000 tokens and the limit is 8,192"):
        out = frame.skytells.embed("t", progress=False)
    assert out["embedding"].isna().tolist() == [True, False]
    assert server.stats["embeddings"].inputs == 1


def test_no_key_and_no_server_names_both_ways_out(df: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    sky.session.reset()
    for name in ("SKYTELLS_API_KEY", "SKYTELLS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MissingKeyError, match=r"SKYTELLS_API_KEY.*connect\(local=True\)"):
        df.skytells.embed("text")


def test_a_wrong_key_is_one_error_and_nothing_is_answered(server: LocalServer, df: pd.DataFrame) -> None:
    sky.connect("sk-wrong-key", base_url=server.base_url, cache="off")
    with pytest.raises(AuthenticationError, match="UNAUTHORIZED") as failure:
        df.skytells.embed("text", progress=False)
    assert "sk-wrong-key" not in str(failure.value)
    assert server.stats["embeddings"].answered == 0


def test_an_unknown_model_is_one_error_and_nothing_is_answered(server: LocalServer, df: pd.DataFrame) -> None:
    with pytest.raises(ModelNotFoundError, match="'gpt-99' was not found"):
        df.skytells.complete("{text}", model="gpt-99", progress=False)
    assert server.stats["chat"].answered == 0


def test_an_unreachable_host_is_one_error(df: pd.DataFrame) -> None:
    sky.connect("sk-x", base_url="http://127.0.0.1:9/v1", cache="off")
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1:9 could not be reached"):
        df.skytells.embed("text", progress=False)
