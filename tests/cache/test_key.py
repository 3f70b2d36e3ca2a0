"""Cache keys: one for everything that changes an answer, equal where the calls are equal."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.cache.key import KeyMaker
from skytells_nb.errors import InputError

anything = st.text(st.characters(exclude_categories=()), max_size=20)
numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=8,
)
params_of_a_call = st.dictionaries(anything, plain, max_size=4)


def maker(
    params: dict[str, Any] | None = None, endpoint: str = "embeddings", model: str = "m", origin: str = "https://h"
) -> KeyMaker:
    return KeyMaker(endpoint=endpoint, model=model, origin=origin, params=params or {})


def key(params: dict[str, Any] | None = None, text: str = "text", **changes: str) -> bytes:
    return maker(params, **changes).keys([text])[0]


def respelled(value: Any) -> Any:
    """The same JSON value in other Python objects: keys in another order, tuples for lists, floats for integers."""
    if isinstance(value, dict):
        return {name: respelled(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return tuple(respelled(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and int(float(value)) == value:
        return float(value)
    return value


def as_json(value: Any) -> Any:
    """Values are equal as in Python, except that true and 1 differ."""
    if isinstance(value, dict):
        return ("dict", frozenset((name, as_json(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(as_json(item) for item in value))
    return (isinstance(value, bool), value)


@given(params_of_a_call, anything)
def test_equal_calls_have_equal_keys(params: dict[str, Any], text: str) -> None:
    """However the parameters are ordered and spelled in Python."""
    assert key(params, text) == key(respelled(params), text)


@given(params_of_a_call, params_of_a_call)
def test_different_parameters_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Unless they differ in parameters that are None only."""
    same = as_json({k: v for k, v in one.items() if v is not None}) == as_json(
        {k: v for k, v in other.items() if v is not None}
    )
    assert (key(one) == key(other)) == same


@given(anything, anything)
def test_different_texts_have_different_keys(one: str, other: str) -> None:
    """Lone surrogates, which no valid UTF-8 holds, included."""
    assert (key(text=one) == key(text=other)) == (one == other)


@given(st.lists(anything, max_size=6))
def test_keys_come_in_order_and_do_not_depend_on_their_neighbours(texts: list[str]) -> None:
    """32 bytes for each input."""
    keys = maker().keys(texts)
    assert keys == [key(text=text) for text in texts]
    assert all(len(one) == 32 for one in keys)


@given(anything, anything)
def test_a_prefix_cannot_pass_for_the_start_of_a_text(model: str, text: str) -> None:
    """Moving the end of one field into the next one changes the key."""
    assert key(model=model, text="x" + text) != key(model=model + "x", text=text)
    assert key(model=model + "x", origin="y") != key(model=model, origin="xy")
    assert key({"stop": model}, text=text) != key(text=json.dumps({"stop": model}) + text)


def test_endpoint_model_and_origin_are_part_of_the_key() -> None:
    """So one model's vectors never stand in for another's."""
    assert len({key(), key(endpoint="another"), key(model="another"), key(origin="another")}) == 4


def test_parameters_that_are_none_count_as_absent() -> None:
    """At the top only: inside a schema null is a value."""
    assert key({"dimensions": None}) == key()
    assert key({"schema": {"default": None}}) != key({"schema": {}})


def test_bytes_are_text_in_utf8() -> None:
    """So Arrow's buffers need no decoding."""
    assert maker().keys(["héllo"]) == maker().keys(["héllo".encode()])


def test_numpy_numbers_are_numbers() -> None:
    """A parameter taken from a frame gives the same key."""
    assert key({"n": np.int64(3), "t": np.float64(0.5)}) == key({"n": 3, "t": 0.5})


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1, 2}, b"bytes", object(), {1: "x"}, [{"deep": 1j}], 10**5000],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused_by_name(value: Any) -> None:
    """Instead of a key that means something else each time."""
    with pytest.raises(InputError, match="temperature"):
        key({"temperature": value})


def test_a_parameter_that_contains_itself_is_refused() -> None:
    """Instead of a stack overflow."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InputError, match="stop"):
        key({"stop": loop})


def test_a_parameter_may_be_nested_a_hundred_deep() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    assert KeyMaker(endpoint="chat", model="m", origin="o", params={"deep": value}).keys(["a"])
    with pytest.raises(InputError, match="deep must be nested at most 100 levels deep"):
        KeyMaker(endpoint="chat", model="m", origin="o", params={"deep": [value]})


def test_a_pickled_maker_makes_the_same_keys() -> None:
    """Workers on other machines must find what this one stored."""
    original = maker({"dimensions": 8})
    copy = pickle.loads(pickle.dumps(original))
    assert copy.keys(["a"]) == original.keys(["a"])
    assert copy == original


def test_the_form_of_the_key_has_not_changed() -> None:
    """A change here makes everybody pay for every answer again; raise KEY_VERSION if that is meant."""
    assert key({"dimensions": 256}, "text").hex() == "c99063ae1e2f3496caf1fb21f03b6e55e9996f1e2186a89b5b9e5071d3358dd8"
