"""What strict parsers reject, read nevertheless: an answer is paid for, so one malformed member must not cost it.

JSON with unpaired surrogates, control characters or a byte-order mark is read; a member of a response that does not
fit its type is left out of the typed view, kept as it came in ``model_extra``, and reported once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pydantic
import pydantic_core

from skytells_nb.client.transport.body_forms import decode_single_bytes, decode_text, is_single_byte
from skytells_nb.error_bodies import read_error
from skytells_nb.errors import SkytellsWarning, warn
from skytells_nb.sanitize import quoted
from skytells_nb.types.chat import content_text, refusal_text
from skytells_nb.types.safety import RESULTS, results_by_category

M = TypeVar("M", bound=pydantic.BaseModel)
Path = tuple[Any, ...]

_log = logging.getLogger(__name__)

PAYLOAD = frozenset(("choices", "message", "delta", "content", "output", "data", "text"))
"""Members that hold the answer: a response without a readable one is not an answer."""
MAX_ROUNDS = 8
"""Rounds of validation: members that hide others show them in the next round."""
_INCOMPLETE = "\ufffd"
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", float: "a fraction", int: "a number"}


def load_json(content: bytes | str, content_type: str = "") -> Any:
    r"""Return parsed JSON, unpaired surrogates replaced; raises ValueError for what is not JSON.

    ``content_type`` may name the encoding of bytes that are not UTF-8.

    >>> load_json('{"a": "\\ud83d"}')
    {'a': '�'}
    """
    try:
        return pydantic_core.from_json(content)
    except ValueError:
        return SurrogateJoiner().join(load_raw_json(content, content_type), keep=False)


def load_raw_json(content: bytes | str, content_type: str = "") -> Any:
    """Return parsed JSON, in which texts may hold unpaired surrogates; raises ValueError for what is not JSON."""
    if isinstance(content, bytes):
        content = decode_text(content, content_type)
    try:
        return json.loads(content.strip("\ufeff\0 \t\r\n"), strict=False, parse_int=_number)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _number(digits: str) -> int | float:
    # Python refuses to convert thousands of digits.
    return int(digits) if len(digits) < 1000 else float(digits)


_FIRST_HALF = re.compile(
    "(?:[\ud800-\udbff]|[\udcc2-\udcdf]|[\udce0-\udcef][\udc80-\udcbf]?|[\udcf0-\udcf4][\udc80-\udcbf]{0,2})\\Z"
)
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte."""


class SurrogateJoiner:
    """Joins characters that two deltas of a stream split: surrogate pairs, and bytes of UTF-8 as surrogate escapes.

    Some services escape the halves of an emoji, and others the bytes of any character, or send those as they are, which
    ``ServerSentEvent.escaped`` has as escapes.
    """

    def __init__(self) -> None:
        self._held: dict[Path, str] = {}
        self._single_bytes: bool | None = None
        """Whether bytes above ASCII are characters by themselves, as in Latin-1; ``None`` until one is not UTF-8."""

    def join(self, value: Any, path: Path = (), *, keep: bool = True) -> Any:
        """Return parsed JSON with whole characters; with ``keep``, a first half waits for the next text there."""
        if isinstance(value, str):
            return self._text(value, path, keep)
        if isinstance(value, dict):
            return {name: self.join(member, (*path, name), keep=keep) for name, member in value.items()}
        if isinstance(value, list):
            return [
                self.join(item, (*path, item.get("index", n) if isinstance(item, dict) else n), keep=keep)
                for n, item in enumerate(value)
            ]
        return value

    def _text(self, text: str, path: Path, keep: bool) -> str:
        text = self._held.pop(path, "") + text
        # Pairs first: the second half of one may look like the escape of a byte.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if keep and not self._single_bytes and (half := _FIRST_HALF.search(text)) is not None:
            self._held[path] = half[0]
            text = text[: half.start()]
        content = _NO_BYTE.sub(_INCOMPLETE, text).encode("utf-8", "surrogateescape")
        try:
            whole = content.decode()
        except UnicodeDecodeError:
            if self._single_bytes is None:
                self._single_bytes = is_single_byte(content)
            return decode_single_bytes(content) if self._single_bytes else content.decode("utf-8", "replace")
        if not self._single_bytes and not whole.isascii():
            self._single_bytes = False
        return whole


