"""df.skytells.translate: each text in another language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from judges import WordJudge, judged, run_examples

from skytells_nb.accessor.methods.translate import Translate
from skytells_nb.errors import InputError


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"text": ["Good morning", None, "Good night", "Good morning"], "n": range(4)})


def test_each_text_is_sent_once_and_its_translation_is_a_column(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.translate("text", to="French", progress=False)
    assert out.columns.tolist() == ["text", "n", "translation"]
    assert out["translation"].isna().tolist() == [False, True, False, False]
    assert out.loc[0, "translation"] == out.loc[3, "translation"]
    assert sorted(judge.texts) == ["Good morning", "Good night"]


def test_the_model_is_told_the_language_and_what_else_to_mind(judge: WordJudge, df: pd.DataFrame) -> None:
    df.skytells.translate("text", "French", instructions="Use the formal address.", into="fr", progress=False)
    assert all("into French" in said and said.endswith("Use the formal address.") for said in judge.systems)


def test_another_language_is_another_answer(judge: WordJudge, df: pd.DataFrame) -> None:
    df.skytells.translate("text", "French", progress=False)
    again = df.skytells.translate("text", "French", progress=False)
    other = df.skytells.translate("text", "German", progress=False)
    assert (again.skytells.report.sent, other.skytells.report.sent) == (0, 2)


@pytest.mark.parametrize(
    ("column", "to", "more", "message"),
    [
        ("text", "", {}, "to must be a non-empty string"),
        ("text", 5, {}, "to must be a non-empty string"),
        ("n", "French", {}, "must hold text, got int64"),
        ("text", "French", {"into": "text"}, "would replace"),
        ("text", "French", {"instructions": " "}, "instructions must be a non-empty string"),
    ],
)
def test_what_cannot_be_asked_is_refused_unsent(
    judge: WordJudge, df: pd.DataFrame, column: str, to: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        df.skytells.translate(column, to, progress=False, **more)
    assert not judge.asked


@pytest.mark.parametrize("values", [[], [None], [pd.NaT]], ids=str)
def test_no_texts_give_no_translations(judge: WordJudge, values: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    assert frame.skytells.translate("text", "French", progress=False)["translation"].isna().all()
    assert not judge.asked


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Translate.translate)


def test_an_answer_that_was_all_reasoning_is_null_and_an_error(tmp_path: Path, df: pd.DataFrame) -> None:
    with judged(faults="empty_length=true") as place, place.session(tmp_path):
        out = df.skytells.translate("text", "French", on_error="null", progress=False)
    assert out["translation"].isna().all()
    assert list(out.skytells.report.errors) == [0, 2, 3]
    assert "went to reasoning" in str(out.skytells.report.errors[0])
