"""complete(schema=...): an answer that does not fit is retried with the reason, and is paid for once."""

from __future__ import annotations

import datetime as dt
import json
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pydantic
import pytest
from local_fakes import EchoGenerator, EchoPiece, RowsGenerator
from served import connected, served, wait_until_idle

import skytells_nb as sky
from skytells_nb.errors import BudgetExceededError, InputError, Interrupted, RowError, SkytellsWarning


class Animal(pydantic.BaseModel):
    name: str
    legs: int = pydantic.Field(ge=2)


BAD = '{"name": "it", "legs": "many"}'
FRAME = pd.DataFrame({"t": ["cat", "dog", None, "cat", "hen"]}, index=list("vwxyz"))
SETTINGS: dict[str, Any] = {"schema": Animal, "progress": False, "model": "gpt-5"}


class Mistaken(EchoGenerator):
    """Answers a prompt ``wrong[first word]`` times with ``bad``, then correctly with that word."""

    context = 4000

    def __init__(self, wrong: dict[str, int], bad: str = BAD) -> None:
        super().__init__()
        self.wrong = wrong
        self.bad = bad
        self.asked: list[list[dict[str, Any]]] = []
        self.held: threading.Event | None = None
        """What follow-ups wait for, where a test holds them."""

    def stream(self, messages: list[dict[str, Any]], *, max_tokens: int, **how: Any) -> Iterator[EchoPiece]:
        self.asked.append(messages)
        word = next(m["content"] for m in messages if m["role"] == "user").split()[0]
        tries = 1 + sum(m["content"].startswith("That answer cannot be used") for m in messages)
        answer = self.bad if tries <= self.wrong.get(word, 0) else json.dumps({"name": word, "legs": 4})
        if tries > 1 and self.held is not None:
            self.held.wait(20)
        how.update(schema=None, json=False)
        # The parent repeats the last message.
        return super().stream([*messages[:-1], {"role": "user", "content": answer}], max_tokens=max_tokens, **how)


def names(frame: pd.DataFrame) -> list[Any]:
    return [None if pd.isna(value) else value for value in frame["name"]]


def test_an_answer_that_does_not_fit_is_retried_with_the_reason(tmp_path: Path) -> None:
    model = Mistaken({"dog": 1})
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t} please", system="Be exact.", flatten=True, **SETTINGS)
    assert names(out) == ["cat", "dog", None, "cat", "hen"]
    (follow_up,) = [messages for messages in model.asked if len(messages) > 2]
    assert [m["role"] for m in follow_up] == ["system", "user", "assistant", "user"]
    assert [m["content"] for m in follow_up[:3]] == ["Be exact.", "dog please", BAD]
    assert "legs: Input should be a valid integer" in follow_up[3]["content"]


def test_only_the_rows_that_do_not_fit_are_retried_and_equal_ones_once(tmp_path: Path) -> None:
    model = Mistaken({"cat": 2})
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", flatten=True, **SETTINGS)
        assert wait_until_idle(server, "chat").requests == 3 + 2
    assert names(out) == ["cat", "dog", None, "cat", "hen"]


def test_an_answer_that_never_fits_is_missing_and_its_error_is_reported(tmp_path: Path) -> None:
    message = r"1 of 5 rows failed and are missing.*does not match the schema, asked 3 times: legs:"
    with served(generator=Mistaken({"dog": 99})) as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.warns(SkytellsWarning, match=message):
            out = FRAME.skytells.complete("{t}", flatten=True, details=True, **SETTINGS)
        assert wait_until_idle(server, "chat").requests == 3 + 2
    assert names(out) == ["cat", None, None, "cat", "hen"]
    assert pd.isna(out.loc["w", "legs"])
    report = out.skytells.report
    assert list(report.errors) == [1]
    assert (report.answered, report.nulls, report.failed, report.skipped) == (3, 1, 1, 0)
    assert "does not match the schema" in out.loc["w", "completion_error"]
    assert out["completion_error"].isna().tolist() == [True, False, True, True, True]


@pytest.mark.parametrize(("repair", "requests"), [(0, 1), (1, 2), (3, 4)])
def test_repair_says_how_often_at_most(tmp_path: Path, repair: int, requests: int) -> None:
    frame = pd.DataFrame({"t": ["dog"]})
    with served(generator=Mistaken({"dog": 99})) as server, connected(server, tmp_path / "c.sqlite"):
        frame.skytells.complete("{t}", repair=repair, on_error="null", **SETTINGS)
        assert wait_until_idle(server, "chat").requests == requests


