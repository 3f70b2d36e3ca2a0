"""The commands of %skytells about this session: safety, config, and the help of each."""

from __future__ import annotations

import pytest
from magic_service import KEY, Notebook, Ran

import skytells_nb.session as sessions
from skytells_nb.magics.command_arguments import COMMANDS, CommandArguments, parse_command_line


def table(ran: Ran) -> list[str]:
    assert ran.error is None
    lines: list[str] = ran.outputs[-1].data["text/plain"].splitlines()
    return lines


def test_every_word_has_help_in_the_cell(notebook: Notebook) -> None:
    """-h and --help print what the word does, and do nothing else."""
    before = sessions.current()
    for word in COMMANDS:
        for option in ("-h", "--help"):
            ran = notebook.run(f"%skytells {word} {option}")
            assert ran.error is None
            assert f"%skytells {word}" in ran.stdout
            assert ran.outputs == []
    assert sessions.current() is before


def test_help_alone_lists_the_words(notebook: Notebook) -> None:
    """As a word and as an option."""
    listed = notebook.run("%skytells help").stdout
    assert notebook.run("%skytells --help").stdout == listed
    assert all(f"%skytells {word}" in listed for word in COMMANDS)
    assert "%%skytells_respond -h" in listed


def test_a_word_and_its_parts_are_read() -> None:
    """Quotes hold a name of several words together."""
    expected = CommandArguments("conversations", "export", "my talk", "talk.json", force=True)
    assert parse_command_line("conversations export 'my talk' talk.json --force") == expected
    assert parse_command_line("") == CommandArguments("status")
    assert parse_command_line("conversations") == CommandArguments("conversations")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("conversations forget", "use one of list, reset, export"),
        ("conversations reset", "name the conversation: %skytells conversations reset NAME"),
        ("conversations list talk", "takes no argument 'talk'"),
        ("conversations reset a b", "and no argument 'b'"),
        ("conversations export a b c", "takes no argument 'c'"),
        ("usage --all", "takes no argument '--all'"),
        ("usage 'open", "close the quote"),
    ],
)
def test_a_mistake_names_what_can_be_said(notebook: Notebook, line: str, message: str) -> None:
    """One line, and the cell fails."""
    ran = notebook.run(f"%skytells {line}")
    assert message in str(ran.error)
    assert "Traceback" not in ran.stdout + ran.stderr


def test_verdicts_of_the_session_are_counted(notebook: Notebook) -> None:
    """By place, category and degree, the blocked and the unchecked beside them."""
    assert "nothing above safe" in table(notebook.run("%skytells safety"))[-1]
    notebook.run("%%skytells_chat\nviolence:low fight")
    notebook.run("%%skytells_respond\nviolence:low fight")
    notebook.run("%%skytells_chat\nHello")
    _, _, counts, _, _, _, *rows = table(notebook.run("%skytells safety"))
    assert counts.split() == ["3", "0", "0", "0"]
    assert [row.split() for row in rows] == [["answer", "violence", "2", "low"], ["prompt", "violence", "2", "low"]]


@pytest.mark.parametrize("server", ["block_prompt"], indirect=True)
def test_a_blocked_prompt_is_counted(notebook: Notebook) -> None:
    """A blocked prompt has a safety result without an answer."""
    notebook.run("%%skytells_chat\nHello")
    _, _, counts, _, _, _, *rows = table(notebook.run("%skytells safety"))
    assert counts.split() == ["1", "1", "1", "0"]
    assert rows[0].split() == ["prompt", "violence", "1", "high", "filtered"]


@pytest.mark.parametrize("magic", ["%%skytells_chat", "%%skytells_respond"])
def test_the_verdict_is_said_where_it_is_asked_for(notebook: Notebook, magic: str) -> None:
    """--safety also reports that everything is safe, and what was checked."""
    plain = notebook.run(f"{magic}\nHello").outputs[-1].data["text/plain"]
    asked = notebook.run(f"{magic} --safety\nHello").outputs[-1].data["text/plain"]
    assert "Safety" not in plain
    assert "[Safety: safe; " in asked
    assert "in the prompt; " in asked
    assert "violence" in asked


def test_config_shows_values_and_where_they_come_from(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, server: object
) -> None:
    """connect(), an environment variable, %config and the defaults are distinguished; the key is never shown."""
    monkeypatch.setenv("SKYTELLS_MODEL", "gpt-5")
    base_url = sessions.current().client.base_url
    sessions.connect(KEY, base_url=base_url, max_retries=3)
    notebook.run("%config SkytellsMagics.system = 'In French.'")
    ran = notebook.run("%skytells config")
    rows = {line.split("  ")[0].strip(): line.split() for line in table(ran)}
    assert rows["max_retries"] == ["max_retries", "3", "connect()"]
    assert rows["timeout"] == ["timeout", "600.0", "default"]
    assert rows["system"][1:] == ["In", "French.", "%config", "or", "a", "configuration", "file"]
    assert rows["stream"] == ["stream", "auto", "default"]
    models = [line.split() for line in table(ran) if line.startswith("model ")]
    assert models == [["model", "gpt-5", "SKYTELLS_MODEL"], ["model", "default"]]
    assert KEY not in str(ran.outputs[-1].data)


def test_config_names_the_settings_file(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A value of the file is distinguished from one of the environment."""
    file = tmp_path_factory.mktemp("settings") / "config.toml"
    file.write_text("max_in_flight = 7\n")
    monkeypatch.setenv("SKYTELLS_CONFIG", str(file))
    sessions.connect(KEY, base_url=sessions.current().client.base_url)
    rows = [line.split() for line in table(notebook.run("%skytells config"))]
    assert ["max_in_flight", "7", str(file)] in rows
