"""%%skytells_chat in a real shell, against the local server."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest
from magic_service import KEY, Echo, Notebook, completion, interrupt_when, scripted
from serving import Exchange

import skytells_nb.session as sessions
from skytells_nb.errors import (
    ContentPolicyError,
    Interrupted,
    MissingKeyError,
    RateLimitError,
    StreamError,
    TruncatedStreamError,
)
from skytells_nb.magics.chat_arguments import MagicUsageError


def bundle(outputs: list[Any]) -> dict[str, str]:
    assert len(outputs) == 1
    data: dict[str, str] = outputs[0].data
    return data


def test_the_answer_is_one_output_as_html_and_text(notebook: Notebook) -> None:
    """The cell shows the sanitized Markdown and its text, and returns nothing."""
    ran = notebook.run("%%skytells_chat\nSay **hi** <img src=x onerror=alert(1)>")
    assert ran.error is None
    data = bundle(ran.outputs)
    assert data["text/plain"] == "Say **hi** <img src=x onerror=alert(1)>"
    assert "<strong>hi</strong>" in data["text/html"]
    assert "<img" not in data["text/html"]
    assert set(data) == {"text/html", "text/markdown", "text/plain"}


def test_the_answer_is_kept_in_its_name_and_in_sky(notebook: Notebook) -> None:
    """-o NAME and _sky hold the same typed answer."""
    assert notebook.run("%%skytells_chat -o reply\nHello there").error is None
    names = notebook.shell.user_ns
    assert names["reply"] is names["_sky"]
    assert str(names["reply"]) == "Hello there"
    assert names["reply"].finish_reason == "stop"
    assert names["reply"].usage.completion_tokens == 2
    assert names["reply"].request_id


def test_the_body_is_literal(notebook: Notebook, echo: Echo) -> None:
    """Braces, dollars and percent signs are sent as they stand, and nothing is evaluated."""
    body = 'x = {"a": 1} {0} {} $HOME {open("/etc/hostname").read()} {{name}} %d \\frac{a}{b}'
    notebook.shell.user_ns["name"] = "secret"
    notebook.run(f"%%skytells_chat\n{body}")
    assert echo.messages[-1] == [{"role": "user", "content": body}]


def test_the_line_is_literal_too(notebook: Notebook, echo: Echo) -> None:
    """IPython does not expand variables or run expressions on the magic's line."""
    notebook.shell.user_ns["leak"] = "secret"
    assert notebook.run("%%skytells_chat -s '{leak} $leak {1+1}'\nHi").error is None
    assert echo.messages[-1][0] == {"role": "system", "content": "{leak} $leak {1+1}"}


def test_variables_are_filled_where_asked(notebook: Notebook, echo: Echo) -> None:
    """-v fills its own placeholder once; a value is never a template."""
    notebook.shell.user_ns.update(a="{{b}} {{c}}", b=2, c="secret")
    notebook.run("%%skytells_chat -v a -v b\n{{a}} {{b}} {{c}}")
    assert echo.messages[-1][0]["content"] == "{{b}} {{c}} 2 {{c}}"


def test_options_reach_the_service(notebook: Notebook, echo: Echo) -> None:
    """Model, system message, temperature and length are sent as given, quotes taken off."""
    ran = notebook.run("%%skytells_chat -m gpt-5 -s 'Be brief.' -t 0.25 --max-tokens 1\nOne two three")
    assert ran.error is None
    assert echo.messages[-1][0] == {"role": "system", "content": "Be brief."}
    assert echo.options[-1]["temperature"] == 0.25
    assert echo.options[-1]["max_tokens"] == 1
    assert sessions.current().totals.by_model.keys() == {"gpt-5"}


def test_an_answer_ends_before_a_stop_text(notebook: Notebook) -> None:
    """--stop, given twice: the first that comes ends the answer."""
    ran = notebook.run("%%skytells_chat --stop ' four' --stop ' three' -o part\none two three four")
    assert ran.error is None
    assert str(notebook.shell.user_ns["part"]) == "one two"


def test_config_sets_defaults_and_the_line_wins(notebook: Notebook, echo: Echo) -> None:
    """%config SkytellsMagics sets model and system for cells without -m and -s."""
    notebook.run("%config SkytellsMagics.model = 'gpt-5'")
    notebook.run("%config SkytellsMagics.system = 'In French.'")
    notebook.run("%%skytells_chat\nHi")
    notebook.run("%%skytells_chat -m deepbrain-router -s ''\nHi")
    assert set(sessions.current().totals.by_model) == {"gpt-5", "deepbrain-router"}
    assert [m[0]["role"] for m in echo.messages] == ["system", "user"]


