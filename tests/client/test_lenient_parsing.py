"""Answers with odd members are read: what is paid for is not thrown away, and what did not fit is kept and reported."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from answers import chunk, lines, replying, streaming
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.lenient_parsing import SurrogateJoiner, load_json
from skytells_nb.client.transport.body_forms import unwrapped
from skytells_nb.errors import InvalidResponseError, NotFoundError, ServerError, SkytellsWarning, TruncatedStreamError
from skytells_nb.types.chat import ChatCompletion

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def answer(choice: dict[str, Any] | None = None, message: Any = None, **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "hello", **(message or {})}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [{"index": 0, "finish_reason": "stop", "message": said, **(choice or {})}],
        "usage": USAGE,
        **more,
    }


@pytest.mark.parametrize("reason", [{"type": "stop", "matched": 2}, ["stop"]])
def test_a_finish_reason_in_an_object_or_a_list_is_read(reason: Any) -> None:
    with pytest.warns(SkytellsWarning, match="finish_reason"):
        read = ask(answer({"finish_reason": reason}))
    assert (read.text, read.finish_reason) == ("hello", "stop")
    assert read.choices[0].model_extra == {"finish_reason": reason}


def test_a_tool_call_without_an_object_for_its_function_keeps_its_name() -> None:
    read = ask(answer(message={"content": None, "tool_calls": [{"id": "a", "name": "f", "arguments": "{}"}]}))
    (call,) = read.choices[0].message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("a", "f", "{}")


@pytest.mark.parametrize("body", [5, True, [], [5, "x"]])
def test_json_that_is_no_object_is_quoted_as_no_answer(body: Any) -> None:
    with pytest.raises(InvalidResponseError) as caught:
        ask(body)
    assert str(caught.value) == f"The response is not a ChatCompletion: {body!r}"


def ask(body: Any) -> ChatCompletion:
    with replying(body) as (client, _):
        return client.chat.completions.create(model="gpt-5", messages="Hi")


ODD: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "usage": (answer(usage=[]), []),
    "created": (answer(created=1.5), []),
    "created as text": (answer(created="yesterday"), []),
    "id": (answer(id=7), []),
    "model": (answer(model=None, object=3), []),
    "system_fingerprint": (answer(system_fingerprint=[1]), []),
    "details": (answer(usage={**USAGE, "completion_tokens_details": []}), ["usage"]),
    "tokens": (answer(usage={**USAGE, "total_tokens": {"all": 5}}), ["usage"]),
    "logprobs": (answer({"logprobs": []}), ["choices", 0]),
    "finish_reason": (answer({"finish_reason": 5}), ["choices", 0]),
    "index": (answer({"index": "first"}), ["choices", 0]),
    "content_filter_results": (answer({"content_filter_results": []}), ["choices", 0]),
    "refusal": (answer(message={"refusal": False}), ["choices", 0, "message"]),
    "role": (answer(message={"role": 1}), ["choices", 0, "message"]),
    "prompt_filter_results": (answer(prompt_filter_results="none"), []),
}


def found(model: Any, place: list[Any]) -> Any:
    for step in place:
        model = model[step] if isinstance(step, int) else getattr(model, step)
    return model


@pytest.mark.parametrize("name", ODD)
def test_an_optional_member_that_does_not_fit_costs_no_answer_and_is_kept(name: str) -> None:
    body, place = ODD[name]
    member = (
        "object"
        if name == "model"
        else {"details": "completion_tokens_details", "tokens": "total_tokens"}.get(name, name.partition(" ")[0])
    )
    with pytest.warns(SkytellsWarning, match=f"fields that do not match .*{member}") as caught:
        reply = ask(body)
    assert reply.text == "hello"
    owner, raw = found(reply, place), found_raw(body, place)
    assert owner.model_extra[member] == raw[member]
    assert getattr(owner, member) == type(owner).model_fields[member].get_default(call_default_factory=True)
    assert len(caught) == 1


def found_raw(body: Any, place: list[Any]) -> Any:
    for step in place:
        body = body[step]
    return body


def test_a_member_that_does_not_fit_is_reported_once_for_a_service() -> None:
    with replying(answer(created=1.5)) as (client, _), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        replies = [client.chat.completions.create(model="gpt-5", messages="Hi") for _ in range(3)]
    assert [reply.text for reply in replies] == ["hello"] * 3
    assert len([warning for warning in caught if warning.category is SkytellsWarning]) == 1


def test_a_report_costs_no_answer_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(answer(created=1.5)).text == "hello"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"type": "text", "text": "hello"}, "hello"),
        ({"answer": 42}, '{"answer": 42}'),
        (["hel", "lo"], "hello"),
        (["hel", {"type": "text", "text": "lo"}], "hello"),
        ([{"type": "text", "text": {"value": "hello"}}, None], "hello"),
        ([], ""),
    ],
)
def test_content_in_another_form_is_the_text(content: Any, text: str) -> None:
    assert ask(answer(message={"content": content})).text == text


@pytest.mark.parametrize("extra", [[], [{"type": "text", "text": " "}]])
def test_a_refusal_in_parts_is_the_refusal(extra: list[Any]) -> None:
    reply = ask(answer(message={"content": [*extra, {"type": "refusal", "refusal": "I cannot."}]}))
    assert reply.refusal == reply.choices[0].message.refusal == "I cannot."


def test_a_refusal_beside_a_text_is_an_answer() -> None:
    assert ask(answer(message={"refusal": "I should not."})).refusal is None
    assert ask(answer(message={"content": None, "refusal": "I cannot."})).refusal == "I cannot."


@pytest.mark.parametrize(
    "calls",
    [
        [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}],
        {**CALL},
        ["junk", CALL],
        [{**CALL, "type": 5}],
    ],
)
def test_tool_calls_in_another_form_are_read(calls: Any) -> None:
    with pytest.warns(SkytellsWarning):
        (call,) = ask(answer(message={"content": None, "tool_calls": calls})).choices[0].message.tool_calls
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == ("a", "f", {"a": 1})


def test_the_id_of_a_tool_call_is_a_text_that_can_be_answered() -> None:
    with pytest.warns(SkytellsWarning):
        (call,) = ask(answer(message={"tool_calls": [{**CALL, "id": 5}]})).choices[0].message.tool_calls
    assert call.id == "5"
    assert call.model_extra == {"id": 5}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"\xef\xbb\xbf" + json.dumps(answer()).encode(), "hello"),
        (json.dumps(answer()).encode("utf-16"), "hello"),
        (json.dumps(answer(message={"content": "aXb"})).replace("X", "\n").encode(), "a\nb"),
        (json.dumps(answer(message={"content": "aXb"})).replace("X", "\\ud83d").encode(), "a�b"),
        (json.dumps(answer(message={"content": "aXb"})).replace("X", "\\ud83d\\ude00").encode(), "a😀b"),
        (json.dumps(answer()).replace('"created": 1', '"created": NaN').encode(), "hello"),
        (json.dumps(answer()).replace('"created": 1', f'"created": {"1" * 6000}').encode(), "hello"),
        (json.dumps(answer()).encode() + b"\0", "hello"),
    ],
)
@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
def test_json_as_services_write_it_is_read(sent: bytes, text: str) -> None:
    assert ask(sent).text == text


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert load_json(json.dumps(value)) == value
    assert load_json("\ufeff" + json.dumps(value)) == value


@given(st.text(), st.data())
def test_characters_cut_in_two_are_joined_wherever_they_are_cut(text: str, choose: st.DataObject) -> None:
    units = text.encode("utf-16-le", "surrogatepass")
    cut = 2 * choose.draw(st.integers(0, len(units) // 2))
    joiner = SurrogateJoiner()
    halves = [units[:cut], units[cut:]]
    joined = "".join(joiner.join({"delta": h.decode("utf-16-le", "surrogatepass")})["delta"] for h in halves)
    assert joined == text


def test_an_error_beside_an_answer_is_told_once_and_costs_no_answer() -> None:
    with replying(answer(error={"message": "a fallback was used"})) as (client, _):
        with pytest.warns(SkytellsWarning, match="ChatCompletion together with an error: a fallback was used"):
            assert client.chat.completions.create(model="gpt-5", messages="Hi").text == "hello"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert client.chat.completions.create(model="gpt-5", messages="Hi").text == "hello"


@pytest.mark.parametrize(
    "sent",
    [
        b'data: {"error": {"message": "It broke."}}\n\ndata: [DONE]\n\n',
        b'event: error\ndata: {"detail": "It broke."}\n\n',
        b'{"error": "It broke."}\n{"error": "Again."}\n',
        b'\xef\xbb\xbf{"error": "It broke."}',
        b'"It broke."',
        b"It broke.",
        b"<html><body><h1>It broke.</h1></body></html>",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_with_its_status_is_read_in_whatever_form_it_comes(sent: bytes, stream: bool) -> None:
    with replying(sent, 503) as (client, _), pytest.raises(ServerError, match=r"It broke\.") as caught:
        client.chat.completions.create(model="gpt-5", messages="Hi", stream=stream)
    assert "data:" not in str(caught.value)


def test_a_text_that_begins_with_a_number_is_quoted() -> None:
    with replying(b"404 page not found", 404) as (client, _), pytest.raises(NotFoundError, match="404 page not found"):
        client.chat.completions.create(model="gpt-5", messages="Hi")


def test_an_answer_that_was_streamed_unasked_is_read() -> None:
    sent = lines(chunk({"content": "hel"}), chunk({"content": "lo"}, "stop"), "[DONE]")
    with streaming(sent) as (client, _):
        reply = client.chat.completions.create(model="gpt-5", messages="Hi")
        assert (reply.text, reply.finish_reason) == ("hello", "stop")


@pytest.mark.parametrize("body", [{}, {"id": "x"}, {"object": "chat.completion"}, {"created": 1, "usage": USAGE}])
def test_json_without_choices_is_no_answer_and_is_quoted(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponseError, match="is not a completion"):
        ask(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"output": [{"type": "message", "content": "hello"}]}, "hello"),
        ({"output": [{"type": "message", "content": ["hel", {"type": "output_text", "text": "lo"}]}]}, "hello"),
        ({"output": [{"type": "reasoning", "summary": [5]}, {"content": [{"text": "hello"}]}]}, "hello"),
        ({"output": [{"content": [{"text": "hello", "annotations": {}}]}], "created_at": "now"}, "hello"),
        ({"output": [None, {"content": [{"text": "hello"}]}]}, "hello"),
        ({"output_text": "hello", "status": "completed"}, "hello"),
    ],
)
@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
def test_a_response_with_odd_members_is_read(body: dict[str, Any], text: str) -> None:
    with replying(body) as (client, _):
        assert client.responses.create(model="gpt-5", input="Hi").output_text == text


def test_embeddings_with_odd_members_are_read() -> None:
    body = {"data": [{"index": 0, "embedding": [1.0, 2.0], "object": 5}], "usage": [], "model": 3, "object": None}
    with replying(body) as (client, _), pytest.warns(SkytellsWarning, match="usage"):
        reply = client.embeddings.create(model="m", input="a")
    assert reply.matrix.tolist() == [[1.0, 2.0]]
    assert reply.usage.prompt_tokens == 0


@pytest.mark.parametrize(("encoding", "name"), [("br", "br"), ("zstd", "zstd"), ("br, gzip", "br"), ("gzip", "gzip")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_compression_that_cannot_be_undone_is_named(encoding: str, name: str, stream: bool) -> None:
    body = gzip.compress(b"\x0b\x02\x80hello\x03") if "," in encoding else b"\x0b\x02\x80hello\x03"
    with (
        replying(body, content_encoding=encoding) as (client, _),
        pytest.raises(InvalidResponseError, match=name) as caught,
    ):
        client.chat.completions.create(model="gpt-5", messages="Hi", stream=stream)
    assert "compressed" in str(caught.value)
    assert "\x02" not in str(caught.value)


def test_a_compression_without_a_name_is_told() -> None:
    with replying(b"\x1f\x8b\x08rest") as (client, _), pytest.raises(InvalidResponseError, match="with gzip without a"):
        client.chat.completions.create(model="gpt-5", messages="Hi")


SAID = {"role": "assistant", "content": "Grüße"}
CHOICE = {"index": 0, "finish_reason": "stop", "message": SAID}
FORMS: dict[str, Any] = {
    "choices as one choice": answer() | {"choices": CHOICE},
    "choices by their numbers": answer() | {"choices": {"0": CHOICE, "1": {**CHOICE, "message": {"content": "b"}}}},
    "choices as texts": answer() | {"choices": ["Grüße"]},
    "legacy text": answer() | {"object": "text_completion", "choices": [{"text": "Grüße", "finish_reason": "stop"}]},
    "a message that is a text": answer({"message": "Grüße"}),
    "a delta in a whole answer": answer() | {"choices": [{"delta": SAID, "finish_reason": "stop"}]},
    "encoded twice": json.dumps(json.dumps(answer(message=SAID))).encode(),
    "encoded three times": json.dumps(json.dumps(json.dumps(answer(message=SAID)))).encode(),
    "in a list": [answer(message=SAID)],
    "under data": {"code": 0, "msg": "success", "data": answer(message=SAID)},
    "under result as text": {"success": True, "result": json.dumps(answer(message=SAID))},
    "latin-1": json.dumps(answer(message=SAID), ensure_ascii=False).encode("latin-1"),
    "utf-16 without a mark": json.dumps(answer(message=SAID), ensure_ascii=False).encode("utf-16-be"),
}


# Events are lines of UTF-8.
@pytest.mark.parametrize(
    ("name", "stream"), [(n, s) for n in FORMS for s in (False, True) if not (s and n.startswith("utf-16"))]
)
def test_an_answer_in_another_form_is_the_answer(name: str, stream: bool) -> None:
    body = FORMS[name]
    if stream:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        body = b"data: " + body + b"\n\ndata: [DONE]\n\n"
    with replying(body) as (client, _), warnings.catch_warnings():
        warnings.simplefilter("error")
        made = client.chat.completions.create(model="gpt-5", messages="Hi", stream=stream)
        if stream and name == "choices as texts":
            with pytest.raises(TruncatedStreamError) as caught:
                _ = made.final
            assert caught.value.partial == "Grüße"
            return
        reply = made.final if stream else made
    assert reply.text == "Grüße"
    assert reply.finish_reason == (None if name == "choices as texts" else "stop")
    assert reply.usage is not None
    assert reply.usage.total_tokens == 5


def test_a_stream_of_legacy_texts_is_the_text() -> None:
    pieces = [{"index": 0, "text": text, "finish_reason": end} for text, end in (("Gr", None), ("üße", "stop"))]
    with streaming(lines(*({**chunk(), "choices": [piece]} for piece in pieces), "[DONE]")) as (client, _):
        stream = client.chat.completions.create(model="gpt-5", messages="Hi", stream=True)
        assert "".join(stream.text) == "Grüße"
        assert stream.final.finish_reason == "stop"


def test_a_stream_in_latin_1_is_the_text() -> None:
    deltas = [chunk({"content": text}) for text in ("Caf\xe9", " au", " lait tr\xe8s")]
    sent = b"".join(f"data: {json.dumps(d, ensure_ascii=False)}\n\n".encode("latin-1") for d in deltas)
    with streaming(sent + lines(chunk({}, "stop"), "[DONE]")) as (client, _):
        assert (
            client.chat.completions.create(model="gpt-5", messages="Hi", stream=True).final.text == "Café au lait très"
        )


def test_the_encoding_that_a_header_names_is_read() -> None:
    sent = json.dumps(answer(message={"content": "問題"}), ensure_ascii=False).encode("shift_jis")
    with replying(sent, content_type="application/json; charset=Shift_JIS") as (client, _):
        assert client.chat.completions.create(model="gpt-5", messages="Hi").text == "問題"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(json.dumps({"error": {"message": "It broke."}})).encode(),
        {"data": {"error": {"message": "It broke."}}, "error": "It broke."},
        {"code": 500, "msg": "It broke.", "data": None},
        {"code": 500, "msg": "It broke.", "data": {"choices": []}},
    ],
)
def test_an_error_in_another_form_is_the_error(body: Any) -> None:
    with pytest.raises(ServerError, match=r"It broke\."):
        ask(body)


@pytest.mark.parametrize(
    "data",
    [
        {"0": {"embedding": [1.0, 2.0]}, "1": {"embedding": [3.0, 4.0]}},
        [[1.0, 2.0], [3.0, 4.0]],
        {"data": [{"index": 0, "embedding": [1.0, 2.0]}, {"index": 1, "embedding": [3.0, 4.0]}]},
    ],
)
def test_vectors_in_another_form_are_the_vectors(data: Any) -> None:
    with replying({"data": data, "usage": {"prompt_tokens": 2, "total_tokens": 2}}) as (client, _):
        reply = client.embeddings.create(model="m", input=["a", "b"])
    assert reply.matrix.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("sent", ["a", ["a"], [7]], ids=["text", "list of one", "one token"])
@pytest.mark.parametrize("data", [[[1.0, 2.0]], {"0": {"embedding": [1.0, 2.0]}}, {"embedding": [1.0, 2.0]}])
def test_one_vector_in_another_form_is_one_vector(sent: Any, data: Any) -> None:
    with replying({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}) as (client, _):
        assert client.embeddings.create(model="m", input=sent).matrix.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("results", "severity", "checked"),
    [
        ([{"category": "hate", "filtered": False, "severity": "high"}], "high", True),
        ([{"violence": {"filtered": False, "severity": "safe"}}, {"name": "hate", "severity": "low"}], "low", True),
        ([{"category": "hate", "severity": "high"}, {"category": "hate", "severity": "safe"}], "high", True),
        ([{"category": "hate", "severity": "safe"}, "unreadable"], "safe", False),
        ([{"category": "hate", "score": 0.9}], None, False),
        ([{"category": "hate", "severity": "safe", "error": {"code": "x"}}], None, False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_safety_results_in_a_list_are_read(results: list[Any], severity: str | None, checked: bool) -> None:
    safety = ask(answer({"content_filter_results": results})).safety
    assert (safety.severity, safety.checked) == (severity, checked)
    sent = lines(chunk({"content": "hello"}), chunk({}, "stop", content_filter_results=results), "[DONE]")
    with streaming(sent) as (client, _):
        safety = client.chat.completions.create(model="gpt-5", messages="Hi", stream=True).final.safety
    assert (safety.severity, safety.checked) == (severity, checked)


@pytest.mark.parametrize("wrap", [json.dumps, lambda body: [body], lambda body: {"result": body}])
def test_an_answer_is_found_five_wrappers_deep_and_no_deeper(wrap: Callable[[Any], Any]) -> None:
    answer: Any = {"choices": [{"message": {"content": "hi"}}]}
    body = answer
    for _ in range(5):
        body = wrap(body)
    assert unwrapped(body, ["choices"]) == answer
    assert unwrapped(wrap(body), ["choices"]) != answer