def test_a_second_run_sends_nothing_for_answers_that_fit_in_the_end(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 1, "hen": 2})) as server:
        with connected(server, tmp_path / "c.sqlite"):
            first = FRAME.skytells.complete("{t}", flatten=True, details=True, on_error="null", **SETTINGS)
        sent = wait_until_idle(server, "chat").requests
        with connected(server, tmp_path / "c.sqlite") as session:
            second = FRAME.skytells.complete("{t}", flatten=True, details=True, on_error="null", **SETTINGS)
            assert wait_until_idle(server, "chat").requests == sent
            assert session.totals.requests == 0
    pd.testing.assert_frame_equal(first, second)
    assert second.skytells.report.requests == 0


def test_an_answer_that_never_fit_is_asked_anew_by_a_later_call_and_only_it(tmp_path: Path) -> None:
    model = Mistaken({"hen": 99})
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        FRAME.skytells.complete("{t}", flatten=True, on_error="null", **SETTINGS)
        model.wrong, model.asked = {"hen": 1}, []
        second = FRAME.skytells.complete("{t}", flatten=True, on_error="null", **SETTINGS)
        assert [messages[0]["content"] for messages in model.asked] == ["hen", "hen"]
        assert names(second) == ["cat", "dog", None, "cat", "hen"]
        model.asked = []
        assert names(FRAME.skytells.complete("{t}", flatten=True, **SETTINGS)) == ["cat", "dog", None, "cat", "hen"]
        assert model.asked == []


def test_a_recording_has_the_answers_that_never_fit(tmp_path: Path) -> None:
    """The same notebook on the recording: the same frame, and nothing is missing from it."""
    with served(generator=Mistaken({"hen": 99})) as server, connected(server, tmp_path / "c.sqlite") as session:
        first = FRAME.skytells.complete("{t}", flatten=True, on_error="null", **SETTINGS)
        url = session.settings.base_url
    session = sky.connect("sk-none", base_url=url, cache=f"replay:{tmp_path / 'c.sqlite'}")
    for again in ({}, {"fresh": True}, {"retry": "failed"}):
        second = FRAME.skytells.complete("{t}", flatten=True, on_error="null", **again, **SETTINGS)
        pd.testing.assert_frame_equal(first, second)


def test_a_bad_answer_is_not_paid_for_twice_where_nothing_is_kept(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 2})) as server, connected(server, "off"):
        FRAME.skytells.complete("{t}", flatten=True, **SETTINGS)
        assert wait_until_idle(server, "chat").requests == 3 + 2


def test_the_report_counts_every_try_and_details_add_up_to_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["cat", "dog", "hen"]})
    with (
        served(generator=Mistaken({"dog": 2, "hen": 1})) as server,
        connected(server, tmp_path / "c.sqlite") as session,
    ):
        out = frame.skytells.complete("{t}", details=True, **SETTINGS)
        used = wait_until_idle(server, "chat")
        report = out.skytells.report
        assert (report.requests, used.requests) == (6, 6)
        assert (report.rows, report.sent, report.answered, report.failed) == (3, 3, 3, 0)
        assert out["completion_tokens_in"].sum() == report.tokens_in == session.totals.input_tokens > 0
        assert out["completion_tokens_out"].sum() == report.tokens_out == session.totals.output_tokens > 0
        assert out["completion_cost"].sum() == pytest.approx(report.cost)
        assert session.totals.cost == pytest.approx(report.cost)
        assert session.last_report is report is frame.skytells.report


def test_repairs_spend_from_the_same_budget(tmp_path: Path) -> None:
    frame, few = pd.DataFrame({"t": ["dog"]}), {"max_tokens": 5}
    with served(generator=Mistaken({"dog": 2})) as server, connected(server, tmp_path / "c.sqlite"):
        whole = frame.skytells.complete("{t}", cache="off", params=few, **SETTINGS).skytells.report
        budget = 0.8 * whole.cost
        with pytest.raises(BudgetExceededError) as stopped:
            frame.skytells.complete("{t}", budget=budget, params=few, **SETTINGS)
        spent = frame.skytells.report
    assert 0 < spent.cost <= budget
    assert (spent.state, spent.requests) == ("failed", 2)
    assert any("was used by the whole call" in note for note in stopped.value.__notes__)


def test_raise_says_how_many_answers_do_not_fit_once_all_is_kept(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 99})) as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.raises(RowError, match="1 answers do not match the schema") as failure:
            FRAME.skytells.complete("{t}", on_error="raise", **SETTINGS)
        sent = wait_until_idle(server, "chat").requests
        assert sent == 3 + 2
        assert list(failure.value.report.errors) == [1]
        FRAME.skytells.complete("{t}", on_error="null", **SETTINGS)
        assert wait_until_idle(server, "chat").requests == sent + 3


