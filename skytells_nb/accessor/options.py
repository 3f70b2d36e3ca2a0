"""The keywords that the accessors' methods share: their types, their documentation, and the check for unknown ones."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np

from skytells_nb.client.parameters import ChatParams, ResponsesParams
from skytells_nb.errors import InputError
from skytells_nb.session import Session
from skytells_nb.types.signatures import expand_signature, fill_parameters, parameter_docs

Method = TypeVar("Method", bound=Callable[..., Any])


class ModelParameters(TypedDict, total=False):
    """The usual parameters of a chat model; ``None`` leaves one out.

    Parameters
    ----------
    temperature : float, optional
        Randomness of the completions, from 0 to 2. With 0.0 as default the results are as repeatable as the model
        allows.
    max_tokens : int, optional
        Limit of the tokens of one completion.
    max_completion_tokens : int, optional
        The same limit, as models that reason take it: reasoning counts.
    top_p : float, optional
        Share of the probability that tokens are drawn from, from 0 to 1.
    seed : int, optional
        Seed of the sampling, where the model has one.
    stop : str or list of str, optional
        Texts at which a completion ends.
    presence_penalty : float, optional
        Penalty for tokens that occurred already, from -2 to 2.
    frequency_penalty : float, optional
        Penalty that grows with how often a token occurred, from -2 to 2.
    reasoning_effort : str, optional
        How much a reasoning model reasons, such as ``"low"`` or ``"high"``.
    """

    temperature: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    top_p: float | None
    seed: int | None
    stop: str | list[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    reasoning_effort: str | None


class SessionOptions(TypedDict, total=False):
    """What a call may spend, how fast it sends, and the session and cache it uses.

    Parameters
    ----------
    budget : float, optional
        US dollars that the call may spend, all its runs together; it stops before it would spend more.
    max_in_flight : int, optional
        Limit of the requests in flight at once.
    requests_per_minute : float, optional
        Limit of the requests sent per minute, where it is lower than that of the service.
    tokens_per_minute : float, optional
        Limit of the tokens sent per minute, where it is lower than that of the service.
    cache : str or pathlib.Path, optional
        A path, ``"off"`` or ``"memory"`` in place of the session's cache.
    session : Session, optional
        The session to use in place of the default one.
    fresh : bool, default False
        Whether every row is requested again, whatever is in the cache; the new answers replace the cached ones.
    retry : {"failed"}, optional
        ``"failed"`` requests rows again whose cached answer left them without a value: a blocked prompt, an answer that
        was withheld or empty, with a schema also one that was cut. Other rows come from the cache. Rows that failed for
        another reason, or whose answer did not match its schema, are requested again by every call. Neither
        changes a replay.
    """

    budget: float | None
    max_in_flight: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    cache: str | Path | None
    session: Session | None
    fresh: bool
    retry: Literal["failed"] | None


class RunOptions(SessionOptions, total=False):
    """Options of every method that sends requests.

    Parameters
    ----------
    dry_run : bool, default False
        Whether to send nothing and return an ``Estimate`` of requests, tokens, dollars and minutes, for which no key is
        needed. Prices are those of the list, or of the catalog once the session has read it.
    sample : int, optional
        Send only so many different rows, spread over the data, and return a ``Sample``: their answers, what they used,
        and an ``Estimate`` of the whole call from that. Their answers are cached, so the call itself does not pay for
        them again.
    """

    dry_run: bool
    sample: int | None


class ModelOptions(ModelParameters, RunOptions, total=False):
    """Options of every method that asks a chat model."""


class RowOptions(ModelOptions, total=False):
    """Options of methods that ask a chat model about each row.

    Parameters
    ----------
    to : str or pathlib.Path, optional
        A folder to write the result to while rows are done, as Parquet files of 10,000 rows: for results that do not
        fit into memory. The call returns its path. The same call goes on after the parts that are there, also where the
        process was killed. ``files.read`` and ``dask.dataframe.read_parquet`` read it.
    safety_to : str or pathlib.Path, optional
        With ``to``, another folder for the table that ``df.skytells.safety(into)`` returns, part by part.
    """

    to: str | Path | None
    safety_to: str | Path | None


COMMON = """
Parameters
----------
model : str, optional
    Name of the model; by default that of the session.
dimensions : int, optional
    Length of the embeddings, where the model has several; by default the model's own.
chat_model : str, optional
    Name of the chat model; by default that of the session.
params : mapping, optional
    Further parameters of the chat model, sent as they are, such as ``{"logit_bias": {"50256": -100}}``.
safety : {"keep", "mask", "raise"}, str or mapping, default "keep"
    What happens to completions that the safety filter flagged: ``"mask"`` sets them to missing, ``"raise"`` raises
    RowError once all are cached. A preset (``"STRICT"``, ``"MODERATE"``, ``"MINIMAL"``, ``"CHILD_SAFE"``,
    ``"ENTERPRISE"``) or a threshold for each category, such as ``{"violence": "low"}``, masks what reaches it.