def test_the_stream_setting_decides_how_answers_are_shown(notebook: Notebook) -> None:
    """With live, the output is published at once and updated; the last state holds the text."""
    notebook.run("%config SkytellsMagics.stream = 'live'")
    ran = notebook.run("%%skytells_chat\none two three")
    assert len(ran.outputs) >= 2
    assert ran.outputs[-1].data["text/plain"] == "one two three"


def test_without_streaming_the_answer_is_the_same(notebook: Notebook) -> None:
    """--no-stream asks for the whole answer."""
    ran = notebook.run("%%skytells_chat --no-stream -o whole\nHello there")
    assert bundle(ran.outputs)["text/plain"] == "Hello there"
    assert notebook.shell.user_ns["whole"].object == "chat.completion"


def test_text_format_shows_the_letters(notebook: Notebook) -> None:
    """-f text shows Markdown as it is written."""
    ran = notebook.run("%%skytells_chat -f text\n*Hello*")
    assert bundle(ran.outputs)["text/html"] == '<pre class="skytells-text">*Hello*</pre>'


def test_the_output_carries_model_tokens_and_verdict(notebook: Notebook) -> None:
    """Model, request id, usage and safety are in the output's metadata."""
    facts = notebook.run("%%skytells_chat\nHello there").outputs[0].metadata["skytells"]
    assert facts["finish_reason"] == "stop"
    assert facts["usage"]["completion_tokens"] == 2
    assert facts["request_id"] == notebook.shell.user_ns["_sky"].request_id
    assert facts["safety"] == {"severity": "safe", "filtered": False, "checked": True, "flagged": []}
    assert KEY not in repr(facts)


def test_a_captured_cell_keeps_one_output(notebook: Notebook) -> None:
    """%%capture around the magic holds the answer once."""
    assert notebook.run("%%capture kept\n%%skytells_chat\nHello there").error is None
    assert bundle(notebook.shell.user_ns["kept"].outputs)["text/plain"] == "Hello there"


def test_tokens_are_added_to_the_session(notebook: Notebook) -> None:
    """What a cell used is in the totals."""
    notebook.run("%%skytells_chat\nHello there you")
    totals = sessions.current().totals
    assert (totals.requests, totals.input_tokens, totals.output_tokens) == (1, 7, 3)


def test_a_cut_answer_says_so(notebook: Notebook) -> None:
    """At the length limit a note says what to do."""
    ran = notebook.run("%%skytells_chat --max-tokens 2\none two three")
    assert ran.error is None
    data = bundle(ran.outputs)
    assert (
        "[Cut at the length limit after 2 tokens: raise --max-tokens, or ask for a shorter answer.]"
        in data["text/plain"]
    )
    assert "raise --max-tokens" in data["text/html"]


def test_a_finding_is_noted_under_the_answer(notebook: Notebook) -> None:
    """Findings above safe are reported for prompt and answer."""
    text = bundle(notebook.run("%%skytells_chat\nviolence:low fight").outputs)["text/plain"]
    assert text == "violence:low fight\n\n[Safety: violence low in the prompt; violence low in the answer.]"


@pytest.mark.parametrize("server", ["filter_completion=default"], indirect=True)
def test_a_withheld_answer_says_so(notebook: Notebook) -> None:
    """finish_reason content_filter is put in plain words, and the cell succeeds."""
    ran = notebook.run("%%skytells_chat\nHello there my dear friend")
    assert ran.error is None
    assert "safety filter" in bundle(ran.outputs)["text/plain"]
    assert notebook.shell.user_ns["_sky"].finish_reason == "content_filter"


@pytest.mark.parametrize("server", ["filter_down"], indirect=True)
def test_an_unchecked_answer_says_so(notebook: Notebook) -> None:
    """A missing safety result is not a pass."""
    text = bundle(notebook.run("%%skytells_chat\nHello there").outputs)["text/plain"]
    assert text.endswith("[Safety: not checked: the filter returned no result.]")


