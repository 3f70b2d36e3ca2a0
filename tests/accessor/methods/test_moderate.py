"""df.skytells.moderate: verdicts on texts, with nothing generated beyond the minimum."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from judges import WordJudge, judged, run_examples

from skytells_nb.accessor.methods.moderate import Moderate
from skytells_nb.errors import InputError, RowError, SkytellsWarning


@pytest.fixture
def df() -> pd.DataFrame:
    texts = ["kind words", "violence:medium now", None, "hate:high violence:low", "jailbreak:medium", "kind words"]
    return pd.DataFrame({"text": texts}, index=list("abcdef"))


def listed(column: pd.Series[Any]) -> list[Any]:
    return [None if pd.isna(value) else value for value in column]


def test_each_text_gets_its_verdict_and_a_blocked_one_is_no_error(judge: WordJudge, df: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = df.skytells.moderate("text", progress=False)
    assert listed(out["moderation_severity"]) == ["safe", "medium", None, "high", "safe", "safe"]
    assert listed(out["moderation_filtered"]) == [False, False, None, True, False, False]
    assert listed(out["moderation_categories"]) == ["", "violence", None, "hate, violence", "jailbreak", ""]
    assert listed(out["moderation_checked"]) == [True, True, None, True, True, True]
    report = out.skytells.report
    assert (report.answered, report.failed, report.nulls, dict(report.errors)) == (5, 0, 1, {})


def test_severities_compare_in_their_order(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.moderate("text", progress=False)
    assert out.index[out["moderation_severity"] >= "medium"].tolist() == ["b", "d"]


def test_one_token_is_generated_at_most(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["Many Words That Could All Come Back"]})
    assert frame.skytells.moderate("text", progress=False).skytells.report.tokens_out == 1


def test_what_the_answer_says_is_no_part_of_the_verdict(tmp_path: Path) -> None:
    class Rude(WordJudge):
        def say(self, text: str) -> str:
            return "violence:high"

    with judged(Rude()) as place, place.session(tmp_path):
        out = pd.DataFrame({"text": ["kind words"]}).skytells.moderate("text", progress=False)
    assert out["moderation_severity"].tolist() == ["safe"]
    assert not out["moderation_filtered"].any()
    assert set(out.skytells.safety("moderation")["source"]) == {"prompt"}
    # The only results need no name, also in a copy that no call made; of several none is taken for the other.
    for frame in (out, out.copy()):
        pd.testing.assert_frame_equal(frame.skytells.safety(), frame.skytells.safety("moderation"))
    verdicts = [name for name in out if str(name).startswith("moderation_")]
    both = out.join(out[verdicts].rename(columns=lambda name: str(name).replace("moderation", "second")))
    with pytest.raises(InputError, match=r"several columns \('moderation', 'second'\)"):
        both.skytells.safety()


def test_a_filter_that_did_not_run_is_no_pass(tmp_path: Path) -> None:
    with judged(faults="filter_down=true") as place, place.session(tmp_path):
        out = pd.DataFrame({"text": ["kind words"]}).skytells.moderate("text", safety="CHILD_SAFE", progress=False)
    assert listed(out["moderation_checked"]) == [False]
    assert listed(out["moderation_severity"]) == [None]
    assert listed(out["moderation_allowed"]) == [False]


def test_a_policy_says_what_it_allows(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.moderate("text", safety={"hate": "low"}, progress=False)
    assert listed(out["moderation_allowed"]) == [True, True, None, False, True, True]


def test_raise_names_rows_after_every_verdict_is_stored(judge: WordJudge, df: pd.DataFrame) -> None:
    with pytest.raises(RowError, match=r"filters 3 of 6 answers.*Rows: 'b', 'd', 'e'"):
        df.skytells.moderate("text", safety="raise", progress=False)
    assert df.skytells.moderate("text", progress=False).skytells.report.sent == 0


def test_the_tidy_table_has_a_row_for_each_finding(judge: WordJudge, df: pd.DataFrame) -> None:
    tidy = df.skytells.moderate("text", progress=False).skytells.safety("moderation")
    found = tidy[tidy["filtered"] | tidy["severity"].isin(["low", "medium", "high"])]
    assert found[["row", "category", "severity"]].to_numpy().tolist() == [
        ["b", "violence", "medium"],
        ["d", "hate", "high"],
        ["d", "violence", "low"],
    ]


def test_details_keep_the_verdicts_with_the_frame(judge: WordJudge, df: pd.DataFrame, tmp_path: Path) -> None:
    out = df.skytells.moderate("text", details=True, progress=False)
    out.to_parquet(tmp_path / "x.parquet")
    back = pd.read_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(back.skytells.safety("moderation"), out.skytells.safety("moderation"))


def test_other_failures_are_null_and_warned_of(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["kind words", "half \ud83d", "hate:high"]}, dtype=object)
    with pytest.warns(SkytellsWarning, match="1 of 3 rows failed and are missing"):
        out = frame.skytells.moderate("text", progress=False)
    assert listed(out["moderation_filtered"]) == [False, None, True]
    assert list(out.skytells.report.errors) == [1]
    with pytest.raises(RowError, match="1 of 3 texts have no safety result"):
        frame.skytells.moderate("text", on_error="raise", progress=False)


@pytest.mark.parametrize(
    ("column", "more", "message"),
    [
        ("nope", {}, "no column 'nope'"),
        ("n", {}, "must hold text, got int64"),
        ("text", {"on_error": "ignore"}, "on_error must be"),
        ("text", {"params": 5}, "params must be a dict"),
        ("text", {"safety": "NICE"}, "safety must be 'keep'"),
        ("text", {"safety": {}}, "thresholds must be a dict"),
        ("text", {"into": ["x"]}, "into must be the name"),
    ],
)
def test_what_cannot_be_asked_is_refused_unsent(
    judge: WordJudge, df: pd.DataFrame, column: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        df.assign(n=1).skytells.moderate(column, progress=False, **more)
    assert not judge.asked


@pytest.mark.parametrize("values", [[], [None], [pd.NA]], ids=str)
def test_no_texts_have_no_verdicts(judge: WordJudge, values: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    out = frame.skytells.moderate("text", safety="STRICT", progress=False)
    assert out.drop(columns="text").isna().all(axis=None)
    assert not judge.asked


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Moderate.moderate)


def test_a_mask_has_the_findings_of_its_rows(judge: WordJudge, df: pd.DataFrame) -> None:
    """From the columns: each category with the severity of the row, ``detected`` without one."""
    out = df.skytells.moderate("text", progress=False)
    kept = out[out.index > "b"].skytells.safety("moderation")
    assert kept["row"].tolist() == ["d", "d", "e", "f"]
    assert kept["category"].tolist() == ["hate", "violence", "jailbreak", "all"]
    assert listed(kept["severity"]) == ["high", "high", None, "safe"]
    assert listed(kept["detected"]) == [None, None, True, None]
    assert kept.dtypes.equals(out.skytells.safety("moderation").dtypes)