details : bool, default False
    Whether to add ``<into>_finish_reason``, ``_filtered``, ``_severity``, ``_tokens_in``, ``_tokens_out``, ``_cost``,
    ``_error``, ``_model``, ``_request_id`` and ``_safety`` for each row.
rows_per_request : int, optional
    Rows that share a request, 2 to 100; by default each row has its own. See ``df.skytells.complete``.
repair : int, default 2
    How often a completion that does not match the schema is retried with its validation errors. After that the row is
    missing, and an error of the report.
instructions : str, optional
    Further instructions for the model, in plain words.
on_error : {"warn", "raise", "null"}, default "warn"
    What happens when rows fail: one warning, an error, or nothing. Failed rows are missing and listed in the report's
    ``errors``.
progress : bool or callable, default True
    Whether to show a progress line, or a function that is called with progress events.
"""

SHARED_DOCS = {
    **parameter_docs(COMMON),
    **parameter_docs(ModelParameters.__doc__),
    **parameter_docs(SessionOptions.__doc__),
    **parameter_docs(RunOptions.__doc__),
    **parameter_docs(RowOptions.__doc__),
}

_DEFAULTS: Mapping[str, Any] = {"fresh": False, "dry_run": False}
"""Defaults of the shared keywords, where they are not None."""
_MODEL_PARAMETERS = dict.fromkeys(ModelParameters.__annotations__)
_API_PARAMETERS = {*ChatParams.__annotations__, *ResponsesParams.__annotations__} - {"extra_body", "n"}


def expand_options(
    options: type, *, like: object = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[Method], Method]:
    """Show the keys of a TypedDict in the signature and the docstring of a method that takes no other keywords.

    The docstring's "Parameters" hold what is the method's own; the rest comes from the docstring of ``like`` and from
    the shared options.
    """
    inherited = {**SHARED_DOCS, **(parameter_docs(like.__doc__) if like is not None else {})}

    def expand(method: Method) -> Method:
        expand_signature(options, defaults={**_DEFAULTS, **(defaults or {})}, closed=True)(method)
        fill_parameters(method, inherited)
        method.__options__ = frozenset(options.__annotations__)  # type: ignore[attr-defined]
        return method

    return expand


def check_options(options: Mapping[str, Any], method: Callable[..., Any]) -> None:
    """Raise InputError for a keyword that the method does not have, with the nearest one that it has."""
    known: frozenset[str] = method.__options__  # type: ignore[attr-defined]
    if not known.issuperset(options):
        raise _unknown_keyword(next(name for name in options if name not in known), options, method)


def _unknown_keyword(name: str, options: Mapping[str, Any], method: Callable[..., Any]) -> InputError:
    keywords = list(inspect.signature(method).parameters)
    if "params" not in keywords and name in ("params", *_MODEL_PARAMETERS):
        return InputError(f"Unknown keyword {name!r}: {method.__name__} asks no chat model.")
    further = _API_PARAMETERS - {*keywords} if "params" in keywords else set()
    if name in further:
        return InputError(f"Unknown keyword {name!r}. Pass it in params: params={{{name!r}: {options[name]!r}}}.")
    near = difflib.get_close_matches(name, [*keywords, *sorted(further)], n=1)
    if not near:
        return InputError(f"Unknown keyword {name!r}. The keywords of {method.__name__} are: {', '.join(keywords)}.")
    meant = near[0] if near[0] in keywords else f"params={{{near[0]!r}: ...}}"
    return InputError(f"Unknown keyword {name!r}. Did you mean {meant!r}?")


def plain(value: Any) -> Any:
    """Return a value with Python's own scalars, lists and dicts in place of those of numpy, of tuples and of mappings.

    >>> plain({"stop": ("a", "b"), "seed": np.int64(7)})
    {'stop': ['a', 'b'], 'seed': 7}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def given_parameters(options: ModelParameters) -> list[str]:
    """Return the names of the model's parameters that are given."""
    return [name for name in _MODEL_PARAMETERS if options.get(name) is not None]


def model_parameters(
    options: ModelParameters, params: Mapping[str, Any] | None, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all parameters of the model: keywords, then ``params``, in place of the method's defaults.

    Raise InputError for a parameter that is given both ways.
    """
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params must be a dict of parameters such as {{'logit_bias': {{}}}}, got {params!r}.")
    merged = {**(defaults or {})}
    params = None if params is None else plain(params)
    for name, value in plain(options).items():
        if name in _MODEL_PARAMETERS:
            merged[name] = value
            if value is not None and params is not None and name in params:
                raise InputError(f"{name} must be given once, got it as a keyword and in params.")
    effort = merged.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or not effort.strip()):
        raise InputError(f"reasoning_effort must be a word such as 'low' or 'high', got {effort!r}.")
    if params:
        merged.update(params)
    return merged


def dispatch_option(
    method: Callable[..., Any], names: Sequence[str], instead: Callable[..., Any]
) -> Callable[..., Any]:
    """Return the method, which calls ``instead(method, accessor, args, options)`` if one of these options is given."""
    dispatched = frozenset(names)

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **options: Any) -> Any:
        if dispatched.isdisjoint(options):
            return method(self, *args, **options)
        return instead(method, self, args, options)

    return call
