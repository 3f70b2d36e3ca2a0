"""df.skytells.summarize: groups of any size as one text each."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import WordJudge, judged, run_examples
from scripted import scripted

import skytells_nb as sky
from skytells_nb.accessor.methods.summarize import BETWEEN, Summarize, chunks, prompt_of, split_text
from skytells_nb.engine.planning import estimate_tokens, token_estimates
from skytells_nb.errors import BudgetExceededError, InputError, RowError, SkytellsWarning


@pytest.fixture
def df() -> pd.DataFrame:
    texts = [f"Name{n} and {'filler ' * 30}" for n in range(40)]
    return pd.DataFrame({"text": texts, "shop": ["A"] * 36 + ["B"] * 4})


def names(text: str) -> set[str]:
    return {word for word in text.split() if word.startswith("Name")}


def test_each_group_is_one_row_with_its_number_of_texts(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.summarize("text", by="shop", progress=False)
    assert out.index.tolist() == ["A", "B"]
    assert out.index.name == "shop"
    assert out["texts"].tolist() == [36, 4]
    assert names(out.loc["B", "summary"]) == {f"Name{n}" for n in range(36, 40)}


def test_what_does_not_fit_one_request_is_summarised_in_parts(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.summarize("text", by="shop", window=200, progress=False)
    assert names(out.loc["A", "summary"]) == {f"Name{n}" for n in range(36)}
    asked = [text for text, system in zip(judge.texts, judge.systems, strict=True) if "Name0 " in f"{text} "]
    assert len(asked) >= 2
    parts = [text for text in judge.texts if "filler" in text]
    assert max(token_estimates(parts)) <= 200
    whole = [system for system in judge.systems if system.startswith("Summarize the user's texts")]
    assert len(whole) == 2


def test_a_second_call_sends_nothing_whatever_the_tree(judge: WordJudge, df: pd.DataFrame) -> None:
    first = df.skytells.summarize("text", by="shop", window=200, progress=False)
    sent = len(judge.asked)
    second = df.skytells.summarize("text", by="shop", window=200, progress=False)
    assert len(judge.asked) == sent
    pd.testing.assert_frame_equal(first, second)
    assert second.skytells.report.requests == 0


def test_a_new_text_at_the_end_repeats_only_the_parts_it_changes(judge: WordJudge, df: pd.DataFrame) -> None:
    before = df.head(30)
    before.skytells.summarize("text", window=400, progress=False)
    sent = len(judge.asked)
    df.head(31).skytells.summarize("text", window=400, progress=False)
    assert 0 < len(judge.asked) - sent < sent


def test_the_report_counts_groups_and_all_requests(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.summarize("text", by="shop", window=200, progress=False)
    report = out.skytells.report
    assert (report.rows, report.answered) == (2, 2)
    assert report.requests == len(judge.asked)
    assert report.tokens_in > 0
    assert df.skytells.report == report == sky.current().last_report


def test_without_groups_all_texts_are_one(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["One", None, "Two", " ", ""]})
    out = frame.skytells.summarize("text", progress=False)
    assert out["texts"].tolist() == [2]
    assert judge.texts == [f"One{BETWEEN}Two"]
    assert out["summary"].tolist() == ["One Two"]


def test_instructions_reach_every_level(judge: WordJudge, df: pd.DataFrame) -> None:
    df.skytells.summarize("text", window=200, instructions="Three bullet points.", progress=False)
    assert all(system.endswith("Three bullet points.") for system in judge.systems)
    assert len(set(judge.systems)) == 2


def test_groups_are_those_of_pandas(judge: WordJudge) -> None:
    frame = pd.DataFrame(
        {
            "text": ["One", "Two", "Three", "Four"],
            "a": pd.Categorical(["y", "x", "y", None], categories=["x", "y", "unused"]),
            "b": [1, 2, 1, 3],
        }
    )
    out = frame.skytells.summarize("text", by=["a", "b"], progress=False)
    expected = frame.groupby(["a", "b"], observed=True)["text"].count()
    pd.testing.assert_series_equal(out["texts"], expected.rename("texts"))


def test_a_long_text_is_cut_into_parts(judge: WordJudge) -> None:
    text = " ".join(f"Name{n} filler filler filler filler" for n in range(60))
    out = pd.DataFrame({"text": [text]}).skytells.summarize("text", window=300, progress=False)
    assert names(out["summary"][0]) == names(text)
    assert len(judge.asked) > 2


def test_a_model_that_makes_nothing_shorter_still_comes_to_an_end(tmp_path: Path) -> None:
    class Wordy(WordJudge):
        def say(self, text: str) -> str:
            return f"{text} And more of it."

    with judged(Wordy()) as place, place.session(tmp_path) as judge:
        texts = [f"word{n} " * 30 for n in range(30)]
        out = pd.DataFrame({"text": texts}).skytells.summarize("text", window=100, progress=False)
    assert out["summary"].notna().all()
    assert max(token_estimates(judge.texts)) <= 110


@pytest.mark.parametrize("window", [200, 8000])
def test_a_text_that_is_blocked_costs_only_itself(judge: WordJudge, df: pd.DataFrame, window: int) -> None:
    """Whether it is in one of many parts, or in the only request of its group."""
    spoilt = df.copy()
    spoilt.loc[3, "text"] = "violence:high " + spoilt.loc[3, "text"]
    with pytest.warns(SkytellsWarning, match="1 of 40 texts are left out of the summaries. 1: ContentPolicyError"):
        out = spoilt.skytells.summarize("text", by="shop", window=window, progress=False)
    expected = df.drop(index=3).skytells.summarize("text", by="shop", window=8000, progress=False)
    assert out["texts"].tolist() == expected["texts"].tolist()
    for made, whole in zip(out["summary"], expected["summary"], strict=True):
        assert set(made.replace("---", "").split()) == set(whole.replace("---", "").split())
    report = out.skytells.report
    assert (report.rows, report.answered, report.failed, report.nulls) == (2, 2, 0, 0)
    assert out.skytells.failed().empty
    tidy = out.skytells.safety("summary")
    assert "high" in set(tidy[tidy["row"] == "A"]["severity"])
    masked = spoilt.skytells.summarize("text", by="shop", window=window, safety="mask", on_error="null", progress=False)
    assert masked["summary"].notna().all()


def test_a_group_that_is_blocked_as_a_whole_is_null_and_an_error(judge: WordJudge, df: pd.DataFrame) -> None:
    spoilt = df.copy()
    spoilt.loc[spoilt["shop"] == "A", "text"] = "violence:high"
    with pytest.warns(SkytellsWarning, match="1 of 2 rows failed and are missing"):
        out = spoilt.skytells.summarize("text", by="shop", window=200, progress=False)
    assert out["summary"].isna().tolist() == [True, False]
    report = out.skytells.report
    assert (report.rows, report.answered, report.failed, report.nulls) == (2, 1, 1, 0)
    assert list(report.errors) == [0]
    tidy = out.skytells.safety("summary")
    assert "high" in set(tidy[tidy["row"] == "A"]["severity"])


def test_half_a_character_costs_a_summary_only_its_text(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["Ann came", "half \ud83d", "Bob left"]}, dtype=object)
    with pytest.warns(SkytellsWarning, match="1 of 3 texts are left out of the summaries. 1 with invalid Unicode"):
        out = frame.skytells.summarize("text", progress=False)
    assert (out["texts"].tolist(), out["summary"].tolist()) == ([2], ["Ann Bob"])
    with pytest.raises(InputError, match="invalid Unicode"):
        frame.skytells.summarize("text", on_error="raise", progress=False)


def test_a_part_that_is_too_long_for_the_model_is_divided() -> None:
    """Also a text by itself: its pieces are summarized."""

    def answer(text: str) -> Any:
        if len(text) > 900:
            return 400, {"error": {"message": "Too long.", "code": "context_length_exceeded"}}
        return " ".join(dict.fromkeys(word for word in text.split() if word[:1].isupper())) or "Words"

    texts = ["Ann " + "word " * 300, "Bob came", "Cleo left"]
    with scripted(answer):
        out = pd.DataFrame({"text": texts}).skytells.summarize("text", progress=False)
    assert (out["texts"].tolist(), out["summary"].tolist()) == ([3], ["Ann Words Bob Cleo"])


def test_another_failure_of_a_part_is_an_error_of_its_group(df: pd.DataFrame) -> None:
    with scripted(lambda text: (400, {"error": {"message": "No."}}) if "Name3 " in text else "fine") as script:
        out = df.skytells.summarize("text", by="shop", window=200, on_error="null", progress=False)
        assert out["summary"].isna().tolist() == [True, False]
        assert len(script.asked) == len(set(script.asked))


def test_raise_raises_for_a_part_too(judge: WordJudge, df: pd.DataFrame) -> None:
    spoilt = df.copy()
    spoilt.loc[3, "text"] = "violence:high"
    with pytest.raises(RowError):
        spoilt.skytells.summarize("text", by="shop", window=200, on_error="raise", progress=False)
    assert spoilt.skytells.report.operation == "summarize"


def test_an_empty_summary_of_a_part_is_an_error_of_its_group(tmp_path: Path, df: pd.DataFrame) -> None:
    class Silent(WordJudge):
        def say(self, text: str) -> str:
            return "" if "Name3 " in text else super().say(text)

    with judged(Silent()) as place, place.session(tmp_path), pytest.warns(SkytellsWarning, match="empty"):
        out = df.skytells.summarize("text", by="shop", window=200, progress=False)
    assert out["summary"].isna().tolist() == [True, False]


def test_a_policy_goes_by_the_worst_part(judge: WordJudge, df: pd.DataFrame) -> None:
    found = df.copy()
    found.loc[3, "text"] = "violence:medium " + found.loc[3, "text"]
    out = found.skytells.summarize("text", by="shop", window=200, safety="mask", on_error="null", progress=False)
    assert out["summary"].isna().tolist() == [True, False]


def test_a_budget_is_of_all_levels_together(judge: WordJudge, df: pd.DataFrame) -> None:
    cost = df.skytells.summarize("text", window=200, cache="off", progress=False).skytells.report.cost
    assert cost
    with pytest.raises(BudgetExceededError):
        df.skytells.summarize("text", window=200, cache="off", budget=cost / 2, progress=False)
    assert df.skytells.report.cost <= cost / 2


def test_an_interrupted_call_reports_all_of_its_runs(judge: WordJudge, df: pd.DataFrame) -> None:
    seen: list[str] = []

    def stop(event: Any) -> None:
        if any(system.startswith("Summarize") for system in judge.systems):
            seen.append(threading.current_thread().name)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        df.skytells.summarize("text", window=200, progress=stop)
    assert seen
    assert df.skytells.report.requests > 1


@pytest.mark.parametrize(
    ("column", "more", "message"),
    [
        ("nope", {}, "no column 'nope'"),
        ("n", {}, "must hold text, got int64"),
        ("text", {"by": "nope"}, "no column 'nope'"),
        ("text", {"by": []}, "empty list"),
        ("text", {"by": "lists"}, "cannot be grouped"),
        ("text", {"window": 10}, "window must be an integer of at least 100 tokens"),
        ("text", {"window": 500.0}, "window must be an integer"),
        ("text", {"window": True}, "window must be an integer"),
        ("text", {"into": "texts"}, "other than 'texts'"),
        ("text", {"into": ["x"]}, "into must be the name"),
        ("text", {"instructions": ""}, "instructions must be a non-empty string"),
        ("text", {"params": "x"}, "params must be a dict"),
        ("text", {"safety": "LOUD"}, "safety must be"),
        ("text", {"on_error": "ignore"}, "on_error must be"),
        ("text", {"budget": "x"}, "budget must be US dollars"),
    ],
)
def test_what_cannot_be_asked_is_refused_unsent(
    judge: WordJudge, df: pd.DataFrame, column: str, more: dict[str, Any], message: str
) -> None:
    frame = df.assign(n=1, lists=[[1]] * len(df))
    with pytest.raises(InputError, match=message):
        frame.skytells.summarize(column, progress=False, **more)
    assert not judge.asked


@pytest.mark.parametrize("values", [[], [None], [pd.NaT, " "]], ids=str)
def test_no_texts_have_no_summary(judge: WordJudge, values: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object), "shop": pd.Series("A", index=range(len(values)))})
    out = frame.skytells.summarize("text", progress=False)
    assert out["texts"].tolist() == [0]
    assert out["summary"].isna().all()
    grouped = frame.skytells.summarize("text", by="shop", progress=False)
    assert len(grouped) == frame["shop"].nunique()
    assert not judge.asked


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(text=TEXT, most=st.integers(1, 40))
def test_pieces_fit_and_hold_every_character_but_white_space(text: str, most: int) -> None:
    found = list(split_text(text, most))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(estimate_tokens(piece) <= most for piece in found)


@given(texts=st.lists(TEXT.filter(str.strip), max_size=20), most=st.integers(5, 60), least=st.sampled_from([1, 2]))
def test_chunks_hold_every_piece_in_order_and_fit(texts: list[str], most: int, least: int) -> None:
    made = chunks(texts, most, least=least)
    assert [part for chunk in made for part in chunk] == [piece for text in texts for piece in split_text(text, most)]
    assert all(len(chunk) >= least for chunk in made[:-1])
    if least == 1:
        assert all(estimate_tokens(prompt_of(chunk)) <= most + 2 for chunk in made if len(chunk) > 1)


@given(count=st.integers(1, 300), size=st.integers(1, 50))
def test_with_two_in_each_chunk_every_level_is_about_half(count: int, size: int) -> None:
    made = chunks(["w" * 4 * size] * count, size, least=2)
    assert len(made) <= int(np.ceil(count / 2))


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Summarize.summarize)


def test_the_examples_of_cutting_and_packing_run() -> None:
    run_examples(split_text)
    run_examples(chunks)
