"""Answers that nearly match their schema: read as a person would, counted, and not paid for again."""

from __future__ import annotations

import json
from typing import Any, Literal

import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import scripted

from skytells_nb.accessor.structured.normalization import AmbiguousAnswerError, normalize
from skytells_nb.accessor.structured.schema import answer_parser

SETTINGS: dict[str, Any] = {"progress": False, "on_error": "null"}

LABELS = [
    *('{"label": "Positive"}', '{"label": " positive "}', "positive", '"positive"', "Positive.", "**positive**"),
    *('{"label": "positive", "reason": "kind words"}', '{"Label": "positive"}', "{'label': 'positive'}"),
    *('```json\n{"label": "POSITIVE"}\n```', '{"label": ["positive"]}', '{"label": "positive",}', '["positive"]'),
    *(
        '{"classification": {"label": "positive"}}',
        "Label: positive",
        '{"label": "“positive”"}',
    ),
    *('{"label": {"name": "positive"}}', '{"label": "\uff50ositive"}', "The label: Positive", "\n positive\n"),
]


@pytest.mark.parametrize("said", LABELS)
def test_one_label(said: str) -> None:
    with scripted(lambda text: said, "off") as script:
        made = pd.DataFrame({"t": ["x"]}).skytells.classify("t", ["positive", "negative"], **SETTINGS)
    assert made["label"].tolist() == ["positive"]
    assert len(script.asked) == 1
    assert made.skytells.report.normalized == 1
    assert "1 accepted after normalization" in str(made.skytells.report)


@pytest.mark.parametrize(
    ("said", "labels"),
    [
        ("not positive", ["positive", "negative"]),
        ('{"label": "positive or negative"}', ["positive", "negative"]),
        ('{"label": "a"}', ["A ", "A"]),
        ("I would say positive", ["positive", "negative"]),
        ("{}", ["positive", "negative"]),
        ("", ["positive", "negative"]),
        ('{"label": null}', ["positive", "negative"]),
    ],
)
def test_what_is_not_clear_is_asked_again(said: str, labels: list[str]) -> None:
    with scripted(lambda text: said, "off") as script:
        made = pd.DataFrame({"t": ["x"]}).skytells.classify("t", labels, **SETTINGS)
    assert made["label"].isna().all()
    assert len(script.asked) == 3


def test_an_exact_answer_is_not_counted() -> None:
    with scripted(lambda text: '{"label": "positive"}', "off"):
        made = pd.DataFrame({"t": ["x"]}).skytells.classify("t", ["positive", "Positive"], **SETTINGS)
    assert (made["label"].tolist(), made.skytells.report.normalized) == (["positive"], 0)


@pytest.mark.parametrize(
    ("said", "price", "quality"),
    [
        ('{"price": "yes", "quality": "No"}', True, False),
        ('{"Price": true, "Quality": false, "why": "it says so"}', True, False),
        ('["price"]', True, False),
        ("price, Quality", True, True),
        ('{"labels": ["quality"]}', False, True),
        ('{"quality": true}', False, True),
        ("none", False, False),
        ("[]", False, False),
        ('{"price": 1, "quality": 0}', True, False),
    ],
)
def test_several_labels(said: str, price: bool, quality: bool) -> None:
    with scripted(lambda text: said, "off") as script:
        made = pd.DataFrame({"t": ["x"]}).skytells.classify("t", ["price", "quality"], multi=True, **SETTINGS)
    assert (made["label_price"].tolist(), made["label_quality"].tolist()) == ([price], [quality])
    assert len(script.asked) == 1


def test_a_flag_that_is_left_out_beside_a_false_one_is_not_clear() -> None:
    schema = {"properties": {name: {"type": "boolean"} for name in "ab"}, "required": ["a", "b"]}
    assert "b" not in normalize(schema, '{"a": false}')
    with pytest.raises(AmbiguousAnswerError):
        normalize(schema, '["c"]')


DECISIONS = [
    *[("Yes", True), ('{"answer": "Yes"}', True), ('{"answer": true}', True), ('{"answer": "true"}', True)],
    *[("no.", False), ("Yes, because it says so.", True), ('{"answer": "No - it does not."}', False), ("false", False)],
    *[('{"Answer": "Y"}', True), ('"no"', False), ('{"answer": 1}', True), ("**Yes**", True), ("Answer: no", False)],
]


@pytest.mark.parametrize(("said", "expected"), DECISIONS)
def test_yes_and_no(said: str, expected: bool) -> None:
    frame = pd.DataFrame({"t": ["x"]})
    with scripted(lambda text: said, "off") as script:
        assert frame.skytells.filter("t", "Is it?", keep="column", **SETTINGS)["matches"].tolist() == [expected]
    assert len(script.asked) == 1


@pytest.mark.parametrize("said", ["No doubt it is", "yesterday", "Yes and no", "maybe"])
def test_a_decision_that_is_not_clear(said: str) -> None:
    frame = pd.DataFrame({"t": ["x"]})
    with scripted(lambda text: said, "off"):
        assert frame.skytells.filter("t", "Is it?", keep="column", **SETTINGS)["matches"].isna().all()


@pytest.mark.parametrize(
    ("said", "pairs"), [("true", 1), ("Yes.", 1), ('{"match": "no"}', 0), ('{"Match": "True"}', 1)]
)
def test_the_confirmation_of_a_pair(said: str, pairs: int) -> None:
    frame, other = pd.DataFrame({"t": ["x"]}), pd.DataFrame({"u": ["y"]})
    with scripted(lambda text: said, "off") as script:
        assert len(frame.skytells.join(other, ("t", "u"), confirm=True, **SETTINGS)) == pairs
    assert len(script.asked) == 1


