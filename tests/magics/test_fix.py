"""``%skytells fix``: what is sent of an error, what is not, and what becomes of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from magic_service import Echo, Notebook, completion, scripted
from serving import Exchange

from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.command_arguments import COMMANDS, EXAMPLES, command_help, parse_command_line
from skytells_nb.magics.commands import MAX_SOURCE_LINES, mask_secrets

SECRETS = {
    "api_key = 'abc'": "abc",
    'API_KEY="short"': "short",
    'client = Client(token="t0p", other=1)': "t0p",
    "headers = {'Authorization': 'Bearer abcdef123456'}": "abcdef123456",
    "curl -H 'Authorization: Bearer abcdef123456'": "abcdef123456",
    "os.environ['OPENAI_API_KEY'] = 'sk-x'": "sk-x",
    "os.environ.setdefault('DB_PASSWORD', 'hunter2')": "hunter2",
    "engine = connect('postgresql://me:pw@host/db')": "me:pw",
    "x = 'sk-abcdefghijklmnopqrstuvwx'": "sk-abcdefghijklmnopqrstuvwx",
    "x = 'ghp_0123456789abcdefABCDEF0123456789abcd'": "ghp_0123456789",
    "%env SECRET_TOKEN=abcdef123": "abcdef123",
    "jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def'": "eyJzdWIi",
    "password: hunter2hunter2": "hunter2hunter2",
    'password: str | None = "hunter2"': "hunter2",
    'if (token := "hunter2"): pass': "hunter2",
    'secret = rb"""one\nhunter2"""': "hunter2",
    'token = ("hun"\n    "ter2")': "ter2",
    "token = 'hun' + 'ter2'": "ter2",
    "password = os.getenv('PW', 'hunter2')": "hunter2",
    "password = given or 'hunter2'": "hunter2",
    "requests.get(url, auth=('bob', 'hunter2'))": "hunter2",
    "smtp.login('bob@a.test', 'hunter2')": "hunter2",
    "user.set_password('hunter2')": "hunter2",
    "DB_PASS = 'hunter2'": "hunter2",
    'dsn = "dbname=x user=bob password=hunter host=h"': "hunter",
    'dsn = "Server=x;Uid=bob;Pwd=abc;"': "abc",
    "connect('redis://:hunter2@host')": "hunter2",
    "connect('amqp://bob:hun@ter2@host/x')": "ter2",
    "!curl -u bob:hunter2 https://a.test": "hunter2",
    "headers = {'Cookie': 'session=hunter2'}": "hunter2",
    "x = '''-----BEGIN EC PRIVATE KEY-----\nMHcCAQ+x\n-----END EC PRIVATE KEY-----'''": "MHcCAQ",
    "x = 'Account=a;AccountKey=Eby8vdM02x/NOcq=='": "Eby8",
    "post('https://hooks.slack.com/services/T0/B0/XyZ')": "XyZ",
}


@pytest.mark.parametrize(("text", "secret"), SECRETS.items())
def test_secrets_are_masked(text: str, secret: str) -> None:
    """By their names and by their forms; the code around them stays."""
    masked = mask_secrets(text)
    assert secret not in masked
    assert "[masked]" in masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "tokens = text.split()",
        "max_tokens=60, x",
        "for token in tokens: print(token)",
        "key = os.environ['API_KEY']",
        "x == y",
        "tokens = text.split(',')",
        "if token == 'end': break",
        "tokenizer = 'gpt2'",
        "assert token, 'no token was given'",
        "f(password=password, user='bob')",
        "def login(user, password): ...",
        "author = 'Bob'; bypass = 'no'; plot(key='name')",
        "open('https://a.test:8080/b@c')",
    ],
)
def test_code_without_secrets_stays(text: str) -> None:
    assert mask_secrets(text) == text


def test_an_error_is_explained_and_the_cell_put_below(shell: Notebook) -> None:
    """The frames of the notebook are sent, and shown; nothing of other cells, files or variables; nothing is run."""
    asked: list[dict[str, Any]] = []

    def script(exchange: Exchange) -> None:
        asked.append(exchange.json)
        text = "The key is missing.\n\n```python\nhelper({'a': 1})\n```"
        exchange.reply(completion(text))

    with scripted(script):
        shell.run("unrelated = 'nothing of this cell'")
        shell.run("import json\ndef helper(d):\n    api_key = 'top secret'\n    return d['a']")
        failed = shell.run("hidden = 12345 * 7\nhelper({'b': hidden})")
        assert isinstance(failed.error, KeyError)
        ran = shell.run("%skytells fix -m gpt-5")
    assert ran.error is None
    (body,) = asked
    assert body["model"] == "gpt-5"
    system, user = (message["content"] for message in body["messages"])
    assert "```python" in system
    for part in (
        "KeyError: 'a'",
        "def helper(d):",
        "api_key = '[masked]'",
        "helper({'b': hidden})",
        "line 4, in helper",
    ):
        assert part in user
    for part in ("top secret", "unrelated", "86415"):
        assert part not in str(body)
    sent, answer = (output.data for output in ran.outputs)
    assert user in sent["text/plain"]
    assert sent["text/html"].startswith("<details><summary>What is sent")
    assert "The key is missing." in answer["text/plain"]
    assert "read it before you run it" in answer["text/plain"]
    assert shell.shell.rl_next_input == "helper({'a': 1})" if hasattr(shell.shell, "rl_next_input") else True


def test_a_secret_that_the_error_quotes_is_masked(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that it has in another cell, a variable or the environment; a word of letters stays."""
    monkeypatch.setenv("SOME_TOKEN", "from-env-1")
    asked: list[str] = []

    def script(exchange: Exchange) -> None:
        asked.append(exchange.json["messages"][-1]["content"])
        exchange.reply(completion("Fine."))

    with scripted(script):
        shell.run("db_pw = 'hun7er-2'\npad_token = 'values'\napi_secret = ''.join(['varia', 'ble-3'])")
        shell.run("import os\nraise OSError(db_pw, os.environ['SOME_TOKEN'], api_secret, 'no values')")
        assert shell.run("%skytells fix").error is None
    assert asked[0].count("[masked]") == 3
    for secret in ("hun7er-2", "from-env-1", "variable-3"):
        assert secret not in asked[0]
    assert "no values" in asked[0]