def test_an_answer_cut_at_the_limit_is_asked_for_once_more_with_twice_the_room(tmp_path: Path) -> None:
    with served(generator=Mistaken({})) as server, connected(server, tmp_path / "c.sqlite"):
        out = pd.DataFrame({"t": ["cat"]}).skytells.complete(
            "{t}", params={"max_tokens": 3}, flatten=True, details=True, **SETTINGS
        )
        assert wait_until_idle(server, "chat").requests == out.skytells.report.requests == 2
    assert out["legs"].tolist() == [4]
    assert out["completion_finish_reason"].tolist() == ["stop"]
    assert out["completion_tokens_out"].sum() == out.skytells.report.tokens_out > 3


def test_an_answer_cut_in_twice_the_room_is_not_asked_for_again(tmp_path: Path) -> None:
    with served(generator=Mistaken({})) as server, connected(server, tmp_path / "c.sqlite"):
        frame = pd.DataFrame({"t": ["cat"]})
        out = frame.skytells.complete("{t}", params={"max_tokens": 1}, on_error="null", **SETTINGS)
        frame.skytells.complete("{t}", params={"max_tokens": 1}, on_error="null", **SETTINGS)
        assert wait_until_idle(server, "chat").requests == 2
    assert "was cut off at the token limit; raise max_tokens" in str(out.skytells.report.errors[0])


def test_a_repair_that_is_refused_leaves_the_row_with_both_reasons(tmp_path: Path) -> None:
    # The filter looks at what the user says last, which quotes this schema's complaint.
    class Note(pydantic.BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def never(cls, name: str) -> str:
            if name == "it":
                raise ValueError("violence:high is in it")
            return name

    frame = pd.DataFrame({"t": ["cat", "dog"]})
    model = Mistaken({"dog": 99})
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", **{**SETTINGS, "schema": Note}, on_error="null")
        assert wait_until_idle(server, "chat").requests == 3
    (error,) = out.skytells.report.errors.values()
    assert "violence:high is in it" in str(error)
    assert "The retry failed: ContentPolicyError" in str(error)


def test_a_validator_that_raises_anything_makes_its_row_fail_and_no_other(tmp_path: Path) -> None:
    class Odd(pydantic.BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def look_up(cls, name: str) -> str:
            return {"cat": "Felix", "hen": "Berta"}[name]

    with served(generator=Mistaken({})) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", flatten=True, on_error="null", **{**SETTINGS, "schema": Odd})
    assert names(out) == ["Felix", None, None, "Felix", "Berta"]
    assert "KeyError: 'dog'" in str(out.skytells.report.errors[1])


def test_an_interrupt_while_asking_again_leaves_the_fields_there_are(tmp_path: Path) -> None:
    def stop(event: Any) -> None:
        if event.label == "repair" and event.state == "running" and len(model.asked) == 4:
            raise KeyboardInterrupt

    model = Mistaken({"dog": 99})
    model.held = threading.Event()
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        try:
            with pytest.raises(Interrupted):
                FRAME.skytells.complete("{t}", **{**SETTINGS, "progress": stop})
        finally:
            model.held.set()
        report = FRAME.skytells.report
    assert (report.state, report.requests) == ("interrupted", 4)
    found = [None if fields is None else fields["name"] for fields in report.partial]
    assert found == ["cat", None, None, "cat", "hen"]


def test_rows_that_share_a_request_are_repaired_alone(tmp_path: Path) -> None:
    class Short(pydantic.BaseModel):
        text: str = pydantic.Field(max_length=6)

    frame = pd.DataFrame({"t": [f"word {n}" for n in range(12)]})
    model = RowsGenerator()
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete(
            "{t}", schema=Short, rows_per_request=6, repair=1, on_error="null", progress=False
        )
        assert wait_until_idle(server, "chat").requests == 2 + 2 + 2
    assert out["completion"].isna().tolist() == [False] * 10 + [True] * 2


def test_by_the_responses_api_too(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 1})) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", system="Be exact.", api="responses", flatten=True, **SETTINGS)
        assert wait_until_idle(server, "responses").requests == 3 + 1
    assert names(out) == ["cat", "dog", None, "cat", "hen"]


def test_a_conversation_goes_on_from_where_it_was(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "dog or cat?"}, {"role": "assistant", "content": "Which?"}]
    frame = pd.DataFrame({"t": ["the first"], "before": [turns]})
    model = Mistaken({"dog": 1})
    with served(generator=model) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", conversation="before", flatten=True, **SETTINGS)
    assert names(out) == ["dog"]
    assert [m["content"] for m in model.asked[1]][:4] == ["dog or cat?", "Which?", "the first", BAD]