@pytest.mark.parametrize("server", ["block_prompt"], indirect=True)
def test_a_blocked_prompt_fails_with_its_reason(notebook: Notebook) -> None:
    """The categories are shown and the cell fails."""
    ran = notebook.run("%%skytells_chat\nHello there")
    assert isinstance(ran.error, ContentPolicyError)
    assert (
        bundle(ran.outputs)["text/plain"]
        == "[Safety: the filter blocked the prompt (violence high filtered in the prompt).]"
    )


@pytest.mark.parametrize(
    ("server", "text", "finish_reason", "note"),
    [
        (
            "stream_cut_after=4",
            "one two ",
            "truncated",
            "\n\n[truncated: the stream ended early; what arrived is above]",
        ),
        ("no_done", "one two three four five six", "stop", ""),
    ],
    indirect=["server"],
)
def test_a_truncated_stream_keeps_its_text_and_fails(
    notebook: Notebook, text: str, finish_reason: str, note: str
) -> None:
    """What arrived stays on the page and in the variable, marked as incomplete, and the cell fails."""
    ran = notebook.run("%%skytells_chat -o part\none two three four five six")
    part = notebook.shell.user_ns["part"]
    assert isinstance(ran.error, TruncatedStreamError)
    assert (part.text, part.finish_reason) == (text, finish_reason)
    assert bundle(ran.outputs)["text/plain"] == text + note


@pytest.mark.parametrize("server", ["stream_error=4"], indirect=True)
def test_an_error_within_the_stream_keeps_its_text_and_fails(notebook: Notebook) -> None:
    """The partial answer has the finish_reason error and a note says that the stream failed."""
    ran = notebook.run("%%skytells_chat -o part\none two three four five six")
    assert isinstance(ran.error, StreamError)
    assert notebook.shell.user_ns["part"].finish_reason == "error"
    text = bundle(ran.outputs)["text/plain"]
    assert text.startswith(ran.error.partial.rstrip())
    assert "[error: the stream failed; what arrived is above]" in text


@pytest.mark.parametrize("server", ["status=429"], indirect=True)
def test_an_error_of_the_service_is_one_block_and_no_output(notebook: Notebook) -> None:
    """The cell fails with what happened and what to do, without frames, and without output that looks like success."""
    ran = notebook.run("%%skytells_chat -o part\nHello")
    assert isinstance(ran.error, RateLimitError)
    assert ran.outputs == []
    assert "part" not in notebook.shell.user_ns
    shown = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    assert len(shown) == 2
    assert shown[0].startswith("RateLimitError: ")
    assert ran.error.request_id in shown[0]
    assert shown[1] == "Wait 1 s, then run the cell again."


def test_an_interrupt_keeps_the_text_and_fails_in_one_line(notebook: Notebook, echo: Echo) -> None:
    """Ctrl-C closes the connection, keeps what arrived on the page and in the variable, and the cell fails."""
    echo.hold_after = 3
    notebook.run("%config SkytellsMagics.stream = 'live'")
    interrupter = interrupt_when(echo.held, lambda: getattr(notebook.shell.display_pub, "outputs", None))
    ran = notebook.run("%%skytells_chat -o part\none two three four five")
    interrupter.join(60)
    echo.released.set()
    assert isinstance(ran.error, Interrupted)
    part = notebook.shell.user_ns["part"]
    assert part is notebook.shell.user_ns["_sky"]
    assert part.finish_reason == "interrupted"
    assert "one two three ".startswith(part.text)
    assert part.text
    assert ran.outputs[-1].data["text/plain"] == f"{part.text}\n\n[interrupted: what arrived is above]"
    assert "Interrupted" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert echo.stopped.wait(30)


def test_an_interrupt_before_the_first_word_is_kept_too(notebook: Notebook, echo: Echo) -> None:
    """Without any text the answer in the variable is still marked as interrupted."""
    echo.hold_after = 0
    interrupter = interrupt_when(echo.held)
    ran = notebook.run("%%skytells_chat --no-stream\none two")
    interrupter.join(60)
    echo.released.set()
    assert isinstance(ran.error, Interrupted)
    assert notebook.shell.user_ns["_sky"].finish_reason == "interrupted"
    assert bundle(ran.outputs)["text/plain"] == "[interrupted: nothing had arrived]"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%skytells_chat\n   \n", "the prompt is empty"),
        ("%%skytells_chat --color red\nHi", "'--color' is not an option"),
        ("%%skytells_chat what is this\nHi", "'what' is not an option"),
        ("%%skytells_chat -t hot\nHi", "must be a number, got 'hot'"),
        ("%%skytells_chat -v missing\n{{missing}}", "-v missing: there is no variable of this name"),
        ("%%skytells_chat -v there\nHi", "-v there: the prompt has no {{there}}"),
        ("%skytells_chat", "the prompt goes below the line"),
    ],
)
def test_a_wrong_line_is_a_usage_error_and_sends_nothing(
    notebook: Notebook, echo: Echo, cell: str, message: str
) -> None:
    """A mistake on the line is named in one line before anything is sent."""
    notebook.shell.user_ns["there"] = 1
    ran = notebook.run(cell)
    assert isinstance(ran.error, MagicUsageError)
    assert message in str(ran.error)
    assert "\n" not in str(ran.error)
    assert echo.messages == []


