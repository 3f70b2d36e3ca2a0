"""Functions of rows, examples, conversations and parameters of rows reach the model unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_fakes import EchoGenerator, EchoPiece, RowsGenerator
from served import connected, served

from skytells_nb.accessor.prompts.build import build_prompts
from skytells_nb.accessor.prompts.rows import render_rows
from skytells_nb.engine.operations.conversation import deserialize_messages
from skytells_nb.errors import InputError, RowError, SkytellsWarning
from skytells_nb.local.server import LocalServer


class Doubting(EchoGenerator):
    """Answers correctly only on a retry."""

    def stream(self, messages: list[dict[str, Any]], **sampling: Any) -> Iterator[EchoPiece]:
        self.messages.append(messages)
        self.seeds.append(sampling["seed"])
        doubtful = messages[-1]["content"] == "How many?"
        return iter([EchoPiece('{"n": "?"}' if doubtful else '{"n": 5}'), EchoPiece("", "stop", 5, 3)])


TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def contents(frame: pd.DataFrame, template: Any, **more: Any) -> list[list[Any] | None]:
    """The contents of each row's messages."""
    prompts = build_prompts(frame, template, **more)
    assert prompts.options.conversations
    return [None if text is None else [m["content"] for m in deserialize_messages(text)[0]] for text in prompts.texts]


def never_sent(server: LocalServer) -> bool:
    return server.stats["chat"].requests == server.stats["responses"].requests == 0


def test_a_function_of_the_row_returns_the_prompt(server: LocalServer, df: pd.DataFrame) -> None:
    """By name or by attribute, with the label; None is a missing value and is not sent."""
    out = df.skytells.complete(
        lambda row: None if pd.isna(row.text) else f"{row['text']} {row.n} {row.label}", progress=False
    )
    expected = ["a cat sleeps 0 v", "a dog runs 1 w", "a cat sleeps 2 x", "stocks fell 4 z"]
    assert out["completion"].dropna().tolist() == expected
    assert out["completion"].isna().tolist() == [False, False, False, True, False]


def test_a_function_that_returns_texts_shares_answers_with_a_template(server: LocalServer, df: pd.DataFrame) -> None:
    df.skytells.complete("Say {n}", progress=False)
    out = df.skytells.complete(lambda row: f"Say {row.n}", progress=False)
    assert out.skytells.report.cached == 5


def test_a_function_may_return_messages(server: LocalServer) -> None:
    frame = pd.DataFrame({"n": [1, 2]})
    out = frame.skytells.complete(lambda row: [*TALK, {"role": "user", "content": f"n {row.n}"}], progress=False)
    assert out["completion"].tolist() == ["n 1", "n 2"]