def test_a_frame_of_a_file_has_no_source_in_it(shell: Notebook) -> None:
    """An error inside a library: the cell that called it is sent, the library's source is not."""
    asked: list[str] = []

    def script(exchange: Exchange) -> None:
        asked.append(exchange.json["messages"][-1]["content"])
        exchange.reply(completion("Fine."))

    with scripted(script):
        shell.run("import json\njson.loads('{')")
        assert shell.run("%skytells fix").error is None
        shell.run("for x in [1]\n    pass")
        assert shell.run("%skytells fix").error is None
        shell.run("\n".join([*(f"line_{n} = {n}" for n in range(MAX_SOURCE_LINES + 30)), "1 / 0"]))
        assert shell.run("%skytells fix").error is None
    assert "json.loads('{')" in asked[0]
    assert "outside of this notebook" in asked[0]
    assert "raw_decode" not in asked[0]
    assert "SyntaxError" in asked[1]
    assert "for x in [1]" in asked[1]
    assert "more lines" in asked[2]
    assert len(asked[2]) < 8_000


def test_without_an_error_nothing_is_sent(notebook: Notebook, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("last_type", "last_value", "last_traceback"):
        monkeypatch.delattr(f"sys.{name}", raising=False)
    ran = notebook.run("%skytells fix")
    assert isinstance(ran.error, MagicUsageError)
    assert "no cell has failed" in str(ran.error)
    assert echo.messages == []


def test_help_has_an_example_of_each_word(notebook: Notebook) -> None:
    """Each example is a line that parses, and the end says what to try next."""
    shown = notebook.run("%skytells help").stdout
    assert set(EXAMPLES) == set(COMMANDS)
    for word, example in EXAMPLES.items():
        assert example in shown
        assert parse_command_line(example.removeprefix("%skytells")).command == word
        if word != "cache":
            assert f"Example: {example}" in command_help(word) or word == "help"
    assert "Try next" in shown
    assert "--force" in notebook.run("%skytells help conversations").stdout
    assert "export FILE" in notebook.run("%skytells help cache").stdout
    assert "use one of" in str(notebook.run("%skytells help me").error)
