"""JSON as the answer: how it is asked for, and how it is read."""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from magic_service import Echo, Notebook, completion, scripted
from pydantic import BaseModel, Field
from serving import Exchange

from skytells_nb.accessor.structured.schema import response_format
from skytells_nb.errors import BadRequestError, InputError, InvalidResponseError
from skytells_nb.magics.ask import AskOutcome, _rejects_format
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.structured_output import JsonFormat, get_json_format
from skytells_nb.types.json_schema import apply_strict_mode

CITY = """
from pydantic import BaseModel

class Place(BaseModel):
    name: str

class City(BaseModel):
    name: str
    size: int = 1
    near: list[Place] = []
"""
OSLO = '{"name": "Oslo", "size": 700000, "near": [{"name": "Moss"}]}'


@pytest.fixture
def cities(notebook: Notebook) -> Notebook:
    assert notebook.run(CITY).error is None
    return notebook


def test_a_strict_schema_closes_every_object() -> None:
    """Nested classes and those with defaults too; a property named default stays."""

    class Inner(BaseModel):
        default: int = 3

    class Outer(BaseModel):
        inner: Inner
        also: list[Inner] = []

    schema = apply_strict_mode(Outer.model_json_schema())
    inner = schema["$defs"]["Inner"]
    assert (inner["required"], inner["additionalProperties"]) == (["default"], False)
    assert (schema["required"], schema["additionalProperties"]) == (["inner", "also"], False)
    assert "default" not in schema["properties"]["also"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "there is no variable of this name"), ("text", "must be a pydantic class, got a str")],
)
def test_a_schema_is_a_pydantic_class(name: str, message: str) -> None:
    """Another value is reported by its type."""
    with pytest.raises(MagicUsageError, match=f"--schema {name}: .*{message}"):
        get_json_format(name, {"text": "{}"})