def test_the_name_of_a_cluster() -> None:
    """Without quotes and full stop, and with a word of its members."""

    def named(text: str) -> str:
        return '"Small tigers."' if text.find("tiger") > text.find("hammer") else '"Big hammers"'

    with scripted(named, "off") as script:
        made = pd.DataFrame({"t": ["tiger", "hammer"]}).skytells.cluster("t", 2, **SETTINGS)
    assert sorted(made["cluster"].cat.categories) == ["Big hammers", "Small tigers"]
    assert len(script.asked) == 2


def test_one_name_for_clusters_whose_texts_have_no_words() -> None:
    with scripted(lambda text: '"Cats and dogs"', "off") as script:
        made = pd.DataFrame({"t": ["x", "y"]}).skytells.cluster("t", 2, **SETTINGS)
    assert list(made["cluster"].cat.categories) == ["Cats and dogs", "Cats and dogs (2)"]
    assert len(script.asked) == 2


class Animal(pydantic.BaseModel):
    name: str
    legs: int | None
    kind: Literal["pet", "wild"]
    tame: bool
    weight: float = 0.0


EXACT = {"name": "Rex", "legs": 4, "kind": "pet", "tame": True, "weight": 2.5}


@pytest.mark.parametrize(
    "changed",
    [
        {"Name": "Rex", "LEGS": 4, "kind": "Pet", "tame": "yes", "weight": "2.5"},
        {**EXACT, "legs": "4", "kind": "pet.", "comment": "a good dog"},
        {"animal": EXACT, **{}},
        {**EXACT, "tame": "True", "weight": "2.50"},
    ],
)
def test_fields(changed: dict[str, Any]) -> None:
    said = json.dumps(changed)
    with scripted(lambda text: f"Here it is: {said} Anything else?", "off") as script:
        made = pd.DataFrame({"t": ["x"]}).skytells.extract("t", Animal, **SETTINGS)
    assert made.drop(columns="t").to_dict("records") == [EXACT]
    assert len(script.asked) == 1


def test_a_field_that_may_be_null() -> None:
    parse = answer_parser(Animal)
    for legs in ("null", "N/A", ""):
        assert parse(json.dumps({**EXACT, "legs": legs})).fields["legs"] is None
    without = {name: value for name, value in EXACT.items() if name != "legs"}
    assert parse(json.dumps(without)).fields["legs"] is None
    with pytest.raises(ValueError, match="legs"):
        parse(json.dumps({**EXACT, "legs": "many"}))


def test_prose_is_no_field_of_free_text() -> None:
    parse = answer_parser({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
    with pytest.raises(ValueError, match="must be a JSON object, got 'I cannot help with that'"):
        parse("I cannot help with that")
    assert parse('"Rex"').fields == {"name": "Rex"}


LABELS = {"type": "object", "properties": {"label": {"enum": ["Very Good", "bad", "so-so"]}}, "required": ["label"]}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The label is: bad",
            "The label is bad.",
            "Label = **bad**",
            "My answer: bad",
            "label=bad",
            "1. bad",
            "- Bad",
        ),
        *(
            "<label>bad</label>",
            "<answer>\nbad\n</answer>",
            "bad\n\nThe review complains.",
            "Bad.\nIt does not work.",
        ),
        *('{"category": "bad"}', '{"sentiment": "BAD."}', "The sentiment of this review is bad"),
    ],
)
def test_a_label_with_words_around_it_is_that_label(text: str) -> None:
    assert answer_parser(LABELS)(text).fields == {"label": "bad"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The label is not bad",
            "It isn't: bad",
            "1. bad\n2. so-so",
            "bad\n\nIt could also be very good.",
            "bad or so-so",
        ),
        *("It is so-so, but the label is bad", "Very good: bad", '{"category": "good"}', '{"a": "bad", "b": "so-so"}'),
        *("The label is good", "not bad", "bad is what I would not say", '{"reason": "It is bad."}', "is: "),
    ],
)
def test_words_that_leave_a_doubt_are_asked_for_again(text: str) -> None:
    with pytest.raises(ValueError, match=r"label|JSON object"):
        answer_parser(LABELS)(text)


@pytest.mark.parametrize(
    ("text", "number"), [("$12.50", 12.5), ("-$3", -3), ("7 \u20ac", 7), ("\u00a31,250.00", 1250.0), ("$ 4", 4)]
)
def test_an_amount_may_have_its_currency(text: str, number: float) -> None:
    schema = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
    assert answer_parser(schema)(json.dumps({"price": text})).fields == {"price": number}
    for doubtful in ("12,50", "$12 or $13", "12 kg", "$"):
        with pytest.raises(ValueError, match="price"):
            answer_parser(schema)(json.dumps({"price": doubtful}))


def test_rows_of_one_request_may_be_bare_labels() -> None:
    def answer(text: str) -> str:
        return json.dumps({row["id"]: row["message"].title() for row in json.loads(text)})

    frame = pd.DataFrame({"t": ["good", "bad", "good", "bad news"]})
    with scripted(answer, "off") as script:
        made = frame.iloc[:3].skytells.classify("t", ["good", "bad"], rows_per_request=3, **SETTINGS)
    assert made["label"].tolist() == ["good", "bad", "good"]
    assert len(script.asked) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(JSON | st.text(max_size=30).map(lambda text: ("bare", text)))
def test_whatever_is_said_fits_in_the_end_or_is_refused(said: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"label": {"enum": ["a", "b", 1, None]}, "n": {"type": ["integer", "null"]}},
        "required": ["label"],
    }
    try:
        record = answer_parser(schema)(said[1] if isinstance(said, tuple) else json.dumps(said))
    except ValueError:
        return
    assert record.fields["label"] in ("a", "b", 1, None)
    assert record.fields.get("n") is None or isinstance(record.fields["n"], (int, float))