def read_leniently(kind: type[M], body: Any, problem: pydantic.ValidationError, origin: str) -> M | None:
    """Return ``body`` as its type without the optional members that do not fit; ``None`` if others do not."""
    aside: list[tuple[Path, Any]] = []
    for _ in range(MAX_ROUNDS):
        if not _set_aside(body, problem, aside):
            return None
        try:
            model = kind.model_validate(body)
        except pydantic.ValidationError as next_problem:
            problem = next_problem
        else:
            for path, raw in aside:
                _keep(model, path, raw)
            _report(kind, [(path, raw) for path, raw in aside if not _is_read(path[-1], raw)], origin)
            return model
    return None


def _is_read(name: Any, raw: Any) -> bool:
    """Whether nothing of a value is lost although it does not fit."""
    return name == "content" or (name in RESULTS and results_by_category(raw) is not None)


def _set_aside(body: Any, problem: pydantic.ValidationError, aside: list[tuple[Path, Any]]) -> bool:
    """Repair or remove the members that failed validation; return whether every error could be dealt with."""
    errors = problem.errors(include_url=False, include_context=False)
    places = {_place(body, error["loc"]) for error in errors}
    # The last ones first: removing an entry of a list moves those after it.
    for path in sorted(places, key=_order, reverse=True):
        if not path:
            return False
        holder = body
        for step in path[:-1]:
            holder = holder[step]
        name = path[-1]
        if isinstance(holder, list):
            item, whole = holder[name], list(holder)
            if isinstance(item, str) and path[-2:-1] == ("content",):
                holder[name] = {"type": "output_text", "text": item}
            elif path[-2:-1] == ("data",) and item is None:
                # An input without a vector, in its place.
                holder[name] = {"index": name}
                continue
            elif path[-2:-1] == ("data",) or (len(holder) == 1 and path[-2:-1] and path[-2] in PAYLOAD):
                return False
            else:
                del holder[name]
            aside.append((path[:-1], whole))
            continue
        value = holder[name]
        if value is None:
            # A null counts as missing.
            del holder[name]
            continue
        # The name by which a program answers a tool call; other ids are only informative.
        repair = _as_text("id") if name == "id" and "tool_calls" in path else _REPAIRS.get(name)
        repaired = None if repair is None else repair(value)
        if repaired is None and name in PAYLOAD:
            return False
        aside.append((path, value))
        del holder[name]
        if repaired is not None:
            holder.update(repaired)
    return bool(places)


def _place(body: Any, location: Path) -> Path:
    """Return the path of the value that failed: as much of the location as the body has."""
    place: list[Any] = []
    for step in location:
        in_list = isinstance(body, list) and isinstance(step, int) and step < len(body)
        if not in_list and not (isinstance(body, dict) and step in body):
            break
        body = body[step]
        place.append(step)
    return tuple(place)


def _order(path: Path) -> list[tuple[int, str]]:
    return [(step, "") if isinstance(step, int) else (-1, str(step)) for step in path]


def _content(value: Any) -> dict[str, Any] | None:
    """Return what a message has in place of a ``content`` that is neither text nor a list of parts."""
    if isinstance(value, list):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in value]
        parts = [part for part in parts if isinstance(part, dict)]
        if not parts:
            return None
        refusal = refusal_text(parts)
        return {"content": _texts(parts), **({"refusal": refusal} if refusal else {})}
    if isinstance(value, str):
        return {"content": [{"type": "output_text", "text": value}]}
    if not isinstance(value, dict):
        return None
    text = value.get("text")
    return {"content": text if isinstance(text, str) else json.dumps(value, ensure_ascii=False)}


