"""%%skytells_respond in a real shell, against the local server and a scripted one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from magic_service import Echo, Notebook, interrupt_when, scripted
from serving import Exchange

import skytells_nb.session as sessions
from skytells_nb.errors import ContentPolicyError, Interrupted, InvalidResponseError, RateLimitError, StreamError
from skytells_nb.types.responses import Response

THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Weigh **both** <b>sides</b>"}],
}


def message(text: str) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": text}]}


def whole(status: str, *output: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 64, "total_tokens": 67}
    return {"id": "resp_1", "object": "response", "status": status, "output": list(output), "usage": usage, **more}


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text}


def events(exchange: Exchange, *bodies: dict[str, Any]) -> None:
    exchange.begin()
    for number, body in enumerate(bodies):
        exchange.event({**body, "sequence_number": number}, body["type"])


def text_of(notebook: Notebook, cell: str) -> str:
    ran = notebook.run(cell)
    assert ran.error is None
    text: str = ran.outputs[-1].data["text/plain"]
    return text


@pytest.mark.parametrize("option", ["", "--no-stream"])
def test_the_answer_is_shown_and_kept(notebook: Notebook, option: str) -> None:
    """Streamed or not: the same output, a typed response in -o and _sky, tokens in the totals."""
    assert text_of(notebook, f"%%skytells_respond {option} -o reply\nHello **there**") == "Hello **there**"
    reply = notebook.shell.user_ns["reply"]
    assert isinstance(reply, Response)
    assert reply is notebook.shell.user_ns["_sky"]
    assert (reply.finish_reason, reply.output_text) == ("stop", "Hello **there**")
    assert sessions.current().totals.output_tokens == 2


def test_options_reach_the_service(shell: Notebook) -> None:
    """Each under its name in this API; store is always sent."""
    with scripted(lambda e: e.reply(whole("completed", message("Yes")))) as server:
        options = "-m gpt-5 -s 'Be brief.' -t 0.5 --max-tokens 9 --effort low --no-stream"
        shell.run(f"%%skytells_respond {options}\nIs it?")
        shell.run("%%skytells_respond --no-stream --store\nIs it?")
        shell.run("%%skytells_respond --no-stream --conversation talk\nIs it?")
        shell.run("%%skytells_respond --no-stream --conversation talk\nAnd now?")
        sent = [exchange.json for exchange in server.exchanges]
    assert sent[0] == {
        "model": "gpt-5",
        "input": "Is it?",
        "instructions": "Be brief.",
        "store": False,
        "temperature": 0.5,
        "max_output_tokens": 9,
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    assert [body["store"] for body in sent[1:]] == [True, True, True]
    assert [body.get("previous_response_id") for body in sent[1:]] == [None, None, "resp_1"]


def test_reasoning_is_folded_above_the_answer(shell: Notebook) -> None:
    """One output of its own that opens with a click; what is in it is as harmless as an answer."""

    def script(exchange: Exchange) -> None:
        events(
            exchange,
            {"type": "response.created", "response": whole("in_progress")},
            {"type": "response.reasoning_summary_text.delta", "delta": "Weigh "},
            {"type": "response.reasoning_summary_text.delta", "delta": "**both** <b>sides</b>"},
            {"type": "response.reasoning_summary_part.done"},
            {"type": "response.output_item.done", "item": THOUGHT},
            delta("Yes."),
            {"type": "response.completed", "response": whole("completed", THOUGHT, message("Yes."))},
        )

    with scripted(script):
        ran = shell.run("%%skytells_respond\nIs it?")
    reasoning, answer = (output.data for output in ran.outputs)
    assert reasoning["text/html"] == (
        '<details class="skytells-reasoning"><summary>Reasoning</summary><blockquote><div class="skytells-md"><p>Weigh '
        "<strong>both</strong> &lt;b&gt;sides&lt;/b&gt;</p>\n</div></blockquote></details>"
    )
    assert reasoning["text/plain"] == "> Reasoning\n>\n> Weigh **both** <b>sides</b>"
    assert answer["text/plain"].startswith("Yes.")


def test_reasoning_of_a_whole_answer_is_shown_too(shell: Notebook) -> None:
    """Without a stream, and as quoted lines where there is no page."""
    shell.run("%config SkytellsMagics.stream = 'plain'")
    with scripted(lambda e: e.reply(whole("completed", THOUGHT, message("Yes.")))):
        ran = shell.run("%%skytells_respond --no-stream\nIs it?")
    assert ran.stdout.startswith("> Reasoning\n>\n> Weigh **both** <b>sides</b>\n\nYes.\n")


def test_reasoning_is_shown_a_paragraph_at_a_time(shell: Notebook) -> None:
    """The reader sees that something is going on; the last state holds all of it, and saved is one output."""
    parts = ("First.", "Second.")

    def script(exchange: Exchange) -> None:
        thought = [
            body
            for text in parts
            for body in (
                {"type": "response.reasoning_summary_text.delta", "delta": text},
                {"type": "response.reasoning_summary_part.done"},
            )
        ]
        events(exchange, *thought, delta("Yes."), {"type": "response.completed", "response": whole("completed")})

    with scripted(script):
        shell.run("%config SkytellsMagics.stream = 'live'")
        outputs = shell.run("%%skytells_respond\nIs it?").outputs
        shell.run("%config SkytellsMagics.stream = 'final'")
        final = [output.data["text/plain"] for output in shell.run("%%skytells_respond\nIs it?").outputs]
        shell.run("%config SkytellsMagics.stream = 'plain'")
        printed = shell.run("%%skytells_respond\nIs it?").stdout
    assert [output.data["text/plain"] for output in outputs[:2]] == [
        "> Reasoning\n>\n> First.",
        "> Reasoning\n>\n> First.\n>\n> Second.",
    ]
    assert [text for text in final if "Reasoning" in text] == ["> Reasoning\n>\n> First.\n>\n> Second."]
    assert printed.startswith("> Reasoning\n>\n> First.\n\n> Second.\n\nYes.\n")


def test_reasoning_that_was_interrupted_is_not_lost(shell: Notebook) -> None:
    """The reasoning that arrived is shown when the stream ends early."""

    def script(exchange: Exchange) -> None:
        events(exchange, {"type": "response.reasoning_summary_text.delta", "delta": "Weigh"})

    with scripted(script):
        ran = shell.run("%%skytells_respond\nIs it?")
    assert ran.error is not None
    assert ran.outputs[0].data["text/plain"] == "> Reasoning\n>\n> Weigh"


def test_an_answer_at_the_length_limit_is_incomplete(notebook: Notebook) -> None:
    """A note says why and what to do, and the cell succeeds."""
    said = text_of(notebook, "%%skytells_respond --max-tokens 2\none two three")
    assert "[Cut at the length limit after 2 tokens: raise --max-tokens, or ask for a shorter answer.]" in said
    assert notebook.shell.user_ns["_sky"].status == "incomplete"


@pytest.mark.parametrize("server", ["empty_length"], indirect=True)
def test_a_limit_that_reasoning_used_up_says_so(notebook: Notebook) -> None:
    """No text is not the same as a short answer."""
    said = text_of(notebook, "%%skytells_respond --max-tokens 16\nHello")
    assert "reached after 16 tokens by reasoning, before any text: raise --max-tokens" in said


@pytest.mark.parametrize("server", ["filter_completion=default"], indirect=True)
def test_a_filtered_answer_is_incomplete_for_that_reason(notebook: Notebook) -> None:
    """The filter is named, in words and in the finish_reason."""
    said = text_of(notebook, "%%skytells_respond\none two three four five six")
    assert "The safety filter ended this answer early." in said
    assert notebook.shell.user_ns["_sky"].finish_reason == "content_filter"


@pytest.mark.parametrize("stream", [True, False])
def test_a_failed_answer_fails_the_cell(shell: Notebook, stream: bool) -> None:
    """The reason is in the error; what arrived is stored and shown."""
    failed = whole("failed", error={"code": "server_error", "message": "The model broke."})

    def script(exchange: Exchange) -> None:
        if stream:
            events(exchange, delta("Half"), {"type": "response.failed", "response": failed})
        else:
            exchange.reply(failed)

    with scripted(script):
        ran = shell.run(f"%%skytells_respond -o part {'' if stream else '--no-stream'}\nIs it?")
    assert isinstance(ran.error, InvalidResponseError)
    assert "failed: server_error: The model broke." in str(ran.error)
    part = shell.shell.user_ns["part"]
    assert (part.finish_reason, str(part)) == ("failed", "Half" if stream else "")
    shown = ran.outputs[-1].data["text/plain"]
    kept = "what arrived is above" if stream else "nothing had arrived"
    assert f"[failed: the service ended this answer; {kept}]" in shown


@pytest.mark.parametrize("server", ["stream_error=7"], indirect=True)
def test_an_error_within_the_stream_keeps_its_text(notebook: Notebook) -> None:
    """As in a chat: marked, stored, and the cell fails."""
    ran = notebook.run("%%skytells_respond -o part\none two three four five six")
    assert isinstance(ran.error, StreamError)
    part = notebook.shell.user_ns["part"]
    assert part.finish_reason == "error"
    assert "one two three four five six".startswith(part.output_text.rstrip())
    assert "[error: the stream failed" in ran.outputs[-1].data["text/plain"]


@pytest.mark.parametrize(
    ("server", "kind"), [("block_prompt", ContentPolicyError), ("status=429", RateLimitError)], indirect=["server"]
)
def test_refusals_are_the_same_errors_as_in_a_chat(notebook: Notebook, kind: type[Exception]) -> None:
    """A blocked prompt and a limit, each with what to do."""
    ran = notebook.run("%%skytells_respond\nHello")
    assert isinstance(ran.error, kind)
    assert "cell again" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr


def test_an_interrupt_keeps_what_came(notebook: Notebook, echo: Echo) -> None:
    """The server is left at once, the text stays, and Ctrl-C is raised on."""
    echo.hold_after = 3
    notebook.run("%config SkytellsMagics.stream = 'live'")
    interrupter = interrupt_when(echo.held, lambda: getattr(notebook.shell.display_pub, "outputs", None))
    ran = notebook.run("%%skytells_respond -o part\none two three four five")
    interrupter.join(60)
    echo.released.set()
    assert isinstance(ran.error, Interrupted)
    part = notebook.shell.user_ns["part"]
    assert part.finish_reason == "interrupted"
    assert part.output_text
    assert "one two three ".startswith(part.output_text)
    assert ran.outputs[-1].data["text/plain"].endswith("[interrupted: what arrived is above]")


def test_a_refusal_of_the_model_is_said(shell: Notebook) -> None:
    """It is no text of the answer, and it is not silence either."""
    refused = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    with scripted(lambda e: e.reply(whole("completed", refused))):
        ran = shell.run("%%skytells_respond --no-stream\nDo it")
    assert "[The model refused to answer: I cannot.]" in ran.outputs[-1].data["text/plain"]


def test_the_output_carries_model_and_tokens(notebook: Notebook) -> None:
    """The same metadata as under a chat."""
    facts = notebook.run("%%skytells_respond\nHello there").outputs[-1].metadata["skytells"]
    assert facts["usage"]["output_tokens"] == 2
    assert facts["safety"]["checked"] is True
    assert json.dumps(facts)