@given(st.lists(st.tuples(st.text(), st.one_of(st.integers(), st.none())), max_size=8))
def test_a_row_holds_what_the_frame_holds(rows: list[tuple[str, Any]]) -> None:
    frame = pd.DataFrame({"a b": [a for a, _ in rows], "c": [c for _, c in rows]}, dtype=object)
    seen: list[dict[Any, Any]] = []
    render_rows(frame, lambda row: seen.append(dict(row)))
    assert seen == frame.to_dict("records")


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda row: 1 / 0, "at row 'v': ZeroDivisionError"),
        (lambda row: row["txt"], "at row 'v': KeyError: there is no column 'txt'"),
        (lambda row: row.txt, "at row 'v': AttributeError: There is no column 'txt'"),
        (lambda row: row.n, "must return a string, a list of messages or None, got int '0' at row 'v'"),
        (
            lambda row: [{"role": "boss", "content": "x"}],
            "at row 'v' cannot be sent: The role of message 0 must be .*, got 'boss'",
        ),
    ],
)
def test_an_error_of_a_function_names_the_row(
    server: LocalServer, df: pd.DataFrame, function: Callable[[Any], Any], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        df.skytells.complete(function, progress=False)
    assert never_sent(server)


def test_columns_of_one_name_have_no_rows_for_a_function() -> None:
    with pytest.raises(InputError, match="columns with unique names"):
        render_rows(pd.DataFrame([[1, 2]], columns=["a", "a"]), str)


def test_examples_of_a_frame_are_turns_before_every_prompt(df: pd.DataFrame) -> None:
    shown = pd.DataFrame({"text": ["it barked", "it fell"], "label": ["dog", "stocks"]})
    found = build_prompts(df, "What is it: {text}", examples=shown).options.examples
    assert found == (("What is it: it barked", "dog"), ("What is it: it fell", "stocks"))


def test_examples_reach_the_model(tmp_path: Path, df: pd.DataFrame) -> None:
    generator = EchoGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        df.skytells.complete("Say {text}", examples=[("Say x", {"it": 1})], system="Be brief.", progress=False)
    assert [m["content"] for m in generator.messages[0][:3]] == ["Be brief.", "Say x", '{"it": 1}']


def test_examples_go_with_several_rows_in_a_request(tmp_path: Path, df: pd.DataFrame) -> None:
    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        out = df.skytells.complete("Say {text}", examples=[("Say x", "x")], rows_per_request=3, progress=False)
        assert server.stats["chat"].requests == 1
    assert out["completion"].dropna().tolist() == [f"Say {text}" for text in df["text"].dropna()]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"examples": "x"}, "pairs, got str"),
        ({"examples": [("only one",)]}, "item 0 must be a pair"),
        ({"examples": [("", "a")]}, "the prompt of item 0 must be a non-empty string, got ''"),
        ({"examples": [("q", None)]}, "the answer of item 0 must not be missing"),
        ({"examples": [("q", " ")]}, "the answer of item 0 must not be empty"),
        (
            {"examples": pd.DataFrame({"other": ["a"], "label": ["b"]}), "answer": "label"},
            "examples: The template names",
        ),
        (
            {"examples": pd.DataFrame({"text": ["a"], "x": ["b"], "y": ["c"]})},
            "name the column of answers with answer=",
        ),
        ({"examples": pd.DataFrame({"text": ["a"], "x": ["b"]}), "answer": "z"}, "There is no column 'z'"),
        (
            {"examples": pd.DataFrame({"text": [None], "x": ["b"]})},
            "the prompt of row 0 must be a string: a value is missing",
        ),
        ({"answer": "label"}, "a column of examples=, which is missing"),
        ({"conversation": "nope"}, "There is no column 'nope'"),
        ({"conversation": "text"}, "at row 'v' must be a list of messages or its JSON text"),
        ({"conversation": "n"}, "at row 'v' cannot be sent: Messages must be a list"),
        ({"row_params": {"temperature": "nope"}}, "There is no column 'nope'"),
        ({"row_params": {"temperature": "n"}}, "at row 'y': temperature cannot be 3"),
        ({"row_params": {"model": "n"}}, "cannot contain 'model'"),
        ({"row_params": "n"}, "row_params must be a dict"),
        ({"api": "both"}, "api must be 'chat' or 'responses'"),
        ({"reasoning_effort": 3}, "reasoning_effort must be a word"),
        ({"reasoning_effort": "low", "params": {"reasoning_effort": "low"}}, "reasoning_effort must be given once"),
        ({"row_params": {"seed": "n"}, "rows_per_request": 2}, "prompts that are texts"),
        ({"row_params": {"seed": "n"}, "into": "n"}, "would replace the column"),
    ],
)
def test_bad_input_is_rejected_before_anything_is_sent(
    server: LocalServer, df: pd.DataFrame, more: dict[str, Any], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        df.skytells.complete("Say {text}", progress=False, **more)
    assert never_sent(server)


def test_the_prompt_is_the_next_turn_of_a_conversation() -> None:
    """Lists, arrays as Parquet gives them, JSON texts, and conversations that have not begun."""
    cells = [TALK, np.array(TALK, dtype=object), '[{"role": "user", "content": "q"}]', [], None]
    frame = pd.DataFrame({"talk": cells, "n": range(5)})
    asked = contents(frame, "Next {n}", conversation="talk")
    assert asked == [["Hi", "Hello", "Next 0"], ["Hi", "Hello", "Next 1"], ["q", "Next 2"], ["Next 3"], None]


def test_a_conversation_that_came_through_parquet_is_the_same_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"talk": [TALK, []]})
    frame.to_parquet(tmp_path / "talk.parquet")
    back = pd.read_parquet(tmp_path / "talk.parquet")
    assert contents(back, "Go on", conversation="talk") == contents(frame, "Go on", conversation="talk")


