"""Verdicts: every shape the service sends, and how two become one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import (
    UNCHECKED,
    Finding,
    PromptFilterResult,
    Safety,
    findings,
    prompt_findings,
    severity_rank,
)

SEVERITY = st.one_of(st.none(), st.sampled_from(["safe", "low", "medium", "high", "HIGH", "extreme", "odd"]))
FINDING = st.builds(
    Finding,
    source=st.sampled_from(["prompt", "completion"]),
    index=st.integers(0, 1),
    category=st.sampled_from(["hate", "violence", "jailbreak"]),
    severity=SEVERITY,
    filtered=st.booleans(),
    detected=st.one_of(st.none(), st.booleans()),
    checked=st.booleans(),
)
SAFETY = st.builds(Safety, st.lists(FINDING, max_size=5).map(tuple), st.booleans())


def one(results: Any) -> Finding:
    (found,) = findings(results, "completion")
    return found


def by_category(safety: Safety) -> dict[tuple[str, int, str], Finding]:
    return {(f.source, f.index, f.category): f for f in safety.findings}


def test_a_graded_category() -> None:
    found = one({"hate": {"filtered": False, "severity": "low"}})
    assert found == Finding("completion", 0, "hate", severity="low")


@pytest.mark.parametrize("kind", ["jailbreak", "protected_material_text", "profanity", "indirect_attack"])
def test_a_detected_category(kind: str) -> None:
    found = one({kind: {"filtered": False, "detected": True}})
    assert (found.detected, found.filtered, found.severity) == (True, False, None)
    assert Safety((found,)).flagged == (found,)
    assert not Safety((found,)).filtered


def test_a_citation_on_protected_code_changes_nothing() -> None:
    result = {"filtered": False, "detected": True, "citation": {"URL": "https://example.org", "license": "MIT"}}
    assert one({"protected_material_code": result}).detected is True


@pytest.mark.parametrize(
    "result",
    [
        {"filtered": True},
        {"filtered": False, "details": [{"id": "a", "filtered": False}, {"id": "b", "filtered": True}]},
        [{"id": "a", "filtered": False}, {"id": "b", "filtered": True}],
    ],
)
def test_a_blocklist_in_each_of_its_shapes_is_filtered(result: Any) -> None:
    assert one({"custom_blocklists": result}).filtered is True


@pytest.mark.parametrize("result", [{"filtered": False}, {"filtered": False, "details": []}, [], [None, "odd"]])
def test_a_blocklist_that_found_nothing_is_not_filtered(result: Any) -> None:
    found = one({"custom_blocklists": result})
    assert (found.filtered, found.checked) == (False, True)


def test_categories_we_do_not_know_are_kept() -> None:
    found = one({"my own category": {"filtered": True, "detected": True, "details": {"x": 1}}})
    assert (found.category, found.filtered) == ("my own category", True)


@pytest.mark.parametrize("results", [None, {}, [], "text", 5])
def test_no_results_give_no_findings_and_no_pass(results: Any) -> None:
    assert findings(results, "prompt") == ()
    assert Safety(findings(results, "prompt")).checked is False


UNREADABLE = [
    None,
    {},
    [{"error": {"code": "x"}}],
    {"error": {"code": "content_filter_error", "message": "not run"}},
    {"error": {}},
    {"filtered": None},
    {"filtered": None, "severity": None},
    {"filtered": "perhaps"},
    {"filtered": False, "severity": "safe", "error": {"code": "x"}},
    {"filtered": False, "severity": ["safe"]},
    {"filtered": [], "severity": "safe"},
    {"filtered": False, "detected": "unknown"},
    {"severity": True},
    {"severity": float("nan")},
    {"severity": -1},
    "",
    True,
    {"verdict": "fine"},
]


@pytest.mark.parametrize("result", UNREADABLE)
def test_a_category_without_a_verdict_is_not_checked(result: Any) -> None:
    safety = Safety(findings({"hate": {"filtered": False, "severity": "safe"}, "violence": result}, "completion"))
    assert not safety.checked
    assert not safety.filtered
    assert [f.category for f in safety.findings if not f.checked] == ["violence"]


@pytest.mark.parametrize(
    ("severity", "name"),
    [
        *((0, "safe"), (1, "low"), (2, "low"), (4, "medium"), (6, "high"), (7, "high"), (9, "high"), (4.0, "medium")),
        *(("4", "medium"), ("0", "safe"), (" High ", "high"), ("SAFE", "safe"), (0.9, "0.9"), ("odd", "odd")),
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_severity_is_read_as_number_and_as_text(severity: Any, name: str, bare: bool) -> None:
    found = one({"violence": severity if bare else {"filtered": False, "severity": severity}})
    assert (found.severity, found.checked) == (name, True)
    assert bool(Safety((found,)).flagged) is (name != "safe")


@pytest.mark.parametrize(
    ("written", "truth"), [("false", False), ("False", False), ("true", True), (" TRUE ", True), (0, False), (1, True)]
)
def test_yes_and_no_are_read_as_text(written: Any, truth: bool) -> None:
    found = one({"violence": {"filtered": written, "severity": "safe"}})
    assert (found.filtered, found.checked) == (truth, True)
    found = one({"jailbreak": {"filtered": False, "detected": written}})
    assert (found.detected, bool(Safety((found,)).flagged), found.checked) == (truth, truth, True)
    assert one({"custom_blocklists": [{"id": "a", "filtered": written}]}).filtered is truth


SINGULAR = {"content_filter_result": {"violence": {"filtered": False, "severity": "high"}}}


@pytest.mark.parametrize(
    "answer",
    [
        ChatCompletion.model_validate({"choices": [{"message": {"content": "x"}, **SINGULAR}]}),
        ChatCompletion.model_validate({"choices": [], "prompt_filter_results": [{"prompt_index": 0, **SINGULAR}]}),
        ChatCompletion.model_validate({"choices": [], **SINGULAR}),
        ChatCompletion.model_validate(
            {"choices": [], "prompt_annotations": [{"content_filter_results": SINGULAR["content_filter_result"]}]}
        ),
        Response.model_validate({"content_filters": [{"source_type": "completion", **SINGULAR}]}),
    ],
)
def test_the_singular_name_is_read_wherever_it_stands(answer: ChatCompletion | Response) -> None:
    assert [(f.category, f.severity) for f in answer.safety.flagged] == [("violence", "high")]


@pytest.mark.parametrize("results", [None, {}, {"content_filter_results": None}, {"content_filter_results": {}}])
def test_an_answer_of_which_the_filter_says_nothing_is_not_checked(results: dict[str, Any] | None) -> None:
    """The verdict on the prompt is not one on the answer."""
    prompt = [{"prompt_index": 0, "content_filter_results": PASS}]
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "x"}, **(results or {})}
    assert not ChatCompletion.model_validate({"choices": [choice], "prompt_filter_results": prompt}).safety.checked
    item = {"type": "message", "content": [{"type": "output_text", "text": "x"}]}
    filters = [
        {"source_type": "prompt", "content_filter_results": PASS},
        {"source_type": "completion", **(results or {})},
    ]
    assert not Response.model_validate({"output": [item], "content_filters": filters}).safety.checked


def test_what_had_arrived_of_an_answer_is_not_judged_by_a_verdict_that_comes_at_its_end() -> None:
    choice = {"index": 0, "finish_reason": "interrupted", "message": {"content": "x"}}
    prompt = [{"prompt_index": 0, "content_filter_results": PASS}]
    safety = ChatCompletion.model_validate({"choices": [choice], "prompt_filter_results": prompt}).safety
    assert [f.source for f in safety.findings] == ["prompt"]


@pytest.mark.parametrize("results", [None, {}])
def test_a_prompt_with_an_empty_verdict_is_not_checked(results: Any) -> None:
    choice = {"index": 0, "message": {"content": "x"}, "content_filter_results": PASS}
    prompt = [{"prompt_index": 0, "content_filter_results": results}]
    assert not ChatCompletion.model_validate({"choices": [choice], "prompt_filter_results": prompt}).safety.checked


def test_an_error_entry_means_not_checked() -> None:
    down = {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
    safety = Safety(findings(down, "completion"))
    assert [f.category for f in safety.findings] == [UNCHECKED]
    assert (safety.checked, safety.filtered, safety.severity) == (False, False, None)


def test_beside_an_error_a_safe_verdict_is_no_pass_and_a_flag_stays() -> None:
    results = {
        "error": {"code": "content_filter_error"},
        "hate": {"filtered": False, "severity": "safe"},
        "violence": {"filtered": True, "severity": "high"},
    }
    found = {f.category: f for f in findings(results, "completion")}
    assert (found["hate"].checked, found["hate"].severity) == (False, None)
    assert (found["violence"].checked, found["violence"].severity) == (True, "high")


@pytest.mark.parametrize("status", ["error", "failed", "Timeout", "skipped", "not_run"])
def test_a_status_that_says_that_a_check_did_not_run_is_no_pass(status: str) -> None:
    safe = {"filtered": False, "severity": "safe"}
    (found,) = findings({"hate": {**safe, "status": status}}, "prompt")
    assert (found.checked, found.severity) == (False, None)
    (found,) = findings({"hate": {"filtered": True, "severity": "high", "status": status}}, "prompt")
    assert (found.checked, found.filtered, found.severity) == (True, True, "high")
    (found,) = findings({"hate": {**safe, "status": "Completed"}}, "prompt")
    assert (found.checked, found.severity) == (True, "safe")


DID_NOT_RUN = [
    *({"status": False}, {"status": 503}, {"status_code": 500}, {"checked": False}, {"evaluated": "false"}),
    *({"success": False}, {"skipped": True}, {"timed_out": "true"}, {"error_code": "X"}, {"error_message": "down"}),
    *({"details": [{"id": "list", "error": "down"}]}, {"details": {"error": {"code": "down"}}}),
]


@pytest.mark.parametrize("said", DID_NOT_RUN)
def test_whatever_says_that_a_check_did_not_run_is_no_pass(said: dict[str, Any]) -> None:
    (found,) = findings({"hate": {"filtered": False, "severity": "safe", **said}}, "completion")
    assert (found.checked, found.severity) == (False, None)
    (found,) = findings({"hate": {"filtered": True, "severity": "high", **said}}, "completion")
    assert (found.checked, found.filtered) == (True, True)


@pytest.mark.parametrize("said", [{"blocked": True}, {"details": {"own": {"filtered": True}}}, {"blocked": "true"}])
def test_what_was_withheld_under_another_name_is_filtered(said: dict[str, Any]) -> None:
    (found,) = findings({"hate": {"filtered": False, "severity": "safe", **said}}, "completion")
    assert (found.filtered, found.checked) == (True, True)
    (found,) = findings({"hate": {"flagged": True}}, "completion")
    assert (found.detected, found.filtered) == (True, False)


@pytest.mark.parametrize("results", [[], 0, "", False])
def test_results_of_a_prompt_that_cannot_be_read_are_no_pass_of_it(results: Any) -> None:
    whole = {"filtered": False, "severity": "safe"}
    choice = {"message": {"content": "fine"}, "finish_reason": "stop", "content_filter_results": {"hate": whole}}
    for name in ("content_filter_results", "content_filter_result"):
        entry = PromptFilterResult.model_construct(prompt_index=0)
        entry.__pydantic_extra__ = {name: results}
        answer = ChatCompletion.model_validate({"choices": [choice]})
        answer.prompt_filter_results = [entry]
        assert not answer.safety.checked


@pytest.mark.parametrize("reason", ["content-filter", "SAFETY", "sensitive", "guardrail_intervened"])
def test_an_answer_that_the_filter_ended_is_blocked_in_the_words_of_any_service(reason: str) -> None:
    body = {"choices": [{"message": {"content": "ha"}, "finish_reason": reason}]}
    assert ChatCompletion.model_validate(body).safety.blocked


def test_an_error_that_is_null_is_no_error() -> None:
    assert Safety(findings({"error": None, "hate": {"filtered": False, "severity": "safe"}}, "prompt")).checked


def test_an_unknown_severity_ranks_between_safe_and_low() -> None:
    assert severity_rank("safe") < severity_rank("odd") < severity_rank("low")
    assert severity_rank("HIGH") == severity_rank("high") == 3
    assert severity_rank(None) == 0


def test_the_severity_of_an_exchange_is_the_highest() -> None:
    results = {"hate": {"severity": "low"}, "sexual": {"severity": "safe"}, "violence": {"severity": "medium"}}
    assert Safety(findings(results, "prompt")).severity == "medium"


def test_a_severity_seen_before_the_filter_went_down_still_counts() -> None:
    seen = Safety(findings({"hate": {"filtered": True, "severity": "high"}}, "completion"))
    down = Safety(findings({"error": {}, "hate": {"filtered": False, "severity": "safe"}}, "completion"))
    assert seen.merge(down).severity == "high"
    assert seen.merge(down).checked is False


def test_prompt_results_keep_their_index() -> None:
    results = [
        PromptFilterResult(prompt_index=0, content_filter_results={"hate": {"severity": "safe"}}),
        PromptFilterResult(prompt_index=3, content_filter_results={"hate": {"severity": "low"}}),
        PromptFilterResult(prompt_index=4),
    ]
    assert [(f.source, f.index, f.severity) for f in prompt_findings(results)] == [
        ("prompt", 0, "safe"),
        ("prompt", 3, "low"),
    ]
    assert prompt_findings(None) == ()


@given(SAFETY)
def test_merging_a_verdict_with_itself_changes_nothing(safety: Safety) -> None:
    once = Safety().merge(safety)
    assert once.merge(safety) == once


@given(SAFETY, SAFETY)
def test_merging_does_not_depend_on_the_order(a: Safety, b: Safety) -> None:
    ab, ba = a.merge(b), b.merge(a)
    assert by_category(ab) == by_category(ba)
    assert (ab.filtered, ab.blocked, ab.checked, ab.severity) == (ba.filtered, ba.blocked, ba.checked, ba.severity)


@given(SAFETY, SAFETY, SAFETY)
def test_merging_does_not_depend_on_the_grouping(a: Safety, b: Safety, c: Safety) -> None:
    assert by_category(a.merge(b).merge(c)) == by_category(a.merge(b.merge(c)))


@given(SAFETY, SAFETY)
def test_a_merged_verdict_is_never_less_than_either(a: Safety, b: Safety) -> None:
    both = a.merge(b)
    assert both.filtered == (a.filtered or b.filtered)
    assert both.blocked == (a.blocked or b.blocked)
    assert severity_rank(both.severity) == max(severity_rank(a.severity), severity_rank(b.severity))
    merged = by_category(both)
    for f in (*a.findings, *b.findings):
        worst = merged[(f.source, f.index, f.category)]
        assert worst.filtered >= f.filtered
        assert bool(worst.detected) >= bool(f.detected)
        assert worst.checked <= f.checked


@given(SAFETY)
def test_an_empty_verdict_erases_nothing(safety: Safety) -> None:
    assert Safety().merge(safety).merge(Safety()) == Safety().merge(safety)


@given(SAFETY)
def test_records_come_back_as_they_went(safety: Safety) -> None:
    assert Safety.from_records(safety.records(), blocked=safety.blocked) == safety


HATE = {"hate": {"filtered": True, "severity": "high"}}
BLOCKLIST = {"custom_blocklists": [{"id": "a", "filtered": True}]}
PASS = {"hate": {"filtered": False, "severity": "safe"}}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "finish_reason": "content_filter"}]},
        {"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": "content_filter"}]},
        {"choices": [{"index": 0, "finish_reason": "stop", "content_filter_results": HATE}]},
        {"choices": [{"index": 0, "finish_reason": "stop", "content_filter_results": BLOCKLIST}]},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": HATE}]},
    ],
)
def test_every_sign_of_a_filtered_chat_counts(body: dict[str, Any]) -> None:
    assert ChatCompletion.model_validate(body).safety.filtered


@pytest.mark.parametrize(
    "body",
    [
        {"content_filters": [{"blocked": True, "source_type": "completion"}]},
        {"content_filters": [{"blocked": False, "source_type": "prompt", "content_filter_results": HATE}]},
        {"content_filters": [{"blocked": False, "content_filter_results": BLOCKLIST}]},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "content_filters": None},
    ],
)
def test_every_sign_of_a_filtered_response_counts(body: dict[str, Any]) -> None:
    assert Response.model_validate(body).safety.filtered


def test_answers_that_passed_are_not_filtered() -> None:
    chat = ChatCompletion.model_validate(
        {
            "choices": [{"index": 0, "finish_reason": "stop", "content_filter_results": PASS}],
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": PASS}],
        }
    )
    answer = Response.model_validate(
        {"content_filters": [{"blocked": False, "source_type": "prompt", "content_filter_results": PASS}]}
    )
    for safety in (chat.safety, answer.safety):
        assert (safety.filtered, safety.checked, safety.severity) == (False, True, "safe")


def test_answers_without_safety_fields_are_unchecked() -> None:
    for answer in (ChatCompletion(), Response()):
        assert (answer.safety.filtered, answer.safety.checked) == (False, False)


@pytest.mark.parametrize("order", list(itertools.permutations((HATE, PASS))))
def test_several_entries_for_one_category_count_as_the_worst(order: tuple[dict[str, Any], ...]) -> None:
    entries = [{"blocked": False, "source_type": "completion", "content_filter_results": r} for r in order]
    (found,) = Response.model_validate({"content_filters": entries}).safety.findings
    assert (found.filtered, found.severity) == (True, "high")