@pytest.mark.parametrize("text", [OSLO, f"```json\n{OSLO}\n```", f"  {OSLO}\n"])
def test_json_is_read_with_and_without_a_fence(text: str) -> None:
    """Models that are asked in words like to fence it."""
    assert JsonFormat(mode="object").parse(text)["size"] == 700000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "it is a JSON list"),
        ("7", "it is a JSON int"),
        ("Oslo", "Expecting value: line 1 column 1 (char 0)"),
        ("[" * 100_000, "it is nested too deep"),
    ],
)
def test_what_is_no_object_is_a_value_error(text: str, message: str) -> None:
    """Any other answer raises ValueError with the reason."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        JsonFormat(mode="object").parse(text)


def test_only_a_refused_form_is_asked_for_in_another_way() -> None:
    """Other mistakes in the request are not repeated."""
    assert _rejects_format(AskOutcome(None, BadRequestError("no", status=400, param="response_format")))
    assert _rejects_format(AskOutcome(None, BadRequestError("json_schema is not supported", status=400)))
    assert not _rejects_format(
        AskOutcome(None, BadRequestError("temperature is too high", status=400, param="temperature"))
    )


def test_the_object_lands_in_its_name_and_the_answer_in_sky(cities: Notebook, echo: Echo) -> None:
    """-o is an object of the class; the service was sent the strict schema; the cell shows indented JSON."""
    ran = cities.run(f"%%skytells_chat --schema City -o city\n{OSLO}")
    assert ran.error is None
    names = cities.shell.user_ns
    assert isinstance(names["city"], names["City"])
    assert (names["city"].size, names["city"].near[0].name) == (700000, "Moss")
    assert str(names["_sky"]) == OSLO
    assert echo.options[-1]["schema"]["additionalProperties"] is False
    assert ran.outputs[0].data["text/plain"] == json.dumps(json.loads(OSLO), indent=2)


def test_json_lands_as_a_dict(notebook: Notebook, echo: Echo) -> None:
    """--json asks for an object and reads it."""
    assert notebook.run('%%skytells_chat --json -o found\n{"a": [1, 2]}').error is None
    assert notebook.shell.user_ns["found"] == {"a": [1, 2]}
    assert echo.options[-1]["json"] is True
    assert "JSON" in echo.messages[-1][0]["content"]


def test_responses_take_a_schema_too(cities: Notebook, echo: Echo) -> None:
    """The same option for the other API, which writes it in another place."""
    assert cities.run(f"%%skytells_respond --schema City -o city\n{OSLO}").error is None
    assert cities.shell.user_ns["city"].name == "Oslo"
    assert echo.options[-1]["schema"]["required"] == ["name", "size", "near"]


def test_an_answer_that_does_not_fit_fails_in_one_line(cities: Notebook) -> None:
    """The fault is named, the raw answer is in _sky and on the page, and -o is not touched."""
    cities.shell.user_ns["city"] = "before"
    ran = cities.run('%%skytells_chat --schema City -o city\n{"name": 3}')
    assert isinstance(ran.error, InvalidResponseError)
    assert "The answer is not a City: name: Input should be a valid string" in str(ran.error)
    assert ran.error.request_id in str(ran.error)
    assert "\n" not in str(ran.error)
    assert cities.shell.user_ns["city"] == "before"
    assert str(cities.shell.user_ns["_sky"]) == '{"name": 3}'
    assert "Traceback" not in ran.stdout + ran.stderr
    assert '"name": 3' in ran.outputs[0].data["text/plain"]


def test_only_an_object_that_fits_is_kept(cities: Notebook, echo: Echo) -> None:
    """--cache would give a bad answer for ever; a good one is read from the cache like a fresh one."""
    for text, asked in (('{"name": 3}', 2), (OSLO, 1)):
        before = len(echo.messages)
        for _ in range(2):
            cities.run(f"%%skytells_chat --schema City -o city --cache\n{text}")
        assert len(echo.messages) == before + asked
    assert cities.shell.user_ns["city"].name == "Oslo"


def test_a_cut_object_says_that_it_was_cut(cities: Notebook) -> None:
    """The length limit is the likeliest reason for half an object."""
    ran = cities.run('%%skytells_chat --schema City --max-tokens 1\n{"name": "Oslo"}')
    assert isinstance(ran.error, InvalidResponseError)
    assert "cut at the length limit: raise --max-tokens" in str(ran.error)


@pytest.mark.parametrize(
    ("takes", "asked", "note"),
    [
        ("json_object", ["json_schema", "json_object"], "does not accept a JSON schema"),
        (None, ["json_schema", "json_object", None], "does not accept a JSON format"),
    ],
)
def test_a_service_that_refuses_the_form_is_asked_in_a_weaker_way(
    shell: Notebook, takes: str | None, asked: list[str | None], note: str
) -> None:
    """From the schema to any object to words, which name the schema; the object is checked all the same."""
    sent: list[Any] = []

    def script(exchange: Exchange) -> None:
        body = exchange.json
        sent.append(body)
        form = (body.get("response_format") or {}).get("type")
        if form == takes:
            exchange.reply(completion(f"```json\n{OSLO}\n```"))
        else:
            message = f"response_format {form} is not supported by this model"
            exchange.reply({"error": {"message": message, "param": "response_format"}}, 400)

    shell.run(CITY)
    with scripted(script):
        ran = shell.run("%%skytells_chat --schema City -o city --no-stream\nWhich city?")
    assert ran.error is None
    assert shell.shell.user_ns["city"].size == 700000
    assert [(body.get("response_format") or {}).get("type") for body in sent] == asked
    assert '"near"' in sent[-1]["messages"][0]["content"]
    assert note in ran.outputs[0].data["text/plain"]


def test_another_refusal_is_not_repeated(shell: Notebook) -> None:
    """A bad request for another reason fails at once."""
    with scripted(lambda e: e.reply({"error": {"message": "no such thing", "param": "model"}}, 400)) as server:
        ran = shell.run("%%skytells_chat --json\nHello")
    assert isinstance(ran.error, BadRequestError)
    assert len(server.exchanges) == 1


def test_a_400_for_another_reason_keeps_the_schema_on(shell: Notebook) -> None:
    sent: list[Any] = []

    def script(exchange: Exchange) -> None:
        sent.append(exchange.json["response_format"]["type"])
        exchange.reply({"error": {"message": "The value is too large.", "param": "max_tokens"}}, 400)

    shell.run(CITY)
    with scripted(script):
        runs = [shell.run("%%skytells_chat --schema City --no-stream\nWhich city?") for _ in range(2)]
    assert [type(ran.error) for ran in runs] == [BadRequestError] * 2
    assert sent == ["json_schema"] * 2


class Place(BaseModel):
    name: str


class Order(BaseModel):
    """What strict mode takes only in other words: a decimal, defaults, a class in itself."""

    price: decimal.Decimal
    code: str = Field("x", max_length=3)
    parts: list[Order] = []
    kind: Literal["a"] | None = None


@pytest.mark.parametrize("kind", [Place, Order])
def test_cells_and_columns_ask_for_the_same_schema(kind: type[BaseModel]) -> None:
    asked = response_format(kind)
    assert JsonFormat(kind).for_chat() == asked
    assert JsonFormat(kind).for_responses() == {"type": "json_schema", **asked["json_schema"]}
    assert "(?!" not in json.dumps(asked)


def test_a_class_with_a_type_that_json_has_not_is_refused_by_the_cell_too() -> None:
    class Odd(BaseModel):
        call: Callable[[], int]

    with pytest.raises(InputError, match="has a type that JSON cannot represent"):
        JsonFormat(Odd).for_chat()