def test_the_series_form_repairs_too(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 1})) as server, connected(server, tmp_path / "c.sqlite"):
        completed = FRAME["t"].skytells.complete("Name the animal.", **SETTINGS)
    assert [None if fields is None else fields["name"] for fields in completed] == ["cat", "dog", None, "cat", "hen"]


def test_details_of_a_repaired_row_are_those_of_the_answer_that_fits(tmp_path: Path) -> None:
    with served(generator=Mistaken({"dog": 1})) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", details=True, **SETTINGS)
    assert out["completion_error"].isna().all()
    assert out.loc["w", "completion_tokens_out"] > out.loc["v", "completion_tokens_out"]
    assert out.loc["w", "completion_finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repair": -1}, r"repair must be an integer from 0 to 10 .*, got -1\."),
        ({"repair": 1.5}, r"0 to 10 .*, got 1\.5"),
        ({"repair": True}, "0 to 10 .*, got True"),
        ({"prefix": 5, "flatten": True}, "prefix must be a string that the column names start with, got 5"),
        ({"prefix": "a_"}, "prefix needs flatten=True"),
        ({"prefix": "t", "flatten": True, "schema": {"type": "object", "properties": {"": {}}}}, "would replace"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(tmp_path: Path, settings: Any, message: str) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.raises(InputError, match=message):
            FRAME.skytells.complete("{t}", **{**SETTINGS, **settings})
        assert not server.stats.records


class Place:
    pass


class Found(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    name: str

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def place(self) -> Place:
        return Place()


@pytest.mark.parametrize("flatten", [False, True])
def test_a_field_that_cannot_be_read_back_is_found_before_anything_is_sent(tmp_path: Path, flatten: bool) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.raises(InputError, match="Found has a type that JSON cannot represent"):
            FRAME.skytells.complete("{t}", flatten=flatten, **{**SETTINGS, "schema": Found})
        assert not server.stats.records


def test_fields_are_columns_named_after_the_prefix(tmp_path: Path) -> None:
    with served(generator=Mistaken({})) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", flatten=True, prefix="a_", **SETTINGS)
    assert out.columns.tolist() == ["t", "a_name", "a_legs"]
    assert out.index.tolist() == list("vwxyz")
    assert out["a_legs"].dtype == pd.Int64Dtype()


@pytest.mark.parametrize("texts", [[], [None, None]], ids=["empty", "all null"])
def test_dtypes_are_the_same_where_nothing_was_asked(tmp_path: Path, texts: Sequence[Any]) -> None:
    frame = pd.DataFrame({"t": pd.Series(texts, dtype="str")})
    with warnings.catch_warnings(), served() as server, connected(server, tmp_path / "c.sqlite"):
        warnings.simplefilter("error")
        out = frame.skytells.complete("{t}", flatten=True, **SETTINGS)
        assert not server.stats.records
    assert out["legs"].dtype == pd.Int64Dtype()
    text = "str" if int(pd.__version__.partition(".")[0]) >= 3 else "string"
    assert out["name"].dtype == pd.api.types.pandas_dtype(text)


def test_several_levels_of_columns_get_whole_names(tmp_path: Path) -> None:
    frame = pd.DataFrame([["cat"]], columns=pd.MultiIndex.from_tuples([("t", "")]))
    with served(generator=Mistaken({})) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", flatten=True, **SETTINGS)
    assert out.columns.tolist() == [("t", ""), ("name", ""), ("legs", "")]


def test_answers_kept_by_the_session_say_what_the_filter_found_in_every_try(tmp_path: Path) -> None:
    with served("filter_down", generator=Mistaken({"dog": 1})) as server, connected(server, tmp_path / "c.sqlite"):
        pd.DataFrame({"t": ["dog"]}).skytells.complete("{t}", **SETTINGS)
        assert sky.current().totals.unchecked == 2


@pytest.mark.slow
def test_a_real_model_fills_typed_columns(chat_weights: Path, session: sky.session.Session) -> None:
    class Visit(pydantic.BaseModel):
        mood: Literal["happy", "angry"]
        stars: int = pydantic.Field(ge=1, le=5)
        day: dt.date

    frame = pd.DataFrame({"t": ["We loved it on 2024-05-03!", "Awful, 1 May 2024."]})
    out = frame.skytells.complete("{t}", schema=Visit, flatten=True, params={"temperature": 0}, progress=False)
    assert out["mood"].dtype == pd.CategoricalDtype(["happy", "angry"])
    assert out["stars"].between(1, 5).all()
    assert out["day"].notna().all()
    assert out.skytells.report.failed == 0