def _texts(parts: list[dict[str, Any]]) -> str:
    """Return the texts of parts, also where a part has its text in an object."""
    texts = [text.get("value") if isinstance(text := part.get("text"), dict) else text for part in parts]
    return str(content_text([{"text": text} for text in texts]))


def _text_value(value: Any) -> dict[str, Any] | None:
    text = value.get("value") if isinstance(value, dict) else None
    return {"text": text} if isinstance(text, str) else None


def _as_text(name: str) -> Callable[[Any], dict[str, Any] | None]:
    def repair(value: Any) -> dict[str, Any] | None:
        return None if isinstance(value, str) else {name: json.dumps(value, ensure_ascii=False)}

    return repair


def _type_of(value: Any) -> dict[str, Any] | None:
    """Return a finish reason that is an object with its type, or a list of one."""
    value = value[0] if isinstance(value, list) and value else value
    name = value.get("type") if isinstance(value, dict) else value
    return {"finish_reason": name} if isinstance(name, str) else None


def _as_list(name: str) -> Callable[[Any], dict[str, Any] | None]:
    def repair(value: Any) -> dict[str, Any] | None:
        return {name: [value]} if isinstance(value, dict) and value else None

    return repair


_REPAIRS: Mapping[str, Callable[[Any], dict[str, Any] | None]] = {
    "content": _content,
    "text": _text_value,
    "finish_reason": _type_of,
    "arguments": _as_text("arguments"),
    "call_id": _as_text("call_id"),
    "tool_calls": _as_list("tool_calls"),
    "prompt_filter_results": _as_list("prompt_filter_results"),
    "content_filters": _as_list("content_filters"),
}
"""What a member is read as where it does not fit: the answer itself, and what a program acts on."""


def _keep(model: Any, path: Path, raw: Any) -> None:
    """Keep a value in the ``model_extra`` of the innermost model that it belongs to, under its own name."""
    owner, name = model, ".".join(map(str, path))
    for at, step in enumerate(path):
        if isinstance(model, pydantic.BaseModel):
            owner, name = model, ".".join(map(str, path[at:]))
            model = getattr(model, str(step), None)
        else:
            with contextlib.suppress(LookupError, TypeError):
                model = model[step]
    if owner.__pydantic_extra__ is not None:
        owner.__pydantic_extra__[name] = raw


_reported: set[tuple[str, str, str]] = set()
_lock = threading.Lock()


def _report(kind: type[Any], aside: list[tuple[Path, Any]], origin: str) -> None:
    """Warn of members that do not fit, once for each member of a service."""
    new: list[str] = []
    with _lock:
        for path, raw in aside:
            name = ".".join(str(step) for step in path if not isinstance(step, int))
            if (origin, kind.__name__, name) not in _reported:
                _reported.add((origin, kind.__name__, name))
                new.append(f"{name} ({_KINDS.get(type(raw), type(raw).__name__)}: {quoted(repr(raw), 60)})")
    if new:
        report(
            f"The service sent fields that do not match {kind.__name__}: {', '.join(new)}. They were ignored; the raw "
            "values are in model_extra. Reported once per service."
        )


def warn_accompanying_error(answer: pydantic.BaseModel, error: Any, origin: str) -> None:
    """Warn, once for a service, of an error that accompanied a complete answer."""
    kind = type(answer).__name__
    with _lock:
        new = (origin, kind, "error") not in _reported
        _reported.add((origin, kind, "error"))
    if new:
        words = quoted(read_error({"error": error}).message or json.dumps(error), 200)
        report(
            f"The service sent a {kind} together with an error: {words}. The answer was kept. Reported once per "
            "service."
        )


def report(message: str) -> None:
    """Warn of a malformed response, which must not cost the answer: not even where warnings are errors."""
    # The log quotes nothing of an answer.
    _log.info("A malformed response was accepted; see the warning.")
    with contextlib.suppress(SkytellsWarning):
        warn(message)
