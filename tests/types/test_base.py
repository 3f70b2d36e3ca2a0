"""The two bases: requests that are checked before they leave, answers that are read whatever they hold."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.types.base import RequestModel, ResponseModel

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.text("abcxyz", min_size=1, max_size=6).map("x_{}".format)


class Question(RequestModel):
    text: str
    count: int = 1
    share: float | None = None
    model_name: str | None = None


class Reply(ResponseModel):
    text: str = ""
    number: int = pydantic.Field(default=0, validation_alias="count")


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_parameters_that_are_not_named_pass_through_unchanged(more: dict[str, Any]) -> None:
    sent = Question(text="a", **more)
    assert sent.model_dump(exclude_unset=True) == {"text": "a", **more}


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_unknown_fields_of_an_answer_are_kept(more: dict[str, Any]) -> None:
    read = Reply.model_validate({"text": "a", **more})
    assert read.model_extra == more
    assert read.model_dump() == {"text": "a", "number": 0, **more}


@pytest.mark.parametrize("wrong", [{"text": 5}, {"text": b"a"}, {"count": "3"}, {"count": 3.0}, {"share": "0.5"}])
def test_a_request_converts_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Question(**{"text": "a", **wrong})
    assert [error["loc"] for error in caught.value.errors()] == [tuple(wrong)]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_request_holds_no_number_that_json_lacks(number: float) -> None:
    with pytest.raises(pydantic.ValidationError):
        Question(text="a", share=number)
    assert Question(text="a", share=1).share == 1.0


def test_an_answer_converts_what_a_service_may_have_written_otherwise() -> None:
    assert Reply.model_validate({"count": "3"}).number == 3
    assert Reply.model_validate({"count": 3.0}).number == 3


def test_an_answer_is_made_by_the_name_of_a_field_or_by_its_name_on_the_wire() -> None:
    assert (Reply(number=4).number, Reply.model_validate({"count": 4}).number) == (4, 4)


def test_an_answer_may_lack_everything() -> None:
    assert Reply.model_validate({}) == Reply(text="", number=0)
