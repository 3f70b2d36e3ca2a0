"""Safety policies: which verdicts withhold an answer, and what happens then."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import WordJudge, run_examples

from skytells_nb.accessor.safety import CATEGORIES, KEEP, LEVELS, PRESETS, SafetyPolicy, is_filtered
from skytells_nb.errors import InputError, RowError, SkytellsWarning
from skytells_nb.types.safety import SEVERITIES, Finding, Safety, severity_rank

FINDINGS = st.builds(
    Finding,
    source=st.sampled_from(["prompt", "completion"]),
    index=st.just(0),
    category=st.sampled_from(CATEGORIES),
    severity=st.sampled_from([None, *SEVERITIES, "strange"]),
    filtered=st.booleans(),
    detected=st.sampled_from([None, False, True]),
    checked=st.booleans(),
)
VERDICTS = st.builds(Safety, findings=st.lists(FINDINGS, max_size=4).map(tuple), blocked=st.booleans())


def verdict(category: str, severity: str | None = None, **more: Any) -> Safety:
    return Safety((Finding("completion", 0, category, severity, **more),))


@given(found=VERDICTS)
def test_stricter_presets_withhold_all_that_milder_ones_do(found: Safety) -> None:
    order = ["MINIMAL", "MODERATE", "STRICT", "CHILD_SAFE"]
    reasons = [PRESETS[name].reason(found) is not None for name in order]
    assert reasons == sorted(reasons)
    if PRESETS["MODERATE"].reason(found):
        assert PRESETS["ENTERPRISE"].reason(found)


@given(found=VERDICTS)
def test_what_the_service_filtered_is_withheld_under_every_policy_but_keep(found: Safety) -> None:
    every = [*PRESETS.values(), SafetyPolicy({"violence": None})]
    if found.filtered:
        assert all(policy.reason(found) for policy in every)
    assert KEEP.reason(found) is None


@given(found=VERDICTS, rank=st.sampled_from(LEVELS))
def test_a_threshold_for_every_category_goes_by_the_highest_severity(found: Safety, rank: str) -> None:
    def height(finding: Finding) -> float:
        known = 1.0 if finding.severity == "strange" else severity_rank(finding.severity)
        return max(known, 2.0 if finding.detected else 0.0)

    expected = found.filtered or any(height(finding) >= severity_rank(rank) for finding in found.findings)
    assert is_filtered(SafetyPolicy({"*": rank}), [found, None]).tolist() == [expected, False]


@pytest.mark.parametrize(
    ("name", "category", "severity", "acts"),
    [
        ("STRICT", "violence", "low", True),
        ("STRICT", "violence", "safe", False),
        ("MODERATE", "violence", "low", False),
        ("MODERATE", "violence", "medium", True),
        ("MINIMAL", "violence", "medium", False),
        ("MINIMAL", "violence", "high", True),
        ("CHILD_SAFE", "sexual", "low", True),
        ("ENTERPRISE", "hate", "low", True),
        ("ENTERPRISE", "violence", "low", False),
        ("ENTERPRISE", "violence", "medium", True),
    ],
)
def test_the_thresholds_of_presets_act(name: str, category: str, severity: str, acts: bool) -> None:
    assert (SafetyPolicy.of(name).reason(verdict(category, severity)) is not None) is acts


@pytest.mark.parametrize("name", ["CHILD_SAFE", "ENTERPRISE"])
def test_no_verdict_is_no_pass_where_the_policy_says_so(name: str) -> None:
    assert SafetyPolicy.of(name).reason(Safety()) == "not checked"
    assert SafetyPolicy.of("MODERATE").reason(Safety()) is None


def test_a_named_category_comes_before_the_star_and_none_leaves_one_out() -> None:
    policy = SafetyPolicy({"violence": "high", "hate": None, "*": "low"})
    assert policy.reason(verdict("violence", "medium")) is None
    assert policy.reason(verdict("hate", "high")) is None
    assert policy.reason(verdict("sexual", "low")) == "sexual (low)"


def test_what_is_only_detected_counts_as_medium() -> None:
    found = verdict("jailbreak", detected=True)
    assert SafetyPolicy.of("MODERATE").reason(found) == "jailbreak (detected)"
    assert SafetyPolicy.of("MINIMAL").reason(found) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("loud", "safety must be 'keep', 'mask', 'raise', one of STRICT"),
        ("strict", "safety must be 'keep'"),
        (None, "safety must be 'keep'"),
        (True, "safety must be 'keep'"),
        (["STRICT"], "safety must be 'keep'"),
        ({}, "thresholds must be a dict"),
        ({"violance": "low"}, "Did you mean 'violence'"),
        ({"self-harm": "low"}, "Did you mean 'self_harm'"),
        ({"violence": "safe"}, "'low', 'medium', 'high' or None, got 'safe'"),
        ({"violence": 2}, "or None, got 2"),
        ({5: "low"}, "category must be a name"),
    ],
)
def test_what_is_no_policy_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SafetyPolicy.of(given)


def test_a_preset_takes_another_action() -> None:
    assert SafetyPolicy.preset("STRICT", "raise").action == "raise"
    with pytest.raises(InputError, match=r"no safety policy 'LOUD'\. The presets are: STRICT"):
        SafetyPolicy.preset("LOUD")


def test_a_category_that_the_service_may_add_is_taken() -> None:
    assert SafetyPolicy({"weather": "low"}).reason(verdict("weather", "low")) == "weather (low)"


@pytest.fixture
def df() -> pd.DataFrame:
    texts = ["Fine", "Some violence:medium", None, "Blocked violence:high", "Also fine"]
    return pd.DataFrame({"text": texts}, index=list("abcde"))


def test_keep_shows_everything_that_came(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.translate("text", "French", on_error="null", progress=False)
    assert out["translation"].isna().tolist() == [False, False, True, True, False]


def test_mask_puts_nulls_and_says_how_many_and_why(judge: WordJudge, df: pd.DataFrame) -> None:
    with pytest.warns(SkytellsWarning) as caught:
        out = df.skytells.translate("text", "French", safety="mask", details=True, progress=False)
    assert out["translation"].isna().tolist() == [False, True, True, True, False]
    assert out["translation_severity"].tolist()[1] == "medium"
    said = [str(warning.message) for warning in caught]
    assert said[0].startswith("1 of 5 rows failed and are missing")
    assert said[1].startswith("The safety policy filters 1 of 5 answers: violence (medium) in 1.")
    assert {warning.filename for warning in caught} == {__file__}


def test_a_masked_column_keeps_its_dtype(judge: WordJudge, df: pd.DataFrame) -> None:
    quiet: dict[str, Any] = {"on_error": "null", "progress": False}
    for method in (
        lambda safety: df.skytells.translate("text", "French", safety=safety, **quiet),
        lambda safety: df.skytells.classify("text", ["a", "b"], safety=safety, **quiet),
        lambda safety: df.skytells.classify("text", ["a", "b"], multi=True, safety=safety, **quiet),
        lambda safety: df.skytells.filter("text", "Is it?", keep="column", safety=safety, **quiet),
    ):
        masked, kept = method("mask"), method("keep")
        assert masked.dtypes.equals(kept.dtypes)
        assert masked.iloc[1, 1:].isna().all()


def test_raise_names_the_rows_and_the_answers_are_kept(judge: WordJudge, df: pd.DataFrame) -> None:
    with pytest.raises(RowError, match=r"filters 2 of 5 answers.*Rows: 'b', 'd'\.") as failure:
        df.skytells.translate("text", "French", safety="raise", on_error="null", progress=False)
    assert failure.value.report.answered == 3
    again = df.skytells.translate("text", "French", on_error="null", progress=False)
    assert again.skytells.report.sent == 0


def test_thresholds_by_category_mask(judge: WordJudge, df: pd.DataFrame) -> None:
    shown = df.skytells.translate("text", "French", safety={"hate": "low"}, on_error="null", progress=False)
    hidden = df.skytells.translate("text", "French", safety={"violence": "medium"}, on_error="null", progress=False)
    assert shown.loc["b", "translation"] == "Some"
    assert pd.isna(hidden.loc["b", "translation"])


def test_rows_that_share_an_index_label_are_masked_by_position(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["Fine", "Some violence:medium", "Fine"]}, index=[1, 1, 1])
    out = frame.skytells.translate("text", "French", safety="mask", on_error="null", progress=False)
    assert out["translation"].isna().tolist() == [False, True, False]


def test_the_example_runs() -> None:
    run_examples(SafetyPolicy)
