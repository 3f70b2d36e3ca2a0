"""Conversations by name, over both APIs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from magic_service import Echo, Notebook, Ran, completion, interrupt_when, scripted
from serving import Exchange

import skytells_nb.session as sessions
from skytells_nb.errors import Interrupted, InvalidResponseError, SkytellsError
from skytells_nb.magics.chat_arguments import MagicUsageError

TALK = "--conversation talk"
MAGICS = pytest.mark.parametrize("magic", ["%%skytells_chat", "%%skytells_respond"])


def shown(ran: Ran) -> str:
    assert ran.error is None
    text: str = ran.outputs[-1].data["text/plain"]
    return text


@MAGICS
def test_a_turn_goes_on_from_the_ones_before(notebook: Notebook, echo: Echo, magic: str) -> None:
    """The model sees every turn in order, whichever side remembers them."""
    for prompt in ("one", "two", "three"):
        assert notebook.run(f"{magic} {TALK}\n{prompt}").error is None
    assert [m["content"] for m in echo.messages[-1]] == ["one", "one", "two", "two", "three"]
    assert [m["role"] for m in echo.messages[-1]] == ["user", "assistant", "user", "assistant", "user"]


@MAGICS
def test_the_system_message_belongs_to_the_first_turn(notebook: Notebook, echo: Echo, magic: str) -> None:
    """It holds for the whole conversation, once; another one is refused before anything is sent."""
    notebook.run(f"{magic} {TALK} -s 'Be brief.'\none")
    notebook.run(f"{magic} {TALK}\ntwo")
    notebook.run(f"{magic} {TALK} -s 'Be brief.'\nthree")
    for messages in echo.messages:
        assert [m["content"] for m in messages if m["role"] == "system"] == ["Be brief."]
    asked = len(echo.messages)
    ran = notebook.run(f"{magic} {TALK} -s 'Be long.'\nfour")
    assert isinstance(ran.error, MagicUsageError)
    assert "%skytells conversations reset talk" in str(ran.error)
    assert len(echo.messages) == asked


def test_a_conversation_keeps_its_model(notebook: Notebook) -> None:
    """What -m named in a turn holds for the next."""
    notebook.run(f"%%skytells_chat {TALK} -m gpt-5\none")
    notebook.run(f"%%skytells_chat {TALK}\ntwo")
    assert sessions.current().totals.by_model.keys() == {"gpt-5"}


def test_conversations_do_not_mix(notebook: Notebook, echo: Echo) -> None:
    """A name is one conversation of one API; a cell without a name is not part of one."""
    notebook.run(f"%%skytells_chat {TALK}\none")
    notebook.run("%%skytells_chat --conversation other\ntwo")
    notebook.run("%%skytells_chat\nthree")
    assert [len(messages) for messages in echo.messages] == [1, 1, 1]
    ran = notebook.run(f"%%skytells_respond {TALK}\nfour")
    assert isinstance(ran.error, MagicUsageError)
    assert "%%skytells_chat; choose another name" in str(ran.error)


@MAGICS
def test_an_interrupted_turn_is_not_kept(notebook: Notebook, echo: Echo, magic: str) -> None:
    """Neither half of it is sent with the next turn."""
    notebook.run(f"{magic} {TALK}\none")
    echo.hold_after = 1
    interrupter = interrupt_when(echo.held)
    ran = notebook.run(f"{magic} {TALK}\ntwo words more")
    interrupter.join(60)
    echo.released.set()
    assert isinstance(ran.error, Interrupted)
    assert "The conversation talk continues without this turn." in ran.outputs[-1].data["text/plain"]
    echo.hold_after = None
    notebook.run(f"{magic} {TALK}\nthree")
    assert [m["content"] for m in echo.messages[-1]] == ["one", "one", "three"]


@pytest.mark.parametrize("server", ["stream_error=3", "stream_cut_after=4", "filter_completion=default"], indirect=True)
def test_a_failed_or_withheld_turn_is_not_kept(notebook: Notebook) -> None:
    """A first turn that fails leaves no conversation at all."""
    notebook.run(f"%%skytells_chat {TALK}\none two three four five six seven")
    assert "none yet" in shown(notebook.run("%skytells conversations"))


def test_an_object_that_does_not_fit_is_no_turn(notebook: Notebook) -> None:
    """The cell failed, and the conversation goes on without it."""
    ran = notebook.run(f"%%skytells_chat {TALK} --json\nno object")
    assert isinstance(ran.error, InvalidResponseError)
    assert "none yet" in shown(notebook.run("%skytells conversations"))


def test_they_are_listed_reset_and_unknown_ones_named(notebook: Notebook, echo: Echo) -> None:
    """Name, magic, model, turns and system message; a reset removes it."""
    notebook.run(f"%%skytells_chat {TALK} -s 'Be brief.'\none")
    notebook.run(f"%%skytells_chat {TALK}\ntwo")
    row = shown(notebook.run("%skytells conversations")).splitlines()[-1]
    assert row.split() == ["talk", "%%skytells_chat", "deepbrain-router", "2", "Be", "brief."]
    assert "none yet" in shown(notebook.run("%skytells conversations reset talk"))
    notebook.run(f"%%skytells_chat {TALK}\nthree")
    assert [m["content"] for m in echo.messages[-1]] == ["three"]
    for line in ("reset other", "export other"):
        ran = notebook.run(f"%skytells conversations {line}")
        assert isinstance(ran.error, MagicUsageError)
        assert "there is no conversation 'other'; existing conversations: talk" in str(ran.error)


@MAGICS
def test_an_export_is_a_list_of_messages(notebook: Notebook, magic: str) -> None:
    """Into the variable of its name or another; the list is the reader's own."""
    notebook.run(f"{magic} {TALK} -s 'Be brief.'\none")
    expected = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one"},
    ]
    notebook.run("%skytells conversations export talk")
    notebook.run("%skytells conversations export talk other")
    names = notebook.shell.user_ns
    assert names["talk"] == names["other"] == expected
    names["talk"].clear()
    notebook.run("%skytells conversations export talk again")
    assert names["again"] == expected


