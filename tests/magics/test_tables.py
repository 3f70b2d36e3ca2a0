"""%skytells in a real shell, against the local server."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from magic_service import KEY, Notebook, Ran

import skytells_nb.session as sessions
from skytells_nb.local import LocalServer
from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.command_arguments import COMMANDS
from skytells_nb.magics.tables import Table, models_table
from skytells_nb.types.models import Model


def text(ran: Ran) -> str:
    assert ran.error is None
    assert len(ran.outputs) == 1
    data = ran.outputs[0].data
    assert set(data) == {"text/html", "text/plain"}
    shown: str = data["text/plain"]
    return shown


@pytest.mark.parametrize("line", ["%skytells", "%skytells status"])
def test_status_names_the_connection_and_where_the_usage_is(notebook: Notebook, server: LocalServer, line: str) -> None:
    """Origin, whether there is a key and the models; what was spent has a command of its own."""
    notebook.run("%%skytells_chat\nHello there")
    shown = text(notebook.run(line))
    assert server.base_url.removesuffix("/v1") in shown
    assert "API key" in shown
    assert "found" in shown
    assert sessions.current().settings.model in shown
    assert sessions.current().settings.embedding_model in shown
    assert "%skytells usage" in shown
    assert "Used in this session" in text(notebook.run("%skytells usage"))


def test_the_key_never_shows(notebook: Notebook) -> None:
    """No word of %skytells, no setting and no error holds the key."""
    notebook.run("%%skytells_chat\nHello there")
    quiet = [word for word in COMMANDS if word not in ("connect", "local")]
    for source in (*(f"%skytells {word}" for word in quiet), "%config SkytellsMagics"):
        ran = notebook.run(source)
        assert KEY not in ran.stdout + ran.stderr + repr([o.data for o in ran.outputs])


def test_without_a_key_the_status_says_what_to_do(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the state of things does not fail; it names both ways out."""
    for name in ("SKYTELLS_API_KEY", "SKYTELLS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    shown = text(shell.run("%skytells"))
    assert "not found" in shown
    assert "SKYTELLS_API_KEY" in shown
    assert "local" in shown


def test_usage_counts_by_model(notebook: Notebook) -> None:
    """Requests, tokens and cost are listed by model and together."""
    notebook.run("%%skytells_chat -m gpt-5\nHello there")
    notebook.run("%%skytells_chat\nHello there")
    rows = [line.split() for line in text(notebook.run("%skytells usage")).splitlines()[2:]]
    assert [row[:4] for row in rows] == [
        ["deepbrain-router", "1", "7", "2"],
        ["gpt-5", "1", "7", "2"],
        ["all", "2", "14", "4"],
    ]
    assert all(row[4].startswith("$") for row in rows)


def test_models_are_listed_with_prices(notebook: Notebook) -> None:
    """The catalog as a table, a price or the word unknown in each row."""
    lines = text(notebook.run("%skytells models")).splitlines()
    assert lines[1].startswith("model")
    assert len(lines) > 2
    assert all("$" in line or "unknown" in line for line in lines[2:])


def test_an_unknown_word_lists_the_words(notebook: Notebook) -> None:
    """A misspelled command is a usage error that lists the commands."""
    ran = notebook.run("%skytells modles")
    assert isinstance(ran.error, MagicUsageError)
    assert all(word in str(ran.error) for word in COMMANDS)
    assert isinstance(notebook.run("%skytells status now").error, MagicUsageError)


def test_help_names_every_word(notebook: Notebook) -> None:
    """%skytells help lists each word with what it does."""
    shown = notebook.run("%skytells help").stdout
    assert all(f"%skytells {word}" in shown for word in COMMANDS if word != "status")


def test_connect_connects_again_from_the_environment(
    notebook: Notebook, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new session takes the place of the old one and its status is shown."""
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)
    monkeypatch.setenv("SKYTELLS_BASE_URL", server.base_url)
    monkeypatch.setenv("SKYTELLS_CACHE", "off")
    before = sessions.current()
    assert "Skytells connection" in text(notebook.run("%skytells connect"))
    assert sessions.current() is not before
    before.close()


class Cells(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert dict(attrs).keys() <= {"class", "scope"}


def test_a_table_escapes_what_it_shows() -> None:
    """A catalog cannot bring HTML or escape sequences onto the page or the terminal."""
    hostile = Model(name="x", namespace="<script>\x1b[31mx</script>", type='"><img src=x onerror=y>')
    table = models_table([hostile], "<b>origin", lambda name: None)
    assert set(Cells(table.html()).tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert "\x1b" not in table.text()


def test_a_table_is_aligned_in_text() -> None:
    """Columns line up, one row a line, whatever the cells hold."""
    table = Table("Title", ("a", "b"), (("long\nword", "1"), ("x", "2")))
    assert table.text().splitlines() == ["Title", "a          b", "long word  1", "x          2"]
