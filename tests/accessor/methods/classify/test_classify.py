"""df.skytells.classify: one label, several, none of them, by a model or by similarity."""

from __future__ import annotations

import collections
import enum
import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judges import Judged, WordJudge, run_examples

import skytells_nb as sky
from skytells_nb.accessor.methods.classify.classify import Classify
from skytells_nb.accessor.prompts.labels import Labels
from skytells_nb.client.transport.auth import APIKey
from skytells_nb.columns import is_blank
from skytells_nb.errors import InputError, RowError, SkytellsWarning
from skytells_nb.progress.events import Progress

TEXTS = ["sports for money", "money alone", None, "neither of them", "sports"]
LABELS = ["sports", "money"]


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "n": range(5)}, index=list("vwxyz"))


def test_each_text_gets_the_label_that_the_model_chose(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", LABELS, progress=False)
    assert out["label"].dtype == pd.CategoricalDtype(LABELS)
    assert out["label"].astype(object).where(out["label"].notna(), None).tolist() == [
        "sports",
        "money",
        None,
        "money",
        "sports",
    ]
    assert out.index.equals(df.index)


@pytest.mark.parametrize("labels", [LABELS, {"sports": "games", "money": "markets"}])
def test_a_run_on_the_small_local_model_says_once_what_does_better(
    place: Judged, df: pd.DataFrame, labels: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = place.server
    values = sky.session.Settings(cache="memory")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for local in (True, False):
            with sky.session.Session(values, APIKey(server.api_key), server.base_url, local=local) as session:
                events: list[Progress] = []
                voted = df.skytells.classify(
                    "text", labels, confidence="votes", votes=2, progress=events.append, session=session
                )
                said = [event.note for event in events if event.note]
                estimate = df.skytells.classify("text", labels, fresh=True, dry_run=True, session=session)
                capsys.readouterr()
                df.skytells.classify("text", labels, session=session)
                shown = capsys.readouterr().err
                near = df.skytells.classify("text", labels, via="embedding", progress=False, session=session)
                compared = df.skytells.compare(
                    "text", [{"labels": labels}, {"labels": LABELS[::-1]}], progress=False, session=session
                )
            report = voted.skytells.report
            if not local:
                assert (said, report.notes) == ([], ())
                assert "via=" not in shown + str(estimate.notes)
                continue
            assert len(said) == 1
            assert report.notes == (said[0],) == estimate.notes
            assert "via='embedding'" in said[0]
            assert ("Describe the labels" in said[0]) == (labels is LABELS)
            assert shown.count(said[0]) == str(report).count(said[0]) == 1
            assert report.to_dict()["notes"] == report.notes
            assert near.skytells.report.notes == compared.report.notes == ()


def test_other_is_a_category_and_the_model_is_told_when_to_choose_it(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", LABELS, other="else", progress=False)
    assert out["label"].cat.categories.tolist() == [*LABELS, "else"]
    assert out.loc["y", "label"] == "else"
    assert all("Choose 'else' where none of the others fits." in system for system in judge.systems)


def test_one_label_and_other_are_two_labels(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", ["sports"], other="else", progress=False)
    assert out["label"].dropna().tolist() == ["sports", "else", "else", "sports"]


def test_the_model_is_told_what_a_label_means(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", {"sports": "games people play", "money": "prices and pay"}, progress=False)
    assert out["label"].cat.categories.tolist() == LABELS
    assert "- sports: games people play\n- money: prices and pay" in judge.systems[0]


def test_plain_labels_are_asked_about_in_the_words_of_kept_answers(judge: WordJudge, df: pd.DataFrame) -> None:
    """Another wording would ask for every answer of an existing cache or recording again."""
    df.skytells.classify("text", LABELS, progress=False)
    assert set(judge.systems) == {"Choose the label that fits the user's text best. The labels are: sports, money."}


def test_several_labels_are_a_boolean_column_each(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", LABELS, multi=True, into="about", progress=False)
    assert out.columns.tolist() == ["text", "n", "about_sports", "about_money"]
    assert out.loc["v", ["about_sports", "about_money"]].tolist() == [True, True]
    assert out["about_money"].dtype == "boolean"
    assert out["about_money"].isna().tolist() == [False, False, True, False, False]
    assert out["about_sports"].sum() == 2


def test_other_of_several_is_true_where_all_are_false(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.classify("text", LABELS, multi=True, other="else", progress=False)
    assert out["label_else"].astype(object).where(out["label_else"].notna(), None).tolist() == [
        False,
        False,
        None,
        True,
        False,
    ]
    assert not any("else" in system for system in judge.systems)


def test_several_labels_come_back_from_parquet(judge: WordJudge, df: pd.DataFrame, tmp_path: Path) -> None:
    out = df.skytells.classify("text", LABELS, multi=True, progress=False)
    out.to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), out)


@pytest.mark.parametrize(
    "examples",
    [[('a "goal"\n', "sports")], pd.DataFrame({"text": ['a "goal"\n'], "label": pd.Categorical(["sports"])})],
    ids=["pairs", "frame"],
)
def test_examples_are_told_to_the_model_as_data(judge: WordJudge, df: pd.DataFrame, examples: Any) -> None:
    df.skytells.classify("text", LABELS, examples=examples, progress=False)
    told = [json.loads(line) for line in judge.systems[0].splitlines() if line.startswith("{")]
    assert told == [{"text": 'a "goal"\n', "label": "sports"}]


def test_what_multi_gave_serves_as_its_examples(judge: WordJudge, df: pd.DataFrame) -> None:
    known = df.dropna().skytells.classify("text", LABELS, multi=True, progress=False)
    df.skytells.classify("text", LABELS, multi=True, examples=known, progress=False)
    told = [json.loads(line) for line in judge.systems[-1].splitlines() if line.startswith("{")]
    assert told[0] == {"text": "sports for money", "labels": LABELS}
    assert told[2] == {"text": "neither of them", "labels": []}


def test_params_replace_the_temperature(judge: WordJudge, df: pd.DataFrame) -> None:
    first = df.skytells.classify("text", LABELS, progress=False)
    second = df.skytells.classify("text", LABELS, params={"temperature": None}, progress=False)
    assert second["label"].equals(first["label"])
    assert second.skytells.report.sent == first.skytells.report.sent == 4


def test_a_second_call_sends_nothing(judge: WordJudge, df: pd.DataFrame) -> None:
    first = df.skytells.classify("text", LABELS, progress=False)
    sent = len(judge.asked)
    second = df.skytells.classify("text", LABELS, progress=False)
    assert len(judge.asked) == sent
    pd.testing.assert_frame_equal(first, second)


def test_nearness_costs_no_completion_and_the_report_counts_the_labels_request(
    judge: WordJudge, df: pd.DataFrame
) -> None:
    out = df.skytells.classify("text", LABELS, via="embedding", progress=False)
    assert out.loc[["w", "z"], "label"].tolist() == ["money", "sports"]
    assert not judge.asked
    assert out.skytells.report.requests == 2
    assert df.skytells.report == out.skytells.report == sky.current().last_report
    assert (out.skytells.report.rows, out.skytells.report.nulls) == (5, 1)


def test_examples_move_a_label_by_nearness(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["goals scored today"]})
    given = [("goals scored today", "money")]
    out = frame.skytells.classify("text", LABELS, via="embedding", examples=given, progress=False)
    assert out["label"].tolist() == ["money"]


def test_a_label_that_cannot_be_embedded_is_named(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["x"]})
    with (
        pytest.warns(SkytellsWarning),
        pytest.raises(RowError, match="could not be embedded: the text has invalid Unicode"),
    ):
        frame.skytells.classify("text", ["a", "\ud800"], via="embedding", progress=False)


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        ("sports", {}, "labels must be a list of strings"),
        (["sports"], {}, "labels must have at least two labels"),
        ([], {}, "labels must have at least two labels"),
        ({}, {}, "labels must be a list"),
        (["a", "a"], {}, "labels must differ, got 'a' twice"),
        (["a", "b"], {"other": "a"}, "labels must differ, got 'a' twice"),
        (["a", " "], {}, "non-empty string, got ' '"),
        (["a", None], {}, "non-empty string, got None"),
        (["a", 1], {}, "non-empty string, got 1"),
        ({"a": "x", "b": ""}, {}, "The meaning of 'b' must be"),
        ({"a": "x", "b": None}, {}, "The meaning of 'b' must be"),
        (LABELS, {"other": ""}, "non-empty string, got ''"),
        (LABELS, {"examples": "goal"}, "examples must be a list of pairs"),
        (LABELS, {"examples": ["goal"]}, r"pair \(text, label\), got 'goal'"),
        (LABELS, {"examples": [("goal", "food")]}, "label of an example must be one of sports, money.*got 'food'"),
        (LABELS, {"examples": [("", "sports")]}, "text of an example must be a non-empty string"),
        (LABELS, {"examples": [(None, "sports")]}, "text of an example must be a non-empty string"),
        (LABELS, {"examples": [("goal", ["sports"])]}, "multi=True takes several"),
        (LABELS, {"examples": pd.DataFrame({"text": ["x"]})}, "no column 'label'"),
        (LABELS, {"examples": pd.DataFrame({"text": ["x"], "label": [None]})}, "label of an example.*got None"),
        (LABELS, {"examples": pd.DataFrame({"text": ["x"], "label_sports": [1], "label_money": [True]}), "multi": True},
         "true or false in every row"),
        (LABELS, {"instructions": " "}, "instructions must be a non-empty string"),
        (LABELS, {"instructions": 5}, "instructions must be a non-empty string"),
        (LABELS, {"params": [1]}, "params must be a dict"),
        (LABELS, {"safety": "loud"}, "safety must be 'keep'"),
        (LABELS, {"via": "magic"}, "via must be 'model' or 'embedding'"),
        (LABELS, {"via": "embedding", "multi": True}, "multi is for a chat model"),
        (LABELS, {"via": "embedding", "other": "else"}, "other is for a chat model"),
        (LABELS, {"via": "embedding", "details": True}, "details is for a chat model"),
        (LABELS, {"via": "embedding", "safety": "mask"}, "safety is for a chat model"),
        (LABELS, {"into": "text"}, "would replace the column"),
        (LABELS, {"rows_per_request": 0}, "rows_per_request must be"),
        (LABELS, {"via": "embedding", "budget": "much"}, "budget must be US dollars"),
        (LABELS, {"lables": 1}, "Unknown keyword 'lables'"),
        ([str(n) for n in range(101)], {"multi": True}, "at most 100 with multi=True, got 101"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_unsent(
    place: Judged, judge: WordJudge, df: pd.DataFrame, labels: Any, more: dict[str, Any], message: str
) -> None:
    before = place.requests
    with pytest.raises(InputError, match=message):
        df.skytells.classify("text", labels, progress=False, **more)
    assert place.requests == before


@pytest.mark.parametrize("via", ["model", "embedding"])
@pytest.mark.parametrize("values", [[], [None], [float("nan")], [pd.NA], [pd.NaT]], ids=str)
def test_no_texts_give_no_labels(judge: WordJudge, values: list[Any], via: Any) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    out = frame.skytells.classify("text", LABELS, via=via, progress=False)
    assert out["label"].isna().all()
    assert out["label"].dtype == pd.CategoricalDtype(LABELS)
    assert not judge.asked


def test_no_texts_give_null_flags(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": pd.Series([None], dtype=object)})
    out = frame.skytells.classify("text", LABELS, multi=True, other="else", progress=False)
    assert out[["label_sports", "label_money", "label_else"]].isna().all(axis=None)


def test_columns_with_levels_and_repeated_index_labels_work(judge: WordJudge) -> None:
    columns = pd.MultiIndex.from_tuples([("doc", "text"), ("doc", "n")])
    frame = pd.DataFrame([["sports", 1], ["money", 2]], columns=columns, index=[7, 7])
    out = frame.skytells.classify(("doc", "text"), LABELS, progress=False)
    assert out[("label", "")].tolist() == LABELS
    assert out.index.tolist() == [7, 7]


def test_categories_are_texts(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": pd.Categorical(["sports", "money", "sports"])})
    assert frame.skytells.classify("text", LABELS, progress=False)["label"].tolist() == ["sports", "money", "sports"]
    assert len(judge.asked) == 2


def test_failed_rows_are_null_in_every_flag(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["sports", "violence:high"]})
    with pytest.warns(SkytellsWarning, match="1 of 2 rows failed and are missing"):
        out = frame.skytells.classify("text", LABELS, multi=True, other="else", progress=False)
    assert out.loc[1, ["label_sports", "label_money", "label_else"]].isna().all()
    assert list(out.skytells.report.errors) == [1]


def is_seen(text: str) -> bool:
    return not is_blank(text)


LABEL_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(is_seen)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(LABEL_TEXTS, min_size=2, max_size=5, unique=True))
def test_any_strings_are_labels(judge: WordJudge, labels: list[str]) -> None:
    frame = pd.DataFrame({"text": labels})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = frame.skytells.classify("text", labels, progress=False)
        flags = frame.skytells.classify("text", labels, multi=True, progress=False)
    assert all(found in text for text, found in zip(labels, out["label"], strict=True))
    expected = np.array([[name in text for name in labels] for text in labels])
    np.testing.assert_array_equal(flags[[f"label_{name}" for name in labels]].to_numpy(dtype=bool), expected)


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Classify.classify)


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"
    AWFUL = "bad"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["good", "bad"], ["good", "bad"]),
        (("good", "bad"), ["good", "bad"]),
        ({"good": "kind", "bad": "rude"}, ["good", "bad"]),
        ({Mood.GOOD: "kind", Mood.BAD: "rude"}, ["good", "bad"]),
        (pd.Series(["good", "bad"]), ["good", "bad"]),
        (pd.Index(["good", "bad"]), ["good", "bad"]),
        (np.array(["good", "bad"]), ["good", "bad"]),
        (pd.Series(["good", "bad", "good", None]).unique()[:2], ["good", "bad"]),
        (pd.Categorical(["good", "bad"]), ["good", "bad"]),
        (pd.Series(["bad", "good", "bad", None], dtype="category"), ["bad", "good"]),
        (pd.CategoricalDtype(["good", "bad"]), ["good", "bad"]),
        (pd.CategoricalIndex(["bad", "bad", "good"]), ["bad", "good"]),
        (Mood, ["good", "bad"]),
        (Level, ["LOW", "HIGH"]),
        ([Mood.GOOD, "bad"], ["good", "bad"]),
        (Literal["good", "bad"], ["good", "bad"]),
        (Literal["good"] | Literal["bad"], ["good", "bad"]),
        ({"good": 1, "bad": 2}.keys(), ["good", "bad"]),
        (collections.deque(["good", "bad"]), ["good", "bad"]),
        (pa.array(["good", "bad"]), ["good", "bad"]),
        (pa.chunked_array([["good"], ["bad"]]), ["good", "bad"]),
        ((name for name in ("good", "bad")), ["good", "bad"]),
    ],
)
def test_labels_of_every_kind_in_an_order(labels: Any, names: list[str], judge: WordJudge) -> None:
    out = pd.DataFrame({"text": ["x"]}).skytells.classify("text", labels, progress=False)
    assert out["label"].cat.categories.tolist() == names
    assert all(type(name) is str for name in Labels.of(names).names)


@pytest.mark.parametrize("labels", [{"good", "bad"}, frozenset(["good", "bad"])])
def test_a_set_has_no_order(labels: Any, judge: WordJudge) -> None:
    with pytest.raises(InputError, match=r"labels must be in an order, got a (frozen)?set: .* Pass a list"):
        pd.DataFrame({"text": ["x"]}).skytells.classify("text", labels, progress=False)
    assert judge.asked == []
