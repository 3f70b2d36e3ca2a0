"""Reasoning is told apart from the answer, however it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.types.chat import ChatCompletion
from skytells_nb.widgets.growing_text import ReasoningSplitter, separate_reasoning, split_reasoning
from skytells_nb.widgets.reasoning import ReasoningOutput


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nI weigh it.\n</think>\n\nHello!", "I weigh it.", "Hello!"),
        ("\n <THINK>a</Think >b", "a", "b"),
        ("<think>a\n\nb < c </thin", "a\n\nb < c </thin", ""),
        ("<think></think>Hello", "", "Hello"),
        ("One\n<think>a</think>\nTwo\n<think>b</think>Three", "a\n\nb", "One\nTwo\nThree"),
        ("```xml\n<think>a</think>\n```\nx", "", "```xml\n<think>a</think>\n```\nx"),
        ("The tag <think>a</think> is text", "", "The tag <think>a</think> is text"),
        ("<thinker>a</thinker>", "", "<thinker>a</thinker>"),
        ("<think", "", "<think"),
        ("a < b\n\n  c", "", "a < b\n\n  c"),
    ],
)
def test_reasoning_in_the_text_is_found_however_it_is_cut(text: str, reasoning: str, answer: str) -> None:
    """At the beginning of the text or of a line, outside of code; whole, and letter by letter."""
    assert split_reasoning(text) == (reasoning, answer)
    splitter = ReasoningSplitter()
    parts = [part for letter in text for part in splitter.feed(letter)] + splitter.finish()
    assert "".join(piece for kind, piece in parts if kind == "reasoning").strip() == reasoning
    assert "".join(piece for kind, piece in parts if kind == "text") == answer


@given(st.lists(st.sampled_from(["<think>", "</think>", "```", "\n", " ", "a", "<", "think>", "~~~py"])))
def test_no_letter_is_lost_and_cuts_make_no_difference(pieces: list[str]) -> None:
    """Beside the tags and the blank lines after them."""
    text = "".join(pieces)
    reasoning, answer = split_reasoning(text)
    splitter = ReasoningSplitter()
    parts = [part for piece in pieces for part in splitter.feed(piece)] + splitter.finish()
    assert "".join(piece for kind, piece in parts if kind == "text") == answer
    assert sorted((reasoning + answer).replace("think", "").split()) or not text.strip("<>/think \n")
    assert (reasoning + answer).count("a") == text.count("a")
    if "<think>" not in text:
        assert (reasoning, answer) == ("", text)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_an_answer_has_no_reasoning_of_either_form(name: str) -> None:
    """Text and field go, what else the service sent stays."""
    message = {"role": "assistant", "content": "<think>b</think>Hello", name: "a", "other": 1}
    completion = ChatCompletion.model_validate(
        {"model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    )
    completion._request_id = "req-1"
    reasoning, answer = separate_reasoning(completion)
    assert reasoning == "a\n\nb"
    assert (answer.text, answer.request_id, answer.finish_reason) == ("Hello", "req-1", "stop")
    assert answer.choices[0].message.model_extra == {"other": 1}
    assert "think" not in answer.model_dump_json()
    plain = ChatCompletion.model_validate({"choices": [{"message": {"content": "Hello"}}]})
    assert separate_reasoning(plain) == ("", plain)


def test_long_reasoning_costs_a_few_times_its_length() -> None:
    """It is sent whole with each update, so updates become rarer; the last one has all of it."""
    sent: list[str] = []
    output = ReasoningOutput("live", lambda data, metadata, **where: sent.append(data["text/plain"]))
    text = "".join(f"Step {number} of a long thought.\n\n" for number in range(3_000))
    for paragraph in text.split("\n\n"):
        output.add(paragraph)
        output.end_paragraph()
    output.show()
    assert "Step 2999" in sent[-1]
    assert len(sent[0]) < 200
    # Each paragraph of the first 4,000 letters, then a geometric series.
    assert sum(map(len, sent)) < 10 * len(text)
