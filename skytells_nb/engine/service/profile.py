"""The profile of a service: what one model at one origin accepts and how it counts, used by every call."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skytells_nb.engine.service.profile_file import ProfileFile
from skytells_nb.errors import APIError, Retryable, SkytellsError

T = TypeVar("T")

MIN_FACTOR, MAX_FACTOR = 0.25, 4.0
"""A factor outside these is taken for a fault of the count, not for a property of the text."""
MIN_TOKENS = 50.0
"""Estimated tokens that must have been counted before the factor is used."""
FORGET_TOKENS = 10_000_000.0
"""Estimated tokens from which on old counts lose weight, so that other texts show."""
TRUSTED_ANSWERS = 32
"""Answers after which a model is taken to keep to the limits of tokens that it kept to so far."""
RECENT_ANSWERS = 128
"""Answers after which an earlier maximum counts no more; at most twice as many."""
_FIELDS = ("estimated", "counted", "answers", "most_counted", "most_beyond", "beyond_at")

VALID_S = 7 * 86_400.0
"""Time for which a fact holds: a service that has changed is tried again after it."""
MIN_GROUP_INPUTS = 16
"""Inputs in an accepted request from which on one rejection of a larger one shows a limit."""
MAX_GROUP_RATIO = 2.0
"""How far two limits may be apart that confirm each other: they are found by halving."""
PROBE_TIMEOUT_S = 2.0
"""A form is rejected before anything is generated, so a request that takes longer is being answered."""
MAX_FACTS = 200
MAX_VALUE = 1 << 40
INPUTS, SIZE, ENCODING = "inputs", "bytes", "encoding"
"""Facts: inputs and bytes of text that one request may have, and 1 where vectors travel as numbers, not as base64."""

Downgrade = Callable[[SkytellsError, Mapping[str, int]], tuple[str, int] | None]
"""Returns the form to downgrade after a rejection, and its level, given those sent; ``None`` if nothing helps."""


class TokenCalibration:
    """Tokens counted by the service per token estimated from bytes, over all requests to one model.

    ``most_counted`` is the highest such ratio of one request, ``most_beyond`` the most output tokens of one recent
    request beyond its limit (hidden reasoning), and ``answers`` counts the requests whose usage was reported.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._estimated = 0.0
        self._counted = 0.0
        self._answers = 0.0
        self._most_counted = 0.0
        self._most_beyond = self._beyond_at = 0.0
        self._earlier_beyond = self._earlier_beyond_at = 0.0
        self._recent = 0
        """Answers since the earlier maximum."""

    def observe(self, estimated: float, counted: float, beyond: float = 0.0) -> None:
        """A request had so many input tokens by the estimate, and so many by the service's count.

        ``beyond`` are the output tokens beyond its limit, 0 or less if it kept to it.
        """
        with self._lock:
            if self._recent >= RECENT_ANSWERS:
                self._earlier_beyond, self._earlier_beyond_at = self._most_beyond, self._beyond_at
                self._most_beyond = self._beyond_at = 0.0
                self._recent = 0
            self._recent += 1
            if beyond > 0 and beyond >= self._most_beyond:
                self._most_beyond, self._beyond_at = beyond, self._clock()
            if estimated > 0 and counted > 0:
                if self._estimated > FORGET_TOKENS:
                    self._estimated /= 2
                    self._counted /= 2
                self._estimated += estimated
                self._counted += counted
                self._answers += 1
                self._most_counted = max(self._most_counted, counted / estimated)

    @property
    def factor(self) -> float | None:
        """Counted over estimated tokens; ``None`` until enough were counted."""
        with self._lock:
            if self._estimated < MIN_TOKENS:
                return None
            return min(MAX_FACTOR, max(MIN_FACTOR, self._counted / self._estimated))

    @property
    def trusted(self) -> bool:
        """Whether enough answers were counted to know what one may take."""
        return self._answers >= TRUSTED_ANSWERS

    @property
    def most_counted(self) -> float:
        """Highest ratio of counted to estimated input tokens of one request, 0 before the first."""
        return self._most_counted

    @property
    def most_beyond(self) -> float:
        """Most output tokens of one recent request beyond its limit."""
        return self._beyond()[0]

    def _beyond(self) -> tuple[float, float]:
        """Return ``most_beyond`` and when it was observed."""
        if not (self._most_beyond or self._earlier_beyond):  # nearly always
            return 0.0, 0.0
        now = self._clock()
        maxima = ((self._most_beyond, self._beyond_at), (self._earlier_beyond, self._earlier_beyond_at))
        return max(((most, at) for most, at in maxima if 0 <= now - at < VALID_S), default=(0.0, 0.0))

    def to_dict(self) -> dict[str, float]:
        """Return the counts as plain numbers."""
        with self._lock:
            counts = {name: getattr(self, f"_{name}") for name in _FIELDS}
            counts["most_beyond"], counts["beyond_at"] = self._beyond()
            return {name: round(value, 4) for name, value in counts.items()}

    def restore(self, counts: Mapping[str, float]) -> None:
        """Take over counts of ``to_dict`` if they are of more answers than these."""
        with self._lock:
            if counts["answers"] > self._answers:
                for name in _FIELDS:
                    setattr(self, f"_{name}", float(counts[name]))