def test_help_lists_the_options_and_sends_nothing(notebook: Notebook, echo: Echo) -> None:
    """-h works in the cell and as a line."""
    for source in ("%%skytells_chat -h\nHi", "%skytells_chat --help"):
        ran = notebook.run(source)
        assert ran.error is None
        assert "--max-tokens N" in ran.stdout
    assert echo.messages == []


def test_without_a_key_the_cell_fails_with_both_ways_out(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is one block that names the key and the local Skytells."""
    for name in ("SKYTELLS_API_KEY", "SKYTELLS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    ran = shell.run("%%skytells_chat\nHello")
    assert isinstance(ran.error, MissingKeyError)
    assert "SKYTELLS_API_KEY" in ran.stdout + ran.stderr
    assert "local=True" in ran.stdout + ran.stderr


@pytest.mark.parametrize("magic", ["chat", "respond"])
def test_a_kept_answer_is_shown_and_not_asked_for_again(notebook: Notebook, echo: Echo, magic: str) -> None:
    """--cache: the second time nothing is sent, and what is shown and stored is the same."""
    first = notebook.run(f"%%skytells_{magic} --cache -o one\nHello there")
    asked = len(echo.messages)
    second = notebook.run(f"%%skytells_{magic} --cache -o two\nHello there")
    assert first.error is second.error is None
    assert len(echo.messages) == asked
    names = notebook.shell.user_ns
    assert str(names["two"]) == str(names["one"]) == "Hello there"
    assert type(names["two"]) is type(names["one"])
    assert set(names["two"].safety.findings) == set(names["one"].safety.findings)
    for name in ("finish_reason", "tokens", "model", "request_id"):
        assert getattr(names["two"], name) == getattr(names["one"], name)
    assert sessions.current().totals.requests == 1
    assert [output._repr_mimebundle_() for output in first.outputs] == [
        output._repr_mimebundle_() for output in second.outputs
    ]


@pytest.mark.parametrize(("magic", "api"), [("chat", "chat"), ("respond", "responses")])
def test_a_column_finds_what_a_cell_paid_for(notebook: Notebook, echo: Echo, magic: str, api: Any) -> None:
    """The magic and df.skytells.complete keep an answer under the same key."""
    notebook.run(f"%%skytells_{magic} --cache --max-tokens 50 -t 0\nHello there")
    asked = len(echo.messages)
    frame = pd.DataFrame({"x": ["there"]}).skytells.complete(
        "Hello {x}", api=api, max_tokens=50, temperature=0, progress=False
    )
    assert frame["completion"].tolist() == ["Hello there"]
    assert len(echo.messages) == asked


@pytest.mark.parametrize("option", ["--conversation c", "--store"])
def test_an_answer_is_kept_here_or_at_the_service(notebook: Notebook, echo: Echo, option: str) -> None:
    ran = notebook.run(f"%%skytells_respond --cache {option}\nHello there")
    assert f"{option.split()[0]} keeps the answer at the service, and --cache keeps it here" in str(ran.error)
    assert echo.messages == []


def test_pictures_are_links_until_the_setting_allows_them(notebook: Notebook) -> None:
    """Off by default; when enabled, the image is shown and still no other markup."""
    ask = "%%skytells_chat\n![chart](https://a.test/c.png) <img src=https://a.test/d.png>"
    assert "<img" not in notebook.run(ask).outputs[0].data["text/html"]
    assert notebook.run("%config SkytellsMagics.remote_images = True").error is None
    assert re.findall(r'<img src="([^"]*)"', notebook.run(ask).outputs[0].data["text/html"]) == ["https://a.test/c.png"]


REASONED = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "reasoning_content": "First **a**."}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "\n\nThen b."}}]},
    {"choices": [{"index": 0, "delta": {"content": "<th"}}]},
    {"choices": [{"index": 0, "delta": {"content": "ink>Last c.</think>\n\nThe "}}]},
    {"choices": [{"index": 0, "delta": {"content": "answer."}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]


@pytest.mark.parametrize("options", ["", " --no-stream"])
def test_reasoning_is_folded_and_is_no_part_of_the_answer(shell: Notebook, options: str) -> None:
    """Beside the text or in it: shown above the answer, not in variables, not sent back, and shown again from cache."""
    asked: list[dict[str, Any]] = []

    def script(exchange: Exchange) -> None:
        asked.append(exchange.json)
        if exchange.json.get("stream"):
            exchange.begin()
            for body in (*REASONED, "[DONE]"):
                exchange.event(body)
        else:
            text = "<think>Last c.</think>\n\nThe answer."
            exchange.reply(completion(text, reasoning_content="First **a**.\n\nThen b."))

    with scripted(script):
        runs = [
            shell.run(f"%%skytells_chat{options} --cache -o answer\nWhy?"),
            shell.run(f"%%skytells_chat{options} --cache -o again\nWhy?"),
        ]
        for turn in ("One", "Two"):
            assert shell.run(f"%%skytells_chat{options} --conversation c\n{turn}").error is None
    names = shell.shell.user_ns
    for name in ("answer", "again", "_sky"):
        assert str(names[name]) == "The answer."
        assert "Then b" not in names[name].model_dump_json()
        assert "Last c" not in names[name].model_dump_json()
    assert len(asked) == 3
    assert [message["content"] for message in asked[-1]["messages"]] == ["One", "The answer.", "Two"]
    for ran in runs:
        reasoning, answer = (output.data for output in ran.outputs)
        assert reasoning["text/html"].startswith('<details class="skytells-reasoning"><summary>Reasoning</summary>')
        assert "<strong>a</strong>" in reasoning["text/html"]
        assert reasoning["text/plain"] == "> Reasoning\n>\n> First **a**.\n>\n> Then b.\n>\n> Last c."
        assert "think" not in answer["text/html"] + answer["text/plain"]
    assert [output.data for output in runs[0].outputs] == [output.data for output in runs[1].outputs]


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("%skytells_chat what is 2+2?", "what is 2+2?"),
        ("%%skytells_chat what is Python?", "what is Python?"),
        ("%skytells_chat -m gpt-5 --max-tokens=9 it's {me} and $you: \"say 'hi'\"", "it's {me} and $you: \"say 'hi'\""),
        ("%%skytells_chat -s 'Be brief.' Hello  there\n\n", "Hello  there"),
        ("%skytells_chat -- -5 + 3 = ?", "-5 + 3 = ?"),
        ("%skytells_respond don't", "don't"),
        ("%skytells_chat -m gpt-5 'tis 5 o'clock, is it?", "'tis 5 o'clock, is it?"),
        ("%skytells_chat -m gpt-5 'tis late", "'tis late"),
        ("x = 1\n%skytells_chat Hello there", "Hello there"),
        ("%skytells_chat -v x {{ x }} again", "1 again"),
    ],
)
def test_a_question_on_the_line_is_asked(notebook: Notebook, echo: Echo, source: str, prompt: str) -> None:
    """With one percent sign or two, after the options, with its quotes as they are."""
    notebook.shell.user_ns["x"] = 1
    assert notebook.run(source).error is None
    assert str(notebook.shell.user_ns["_sky"]) == prompt


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "%skytells_chat",
            "the prompt goes below the line, in a cell that begins with %%skytells_chat, or after %skytells_chat",
        ),
        ("%skytells_chat -5 + 3", "'-5' is not an option; the prompt goes below the line, or after --"),
        ("%%skytells_chat what is\nthis", "'what' is not an option; the prompt goes below the line"),
    ],
)
def test_a_line_that_asks_nothing_says_how_to_ask(notebook: Notebook, source: str, said: str) -> None:
    """Each message names a form that works."""
    ran = notebook.run(source)
    assert isinstance(ran.error, MagicUsageError)
    assert said in str(ran.error)


def test_help_of_a_cell_needs_no_body(notebook: Notebook) -> None:
    assert "--max-tokens" in notebook.run("%%skytells_chat -h").stdout