def test_parameters_come_from_columns_and_missing_values_leave_them_out(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": ["one two three"] * 3, "most": pd.array([1, 2, None], dtype="Int64")})
    out = frame.skytells.complete("{text}", row_params={"max_tokens": "most"}, on_error="null", progress=False)
    assert [len(text.split()) for text in out["completion"]] == [1, 2, 3]


def test_rows_with_equal_prompts_and_parameters_are_asked_once(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": ["one", "one", "one"], "t": [0.5, 0.5, 1.0]})
    out = frame.skytells.complete("{text}", row_params={"temperature": "t"}, progress=False)
    assert (out.skytells.report.sent, server.stats["chat"].requests) == (2, 2)


def test_a_blank_prompt_among_conversations_is_missing(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": [" ", "go on"], "talk": [TALK, TALK]})
    for template in ("{text}", lambda row: row.text):
        out = frame.skytells.complete(template, conversation="talk", on_error="raise", progress=False)
        assert (out.skytells.report.nulls, out["completion"].isna().tolist()) == (1, [True, False])


def test_the_system_text_is_sent_as_it_stands(tmp_path: Path) -> None:
    generator = EchoGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        pd.DataFrame({"a": ["x"]}).skytells.complete("{a}", system="Keep {a} as it is.", progress=False)
    assert generator.messages[0][0]["content"] == "Keep {a} as it is."


def test_the_other_api_answers_the_same_rows(server: LocalServer, df: pd.DataFrame) -> None:
    chat = df.skytells.complete("Say {text}", progress=False)
    out = df.skytells.complete("Say {text}", api="responses", reasoning_effort="low", details=True, progress=False)
    assert out["completion"].equals(chat["completion"])
    assert (server.stats["responses"].requests, out["completion_finish_reason"].dropna().unique().tolist()) == (
        3,
        ["stop"],
    )


def test_several_rows_share_a_request_of_the_other_api(tmp_path: Path, df: pd.DataFrame) -> None:
    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        out = df.skytells.complete("Say {text}", api="responses", rows_per_request=3, progress=False)
        assert server.stats["responses"].requests == 1
    assert out["completion"].dropna().tolist() == [f"Say {text}" for text in df["text"].dropna()]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_answer_that_stays_empty_is_missing_with_a_reason(tmp_path: Path, api: Any) -> None:
    """Both requests are counted, and the next call finds the same for nothing."""
    frame = pd.DataFrame({"text": ["one", "two", "one"]})
    with served("empty_length") as server, connected(server, tmp_path / "c.sqlite"):
        for paid in (4, 0):
            with pytest.warns(SkytellsWarning, match="tokens went to reasoning"):
                out = frame.skytells.complete(
                    "{text}", api=api, params={"max_tokens": 40}, details=True, progress=False
                )
            report = out.skytells.report
            assert (report.requests, report.failed, report.answered) == (paid, 3, 0)
            assert out["completion"].isna().all()
            assert out["completion_tokens_out"].tolist() == [120, 120, 120]
            assert out["completion_error"].str.contains("lower reasoning_effort").all()


def test_an_empty_answer_raises_where_errors_do(tmp_path: Path) -> None:
    with (
        served("empty_length") as server,
        connected(server, tmp_path / "c.sqlite"),
        pytest.raises(RowError, match="1 answers are empty"),
    ):
        pd.DataFrame({"a": ["x"]}).skytells.complete("{a}", on_error="raise", progress=False)


def test_an_estimate_knows_what_a_call_would_send(server: LocalServer, df: pd.DataFrame) -> None:
    for asked in ({"row_params": {"seed": "n"}}, {"examples": [("q", "a")]}, {"api": "responses"}):
        estimate = df.skytells.estimate("Say {text}", **asked)
        out = df.skytells.complete("Say {text}", progress=False, **asked)
        assert out.skytells.report.requests == estimate.requests
        assert df.skytells.estimate("Say {text}", **asked).requests == 0


def test_examples_count_in_an_estimate(server: LocalServer, df: pd.DataFrame) -> None:
    plain = df.skytells.estimate("Say {text}").tokens_in
    assert df.skytells.estimate("Say {text}", examples=[("q " * 400, "a")]).tokens_in > plain + 3 * 190


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_answer_that_does_not_fit_is_retried_with_the_whole_conversation(tmp_path: Path, api: Any) -> None:
    """The examples, the conversation and the row's parameters are in the second request too."""

    class Number(pydantic.BaseModel):
        n: int

    generator = Doubting()
    frame = pd.DataFrame({"talk": [TALK], "seed": [7]})
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete(
            "How many?",
            conversation="talk",
            row_params={"seed": "seed"},
            examples=[("Two?", '{"n": 2}')],
            schema=Number,
            api=api,
            progress=False,
        )
    assert out["completion"].tolist() == [{"n": 5}]
    first, second = ([m["content"] for m in asked] for asked in generator.messages)
    assert first == ["Two?", '{"n": 2}', "Hi", "Hello", "How many?"]
    assert second[: len(first) + 1] == [*first, '{"n": "?"}']
    assert generator.seeds == [7, 7]