class ServiceProfile:
    """Facts about one model at one origin, each a whole number with the time at which it was learned.

    A fact about a form, such as the name of a parameter, is a level: 0 as it was asked for, higher for each weaker form
    that the service made necessary. Safe to use from several threads.

    >>> profile = ServiceProfile()
    >>> profile.get_fact("inputs"), profile.level("temperature")
    (None, 0)
    """

    def __init__(
        self,
        save: Callable[[Mapping[str, Any]], None] = lambda record: None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tokens = TokenCalibration(clock)
        self._save = save
        self._clock = clock
        self._facts: dict[str, tuple[int, float]] = {}
        self._levels: dict[str, int] = {}
        """Levels that are being tried."""
        self._changed = threading.Condition()
        self._probe: threading.Thread | None = None
        self._saved_tokens: dict[str, float] | None = None
        self._suspected: dict[str, int] = {}
        """Limits that one rejection suggests, which may have been rejected by chance."""
        self._is_unsaved = False
        self.trial_made = False
        """Whether something was left out once on suspicion alone."""

    def get_fact(self, name: str) -> int | None:
        """Return a fact; ``None`` if it is not known or was learned too long ago."""
        value, since = self._facts.get(name, (None, 0.0))
        return value if value is not None and 0 <= self._clock() - since < VALID_S else None

    def set_fact(self, name: str, value: int) -> None:
        """Set a fact, for this and later processes."""
        self.learn(name, value)
        self.save()

    def learn(self, name: str, value: int) -> None:
        """Set a fact that an answer showed; ``save_learned`` writes it, which must wait until the answer is stored."""
        with self._changed:
            if len(self._facts) >= MAX_FACTS and name not in self._facts:
                # Those of single schemas first.
                del self._facts[min(self._facts, key=lambda each: ("format " not in each, self._facts[each][1]))]
            self._facts[name] = (value, self._clock())
            self._levels.pop(name, None)
            self._is_unsaved = True
            self._changed.notify_all()

    def learn_limit(self, name: str, value: int, *, rejections: int, inputs: int) -> None:
        """Learn a limit that shows in rejections of larger requests: ``inputs`` were accepted in one.

        A single rejection may be an accident, and a limit of two inputs in place of thousands is expensive for days. So
        a small one is believed where several rejections show it, in this run or in an earlier one.
        """
        before = self._suspected.get(name)
        agrees = before is not None and max(before, value) <= MAX_GROUP_RATIO * min(before, value)
        if rejections > 1 or inputs >= MIN_GROUP_INPUTS or agrees:
            self.learn(name, max(value, before or 0) if agrees else value)
        self._suspected[name] = value

    def level(self, *names: str) -> int:
        """Return the highest level of these forms."""
        return max(self._levels.get(name, self.get_fact(name) or 0) for name in names)

    def send(self, forms: Sequence[str], attempt: Callable[[Mapping[str, int]], T], downgrade: Downgrade) -> T:
        """Return the result of ``attempt`` with the lowest levels of these forms that are not rejected.

        While those are not known, one thread probes and the others wait for it, so that it is found out once. Where no
        level helps, the fault is elsewhere: all but formats, whose rejections say so, are as before.
        """
        raised: set[str] = set()
        while True:
            self._begin_probe(forms)
            levels = {name: self.level(name) for name in forms}
            try:
                result = attempt(levels)
            except SkytellsError as problem:
                weaker = downgrade(problem, levels)
                if weaker is not None:
                    raised.add(weaker[0])
                    self._try(*weaker, instead_of=levels)
                    continue
                if isinstance(problem, APIError) and not isinstance(problem, Retryable):
                    self._restore(raised)
                raise
            finally:
                self._end_probe()
            for name, level in levels.items():
                if self.get_fact(name) != level:
                    self.learn(name, level)
            return result

    def save_learned(self) -> None:
        """Write what was learned since the facts were written."""
        if self._is_unsaved:
            self.save()

    def save(self) -> None:
        """Write the facts and counts for later processes."""
        self._is_unsaved = False
        record = self.to_dict()
        self._saved_tokens = record["tokens"]
        self._save(record)

    def to_dict(self) -> dict[str, Any]:
        """Return facts and counts as plain values."""
        with self._changed:
            facts = {name: list(fact) for name, fact in self._facts.items() if self.get_fact(name) is not None}
        return {"facts": facts, "tokens": self.tokens.to_dict()}

    def save_counts(self) -> None:
        """Write what was learned, and the counts if they say something else than those that were written last."""
        saved, now = self._saved_tokens, self.tokens.to_dict()
        if self._is_unsaved or (
            now["answers"]
            and (
                saved is None
                or now["answers"] > 2 * saved["answers"]
                or now["most_beyond"] != saved["most_beyond"]
                or now["most_counted"] > 1.05 * saved["most_counted"]
            )
        ):
            self.save()

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take over what another process has saved, where it is newer; whatever is not valid is passed over."""
        counts = _read_counts(record.get("tokens"))
        if counts is not None and 0 <= self._clock() - _number(record.get("saved")) < VALID_S:
            self.tokens.restore(counts)
            self._saved_tokens = self._saved_tokens or counts
        facts = record.get("facts")
        with self._changed:
            for name, fact in (facts if isinstance(facts, Mapping) else {}).items():
                value, since = fact if isinstance(fact, list) and len(fact) == 2 else (None, None)
                if type(value) is not int or not 0 <= value < MAX_VALUE or (name in (INPUTS, SIZE) and value < 1):
                    continue
                if _number(since) > self._facts.get(name, (0, 0.0))[1] and len(self._facts) < MAX_FACTS:
                    self._facts[name] = (value, _number(since))

    def _begin_probe(self, forms: Sequence[str]) -> None:
        def all_known() -> bool:
            return all(self.get_fact(name) is not None for name in forms)

        if all_known():
            return
        this_thread = threading.current_thread()
        with self._changed:
            if self._probe is None:
                self._probe = this_thread
            elif self._probe is not this_thread:
                self._changed.wait_for(lambda: self._probe is None or all_known(), PROBE_TIMEOUT_S)

    def _end_probe(self) -> None:
        with self._changed:
            if self._probe is threading.current_thread():
                self._probe = None
                self._changed.notify_all()

    def _try(self, name: str, level: int, *, instead_of: Mapping[str, int]) -> None:
        with self._changed:
            # Another thread may have found out meanwhile.
            if self.level(name) == instead_of[name]:
                self._levels[name] = level

    def _restore(self, raised: set[str]) -> None:
        with self._changed:
            for name in raised:
                if not name.startswith("format"):
                    self._levels.pop(name, None)


def _read_counts(value: object) -> dict[str, float] | None:
    """Return what ``to_dict`` returned from parsed JSON, ``None`` if it is something else."""
    if not isinstance(value, Mapping):
        return None
    counts = {name: value.get(name, 0.0 if name == "beyond_at" else None) for name in _FIELDS}
    valid = all(isinstance(n, (int, float)) and not isinstance(n, bool) and 0 <= n < 1e15 for n in counts.values())
    return counts if valid else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


_files: dict[Path, ProfileFile] = {}
_profiles: dict[tuple[Path | None, str, str], ServiceProfile] = {}
_lock = threading.Lock()


def profile_for(path: Path | None, origin: str, model: str) -> ServiceProfile:
    """Return this process's profile of a model, with what other processes have written to the file at ``path``.

    ``None`` keeps it in this process only.
    """
    name = f"{model} at {origin}"
    with _lock:
        profile = _profiles.get((path, origin, model))
        file = None if path is None else _files.setdefault(path, ProfileFile(path))
        if profile is None:
            profile = ServiceProfile() if file is None else ServiceProfile(_saver(file, name))
            _profiles[path, origin, model] = profile
            record = None if file is None else file.get(name)
            if record is not None:
                profile.restore(record)
        if file is not None:
            for each, record in file.read_if_changed().items():
                known = next((p for (at, o, m), p in _profiles.items() if at == path and each == f"{m} at {o}"), None)
                if known is not None:
                    known.restore(record)
        return profile


def _saver(file: ProfileFile, name: str) -> Callable[[Mapping[str, Any]], None]:
    def save(record: Mapping[str, Any]) -> None:
        others = ServiceProfile()
        others.restore(file.get(name) or {})
        others.restore(record)
        file.update(name, {**record, "facts": others.to_dict()["facts"], "saved": time.time()})

    return save


def forget_profiles() -> None:
    """Forget what this process knows; files stay."""
    with _lock:
        _profiles.clear()
        _files.clear()


def _reset_after_fork() -> None:
    """A forked child has none of the threads that probe."""
    global _lock
    _lock = threading.Lock()
    _profiles.clear()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


MIN_MEASURED_S = 0.5
"""Seconds of requests before the measurement counts: the first request loads the model."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one endpoint gets through in a second, all requests together."""

    requests: float
    tokens_in: float
    tokens_out: float

    def seconds(self, requests: int, tokens_in: int, tokens_out: int) -> float:
        """Return the seconds that these requests take."""
        return requests / self.requests + tokens_in / self.tokens_in + tokens_out / self.tokens_out


class SpeedEstimate:
    """Seconds that requests take, by the expected throughput of each endpoint and how that did in earlier runs."""

    def __init__(self, expected: dict[str, Throughput]) -> None:
        self._expected = expected
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[float, float]] = {}

    def record(self, endpoint: str, requests: int, tokens_in: int, tokens_out: int, seconds: float) -> None:
        """A run of this endpoint made these requests in so many seconds."""
        expected = self._expected.get(endpoint)
        if expected is None or not requests:
            return
        with self._lock:
            measured, predicted = self._sums.get(endpoint, (0.0, 0.0))
            self._sums[endpoint] = (
                measured + seconds,
                predicted + expected.seconds(requests, tokens_in, tokens_out),
            )

    def seconds(self, endpoint: str, requests: int, tokens_in: int, tokens_out: int) -> float | None:
        """Return the seconds that these requests take; ``None`` for an endpoint whose throughput is not known."""
        expected = self._expected.get(endpoint)
        if expected is None:
            return None
        with self._lock:
            measured, predicted = self._sums.get(endpoint, (0.0, 0.0))
        factor = measured / predicted if measured >= MIN_MEASURED_S and predicted > 0 else 1.0
        return factor * expected.seconds(requests, tokens_in, tokens_out)