def test_an_export_to_a_file_replaces_nothing_unasked(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there needs --force; a name that is neither variable nor file is refused."""
    monkeypatch.chdir(tmp_path)
    notebook.run(f"%%skytells_chat {TALK}\nGrüße")
    assert notebook.run("%skytells conversations export talk talk.json").error is None
    assert json.loads(Path("talk.json").read_text("utf-8"))[0] == {"role": "user", "content": "Grüße"}
    notebook.run(f"%%skytells_chat {TALK}\ntwo")
    assert isinstance(notebook.run("%skytells conversations export talk talk.json").error, MagicUsageError)
    assert len(json.loads(Path("talk.json").read_text("utf-8"))) == 2
    assert notebook.run("%skytells conversations export talk talk.json --force").error is None
    assert len(json.loads(Path("talk.json").read_text("utf-8"))) == 4
    for target in ("talk.txt", "missing/talk.json"):
        assert isinstance(notebook.run(f"%skytells conversations export talk {target}").error, MagicUsageError)


def test_a_kept_answer_is_of_the_whole_conversation(notebook: Notebook, echo: Echo) -> None:
    """--cache finds the same question after the same turns, and not after others."""
    for prompt in ("one", "two"):
        notebook.run(f"%%skytells_chat {TALK} --cache\n{prompt}")
    notebook.run("%skytells conversations reset talk")
    asked = len(echo.messages)
    notebook.run(f"%%skytells_chat {TALK} --cache\none")
    notebook.run(f"%%skytells_chat {TALK} --cache -o again\ntwo")
    assert (len(echo.messages), str(notebook.shell.user_ns["again"])) == (asked, "two")
    notebook.run("%%skytells_chat --cache\ntwo")
    assert len(echo.messages) == asked + 1


def test_conversations_are_the_sessions_own(notebook: Notebook) -> None:
    """A new session has no conversations: their ids belong to the previous account."""
    notebook.run(f"%%skytells_chat {TALK}\none")
    session = sessions.current()
    with sessions.connect("sk-other", base_url="http://127.0.0.1:9/v1", cache="off"):
        assert "none yet" in shown(notebook.run("%skytells conversations"))
    session.close()


def test_what_a_chat_sends_again_is_the_answer_that_was_shown(shell: Notebook) -> None:
    """The body of the second request holds the first turn as it was."""

    def script(exchange: Exchange) -> None:
        exchange.reply(completion(f"answer {len(exchange.json['messages'])}"))

    with scripted(script) as server:
        for prompt in ("one", "two"):
            assert shell.run(f"%%skytells_chat {TALK} --no-stream\n{prompt}").error is None
    assert [m["content"] for m in server.exchanges[1].json["messages"]] == ["one", "answer 1", "two"]


def test_a_conversation_that_the_service_forgot_says_what_to_do(shell: Notebook) -> None:
    """If the service has deleted a stored answer, the error says what to do."""
    body = {"error": {"message": "not found", "code": "previous_response_not_found", "error_id": "ENDPOINT_NOT_FOUND"}}
    part = {"type": "output_text", "text": "one"}
    whole = {"id": "resp_1", "status": "completed", "output": [{"type": "message", "content": [part]}]}

    def script(exchange: Exchange) -> None:
        if exchange.json.get("previous_response_id"):
            exchange.reply(body, 404)
        else:
            exchange.reply(whole)

    with scripted(script):
        shell.run(f"%%skytells_respond {TALK} --no-stream\none")
        ran = shell.run(f"%%skytells_respond {TALK} --no-stream\ntwo")
    assert isinstance(ran.error, SkytellsError)
    assert "%skytells conversations reset NAME" in ran.stdout + ran.stderr
