"""The errors that this library raises, as one tree.

SkytellsError
├── InputError                    an argument is invalid; nothing was sent (also a ValueError)
├── ConfigurationError            a setting is missing or contradicts another
│   ├── MissingKeyError           no API key, and the local Skytells was not chosen
│   └── MissingExtraError         an optional part of the library is not installed (also an ImportError)
├── LocalServerError              the embedded local Skytells could not start, or has no chat weights
├── TransportError                no usable response arrived
│   ├── ConnectError              the host could not be reached
│   │   └── TooManyOpenFilesError this process may open no more connections
│   ├── RequestTimeoutError       it was reached and sent nothing for too long
│   ├── ConnectionLostError       the connection was lost before the response was complete
│   └── RequestCancelledError     the call was cancelled on this side
├── APIError                      the service responded with an error
│   ├── BadRequestError           400, 422, 501: the request itself
│   │   ├── ContextLengthError    the text does not fit the model's window
│   │   └── ContentPolicyError    the safety filter blocked the prompt (any status)
│   ├── AuthenticationError       401 ┐
│   ├── PaymentRequiredError      402 ├ AccountError: no other call on this account would work (no credit: any status)
│   ├── PermissionDeniedError     403 ┘
│   ├── NotFoundError             404: a path
│   │   └── ModelNotFoundError    404: a model, also an AccountError
│   ├── RateLimitError            429
│   └── ServerError               5xx
├── RefusalError                  the model refused to answer; .refusal holds its words
├── InvalidResponseError          the service responded with 200, but the response is not valid
│   ├── ResponseTooLargeError     it has more bytes than max_answer_mb permits
│   ├── StreamError               a stream carried an error
│   └── TruncatedStreamError      a stream stopped without its terminator; .partial holds the text so far
├── ScratchFileError              vectors on their way to a file cannot be written
├── CacheError                    the cache of paid responses cannot be used
│   └── ReplayMissError           replay mode, and this call was not recorded
├── BudgetExceededError           the next request would exceed the budget
├── LowConfidenceError            the confidence of a row's label is below abstain=; in .report and failed() only
├── RowError                      one or more rows failed; .report has their errors
└── (mixin) Retryable             the same call may succeed later

Interrupted                       a KeyboardInterrupt: finished results are stored, the message is one line
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skytells_nb.error_bodies import ErrorBody, read_error
from skytells_nb.sanitize import page_text, quoted, quoted_body, quoted_name, sanitize

__all__ = [
    "APIError",
    "AccountError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "CacheError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "ContentPolicyError",
    "ContextLengthError",
    "InputError",
    "Interrupted",
    "InvalidResponseError",
    "LocalServerError",
    "LowConfidenceError",
    "MissingExtraError",
    "MissingKeyError",
    "ModelNotFoundError",
    "NotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RefusalError",
    "ReplayMissError",
    "RequestCancelledError",
    "RequestTimeoutError",
    "ResponseTooLargeError",
    "Retryable",
    "RowError",
    "ScratchFileError",
    "ServerError",
    "SkytellsError",
    "SkytellsWarning",
    "StreamError",
    "TooManyOpenFilesError",
    "TransportError",
    "TruncatedStreamError",
    "api_error",
]


class SkytellsWarning(UserWarning):
    """A problem that did not stop the call."""


class SkytellsError(Exception):
    """Base class of the library's errors; a notebook shows one block instead of a traceback.

    An error that ends a call over rows has its ``report``, and as ``frame`` what the call would have returned: what is
    finished, missing elsewhere. Both are None where nothing had begun.

    Parameters
    ----------
    *args : object
        The message. Keys and escape sequences in it are replaced: it may quote a service, a proxy or a model.
    """

    report: Any = None
    frame: Any = None
    tokens: tuple[int, int] | None = None
    """Tokens in and out, where the service says that the failed attempt used some."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(sanitize(value) if isinstance(value, str) else value for value in args))

    def _render_traceback_(self) -> list[str]:
        # A protocol of IPython. Escape sequences in quoted text must not reach a terminal.
        lines = _frames(self) or [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]
        return ["".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in line) for line in lines]

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle and copy call the class with ``args`` only, without its keyword-only arguments.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[SkytellsError], args: tuple[Any, ...], state: dict[str, Any]) -> SkytellsError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _frames(problem: BaseException) -> list[str]:
    """Return the traceback for %tb, nothing for a failed cell: IPython calls the same method for both."""
    for frame, _ in traceback.walk_stack(None):
        if frame.f_code.co_name == "tb" and frame.f_globals.get("__name__") == "IPython.core.magics.execution":
            return "".join(traceback.format_exception(problem)).rstrip().splitlines()
    return []


class Retryable:
    """Mixin: the same call may succeed later."""


class AccountError:
    """Mixin: concerns the whole account or run, so every other row would fail too."""


class InputError(SkytellsError, ValueError):
    """An argument is invalid; nothing was sent and nothing was spent."""


class ConfigurationError(SkytellsError):
    """A setting is missing or contradicts another."""


class MissingKeyError(ConfigurationError):
    """No API key was found."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional part of the library is not installed.

    Parameters
    ----------
    what : str
        What needs it.
    extra : str
        The extra to install, stored as an attribute.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part. Install it with: pip install 'skytells-nb[{extra}]'")
        self.extra = extra


class LocalServerError(SkytellsError):
    """The embedded local Skytells could not start, or does not support the request."""


class TransportError(SkytellsError):
    """No usable response arrived; ``partial`` holds the text that a stream had sent before."""

    partial: str = ""


class ConnectError(TransportError, Retryable):
    """The host could not be reached; nothing was sent."""


class TooManyOpenFilesError(ConnectError):
    """This process has no file descriptor left for a connection (``ulimit -n``); nothing was sent."""


class RequestTimeoutError(TransportError, Retryable):
    """The service was reached and then sent nothing, or nothing complete, for too long."""


class ConnectionLostError(TransportError, Retryable):
    """The connection was lost before the response was complete."""


class RequestCancelledError(TransportError):
    """The call was cancelled on this side."""


class APIError(SkytellsError):
    """The service responded with an error. Every parameter is stored as an attribute.

    Parameters
    ----------
    message : str
        The service's message, for people: branch on ``error_id``.
    status : int
        The HTTP status, or that of the error where it came in the body of a success.
    error_id : str, optional
        The stable id of the error.
    code : str, optional
        The code in OpenAI's vocabulary.
    type : str, optional
        The type in OpenAI's vocabulary.
    param : str, optional
        The parameter that is wrong.
    request_id : str, optional
        The id to give to support.
    details : object, optional
        Whatever else the service sent.
    retry_after : float, optional
        Seconds to wait before the next attempt.
    body : object, optional
        The parsed body, or its text.
    http_status : int, optional
        The status of the response; ``status`` if left out.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        error_id: str | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        details: Any = None,
        retry_after: float | None = None,
        body: Any = None,
        http_status: int | None = None,
    ) -> None:
        message = quoted(message)
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_id = quoted_name(error_id)
        self.code = quoted_name(code)
        self.type = quoted_name(type)
        self.param = quoted_name(param)
        self.request_id = quoted_name(request_id)
        self.details = quoted_body(details)
        self.retry_after = retry_after
        self.body = quoted_body(body)
        self.http_status = status if http_status is None else http_status

    @property
    def is_in_success(self) -> bool:
        """Whether the error came in the body of a response whose status says success."""
        return 200 <= self.http_status < 300

    @property
    def status_code(self) -> int:
        """The same as ``status``, under the OpenAI SDK's name."""
        return self.status

    def __str__(self) -> str:
        facts = [f"HTTP {self.http_status}"]
        if self.http_status != self.status and read_error(self.body).status == self.status:
            facts.append(f"status {self.status} in its body")
        if self.error_id:
            facts.append(self.error_id)
        if self.param:
            facts.append(f"param {self.param}")
        if self.request_id:
            facts.append(f"request {self.request_id}")
        return f"{self.message} ({', '.join(facts)})"


class BadRequestError(APIError):
    """The request itself was rejected (400, 422)."""


class ContextLengthError(BadRequestError):
    """The text does not fit the model's window."""


class ContentPolicyError(BadRequestError):
    """The safety filter blocked the prompt."""

    @property
    def safety(self) -> dict[str, Any]:
        """The filter's result for each category; empty if the service sent none."""
        error = self.body.get("error") if isinstance(self.body, Mapping) else None
        if not isinstance(error, Mapping):
            return {}
        filters = error.get("content_filters")
        listed = filters if isinstance(filters, list) else [filters]
        for place in (error.get("innererror"), *listed, error.get("details"), error, self.body):
            for name in ("content_filter_result", "content_filter_results"):
                result = place.get(name) if isinstance(place, Mapping) else None
                if isinstance(result, Mapping):
                    return dict(result)
        return {}


class AuthenticationError(APIError, AccountError):
    """The API key is missing or was not accepted (401)."""


class PaymentRequiredError(APIError, AccountError):
    """The account is out of credit (402)."""


class PermissionDeniedError(APIError, AccountError):
    """The key is valid but may not do this (403)."""


class NotFoundError(APIError):
    """The path does not exist (404)."""


class ModelNotFoundError(NotFoundError, AccountError):
    """The model does not exist, or not on this gateway (404)."""


class RateLimitError(APIError, Retryable):
    """Too many requests for the account's limit (429); ``retry_after`` says how long to wait."""


class ServerError(APIError, Retryable):
    """The service failed (5xx)."""


class InvalidResponseError(SkytellsError):
    """The service responded with success, but the response is not valid.

    Parameters
    ----------
    message : str
        What is wrong with it.
    request_id : str, optional
        The id to give to support, stored as an attribute.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        message, request_id = quoted(message), quoted_name(request_id)
        super().__init__(f"{message} (request {request_id})" if request_id else message)
        self.request_id = request_id


class RefusalError(SkytellsError):
    """The model refused to answer; asking again would be answered alike. Every parameter is stored as an attribute.

    Parameters
    ----------
    refusal : str
        The model's words.
    request_id : str, optional
        The id to give to support.
    tokens : tuple of int, default (0, 0)
        Tokens in and out; the refusal was paid for.
    completion : object, optional
        What is known about the answer besides.
    """

    def __init__(
        self,
        refusal: str,
        *,
        request_id: str | None = None,
        tokens: tuple[int, int] = (0, 0),
        completion: Any = None,
    ) -> None:
        super().__init__(f"The model refused to answer: {quoted(refusal)}")
        self.refusal: str = quoted_body(refusal)
        self.request_id = quoted_name(request_id)
        self.tokens: tuple[int, int] = tokens
        self.completion = completion


class ResponseTooLargeError(InvalidResponseError):
    """The response has more bytes than ``max_answer_mb`` permits; the rest was not read."""


class StreamError(InvalidResponseError):
    """A stream contained an error. Every parameter is stored as an attribute.

    Parameters
    ----------
    message : str
        The service's message.
    request_id : str, optional
        The id to give to support.
    error_id : str, optional
        The stable id of the error.
    code : str, optional
        The code in OpenAI's vocabulary.
    status : int, optional
        The HTTP status that the error names.
    partial : str, default ""
        The text before the error.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str | None = None,
        error_id: str | None = None,
        code: str | None = None,
        status: int | None = None,
        partial: str = "",
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.error_id = quoted_name(error_id)
        self.code = quoted_name(code)
        self.status = status
        self.partial = partial


class TruncatedStreamError(InvalidResponseError):
    """A stream stopped without its terminator.

    Parameters
    ----------
    message : str
        Where it stopped.
    request_id : str, optional
        The id to give to support.
    partial : str, default ""
        The text so far, stored as an attribute.
    """

    def __init__(self, message: str, *, request_id: str | None = None, partial: str = "") -> None:
        super().__init__(message, request_id=request_id)
        self.partial = partial


class ScratchFileError(SkytellsError):
    """Vectors on their way to a file cannot be written, because the disk is full for example."""


class CacheError(SkytellsError):
    """The cache of paid responses cannot be used."""


class ReplayMissError(CacheError):
    """Replay mode reads its recording only, and this call is not in it."""


class BudgetExceededError(SkytellsError):
    """The next request would exceed the budget; results that were paid for are in the cache and in ``frame``."""


class LowConfidenceError(SkytellsError):
    """The label of a row is left out, since its confidence is below ``abstain``; its answer is paid for and cached."""


class RowError(SkytellsError):
    """Rows failed with ``on_error="raise"``; every response that arrived is in the cache and in ``frame``.

    Parameters
    ----------
    message : str
        How many failed, and the first reasons.
    report : Report, optional
        The report of the call, stored as an attribute.
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class Interrupted(KeyboardInterrupt):
    """The work was interrupted. A KeyboardInterrupt, so that "run all" stops too.

    ``report`` is the report of the call, ``frame`` what it would have returned: what is finished, missing elsewhere.

    Parameters
    ----------
    message : str
        What was stopped, and what is stored.
    outcome : object, optional
        Results so far, stored as an attribute.
    """

    report: Any = None
    frame: Any = None

    def __init__(self, message: str, *, outcome: Any = None) -> None:
        super().__init__(message)
        self.outcome = outcome

    def _render_traceback_(self) -> list[str]:
        return _frames(self) or [f"Interrupted: {self}"]


_IDS: dict[type[APIError], str] = {
    AuthenticationError: "UNAUTHORIZED",
    PaymentRequiredError: "INSUFFICIENT_CREDITS PAYMENT_REQUIRED",
    PermissionDeniedError: "FORBIDDEN ACCOUNT_SUSPENDED SECURITY_VIOLATION",
    ModelNotFoundError: "MODEL_NOT_FOUND",
    NotFoundError: "ENDPOINT_NOT_FOUND",
    ContentPolicyError: "CONTENT_POLICY_VIOLATION",
    ContextLengthError: "CONTEXT_LENGTH_EXCEEDED",
    BadRequestError: "INVALID_REQUEST INVALID_PARAMETER INVALID_INPUT VALIDATION_ERROR",
    RateLimitError: "RATE_LIMITED INFERENCE_RATE_LIMITED RATE_LIMIT_EXCEEDED",
    ServerError: "INFERENCE_ERROR INTERNAL_ERROR INFRASTRUCTURE_ERROR SERVICE_UNAVAILABLE INFERENCE_TIMEOUT",
}
_BY_ERROR_ID = {name: kind for kind, names in _IDS.items() for name in names.split()}
_CODES: dict[type[APIError], str] = {
    ContentPolicyError: "content_filter content_policy_violation",
    ContextLengthError: "context_length_exceeded",
    ModelNotFoundError: "model_not_found",
    AuthenticationError: "invalid_api_key api_key_invalid",
    RateLimitError: "rate_limit_exceeded rate_limit_error rate_limit_reached rate_limited too_many_requests throttled "
    "throttling throttling_exception",
    PermissionDeniedError: "account_deactivated account_suspended account_disabled",
    PaymentRequiredError: "insufficient_quota insufficient_credits insufficient_credit insufficient_balance "
    "insufficient_user_quota insufficient_funds insufficient_tokens payment_required billing_error billing_not_active "
    "billing_hard_limit_reached billing_limit_reached billing_cap_reached spending_limit_reached "
    "spend_limit_exceeded budget_exceeded credit_balance_too_low credits_exhausted quota_exhausted out_of_credits "
    "no_credit access_terminated arrearage billing_disabled account_balance_insufficient credit_limit_exceeded "
    "spend_limit_reached exceeded_budget exceeded_current_quota_error insufficient_credits_error "
    "payment_method_required trial_expired free_trial_ended subscription_expired monthly_limit_exceeded "
    "free_tier_exhausted free_tier_only "
    "allocation_quota_free_tier_only free_quota_exceeded",
}
_BY_CODE = {name: kind for kind, names in _CODES.items() for name in names.split()}
"""Codes and types that tell the class whatever the status is."""
_FINAL_CODES = re.compile(
    rf"\b(?:{'|'.join(name for name in _CODES[PaymentRequiredError].split() if '_' in name)})\b", re.IGNORECASE
)
_NO_CREDIT = re.compile(
    r"exceeded your current quota"
    r"|\b(?:credits?|balance|funds|(?:user|token) quota) (?:(?:is|are|has been|have been) )?"
    r"(?:too low|insufficient|not enough|negative|empty|depleted|exhausted|used up|zero\b|0(?![.\d]))"
    r"|(?:insufficient|not enough|no (?:more|remaining)|out of|ran out of|run out of|exhausted (?:your|all)) "
    r"(?:\w+ ){0,3}?(?:credits?|balance|funds)\b"
    r"|\bexceed(?:s|ed)? (?:your|the) remaining credits"
    r"|\bcredit (?:limit|grant) (?:\w+ ){0,2}?(?:exceeded|exhausted|reached)"
    r"|\bplease recharge\b|\bunpaid invoice|\b(?:subscription|trial|token plan) (?:has )?(?:expired|ended|exhausted)\b"
    r"|\bfree (?:tier|trial|quota) (?:(?:is|has|has been) )?(?:exhausted|expired|ended|used up)"
    r"|\bexceeded (?:the|your) free (?:tier|quota)"
    r"|\b(?:add|no|missing|requires?) (?:\w+ ){0,2}?payment method|\bpayment method (?:is )?required"
    r"|\bbilling (?:account )?(?:is )?disabled|\bbilling (?:must|to) be enabled"
    r"|\bexceeded (?:its|your) budget|\bbudget exceeded for\b|\bcrossed spend\b|\bkey limit exceeded \(total limit\)"
    r"|\bapi usage limits? (?:has been |have been )?reached"
    r"|(?:billing|spend(?:ing)?|usage|budget) (?:hard )?(?:limit|cap)\b.{0,40}(?:reached|exceeded)"
    r"|(?:reached|exceeded|over) (?:\w+ ){0,4}?(?:billing|spend(?:ing)?|budget) (?:hard )?(?:limit|cap)"
    r"|(?:reached|exceeded|hit|over) (?:\w+ ){0,4}?monthly (?:\w+ ){0,3}?(?:limit|quota|cap|credits|allowance)"
    r"|monthly (?:\w+ ){0,3}?(?:limit|quota|cap|allowance)\b.{0,40}(?:reached|exceeded|exhausted|used up)"
    r"|(?:reached|exceeded|hit) your specified api usage limits|\u4f59\u989d\u4e0d\u8db3|\u6b20\u8d39"
    r"|budget has been exceeded|billing (?:is not|not) active|account is (?:not active|overdue)"
    r"|payment (?:is )?required|requires more credits|(?:add|purchase|buy|top up) (?:\w+ ){0,3}?credits",
    re.IGNORECASE,
)
_TRY_LATER = re.compile(
    r"(?:retry|try again) (?:in|after) \d|per[ -](?:minute|min|second|sec|hour|day)\b|\b[rt]p[md]\b", re.IGNORECASE
)
_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: BadRequestError,
    429: RateLimitError,
    451: ContentPolicyError,
    # Not implemented: no other attempt changes that.
    501: BadRequestError,
}
_TOO_MUCH = re.compile(
    r"\bbatch(?: size)?\b[^.;]{0,60}(?:>|\bexceed|\btoo (?:large|big|many|long)\b|\bat most\b|\bmax)"
    r"|\btoo many (?:inputs|items|texts|documents)\b|\bmax(?:imum)?\b[^.;]{0,30}\b(?:inputs|items|texts|batch)\b"
    r"|\b(?:input|payload|body|entity)\b[^.;]{0,20}\btoo (?:large|big|long)\b",
    re.IGNORECASE,
)
"""A request that is too large, which some gateways reject with 500."""


def api_error(status: int, body: Any, *, request_id: str | None = None, retry_after: float | None = None) -> APIError:
    """Make the error for a response with this status and body, whichever envelope it came in.

    Parameters
    ----------
    status : int
        The HTTP status. With a success, the status that the body names counts, or 429 for a rate limit, else 500.
    body : object
        Parsed JSON, or text if it was not JSON (a proxy's HTML page, for example).
    request_id : str, optional
        The request id of the response's headers, if the body has none.
    retry_after : float, optional
        Seconds to wait before the next attempt.

    Returns
    -------
    APIError
        An instance of the most specific class. No credit is a PaymentRequiredError under every status.

    Examples
    --------
    >>> api_error(429, {"error": {"message": "Slow down.", "error_id": "RATE_LIMITED"}}, retry_after=2.0)
    RateLimitError('Slow down.')
    """
    error, http_status = read_error(body), status
    if status < 300:
        status = error.status or 500
    # An id is part of the message anyway; an envelope that nothing was read of is quoted itself.
    code = None if error.error_id else error.code or error.type
    message = error.message or _without_message(http_status, code or (None if error.error_id else body))
    kind = _error_class(status, error, message, retry_after)
    if http_status < 300 and error.status is None and kind is RateLimitError:
        status = 429
    return kind(
        message,
        status=status,
        error_id=error.error_id,
        code=error.code,
        type=error.type,
        param=error.param,
        request_id=error.request_id or request_id,
        details=error.details,
        retry_after=retry_after,
        body=body,
        http_status=http_status,
    )


def _error_class(status: int, error: ErrorBody, message: str, retry_after: float | None) -> type[APIError]:
    # The code first: a blocked prompt may have a general id such as INVALID_REQUEST.
    for name in (error.code, error.type, error.error_id):
        kind = _BY_CODE.get(_snake_case(name or ""))
        if kind is not None:
            return kind
    if _is_without_credit(status, message, retry_after):
        return PaymentRequiredError
    known = _BY_ERROR_ID.get((error.error_id or "").upper())
    if known is BadRequestError and 400 < status < 500:
        # An id that fits whatever is wrong with a request says less than the status.
        known = _BY_STATUS.get(status, known)
    kind = known or _BY_STATUS.get(status, ServerError if status >= 500 else APIError)
    return BadRequestError if kind is ServerError and status == 500 and _TOO_MUCH.search(message[:1000]) else kind


def _snake_case(name: str) -> str:
    """Return a code as most services write it: InsufficientBalance and insufficient-balance are the same."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[-. ]", "_", name.strip()).lower()


def _is_without_credit(status: int, message: str, retry_after: float | None) -> bool:
    """Whether the words say that the account cannot pay, where no code does."""
    start = message[:1000]
    if _FINAL_CODES.search(start):
        return True
    # A rejected request may quote the row that was sent, so its message must begin with the words.
    found = _NO_CREDIT.search(start[:80] if status in (400, 422) else start)
    return found is not None and retry_after is None and not _TRY_LATER.search(start)


def _without_message(status: int, body: Any) -> str:
    if isinstance(body, str):
        page = page_text(body)
    else:
        page = json.dumps(quoted_body(body), ensure_ascii=False) if body and isinstance(body, (Mapping, list)) else ""
    excerpt = quoted(page, 200)
    return f"The service responded with {status}" + (f": {excerpt}" if excerpt else " without a message")


_PACKAGE = str(Path(__file__).parent) + os.sep


def warn(message: str) -> None:
    """Emit a SkytellsWarning, attributed to the nearest line outside this library."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        depth += 1
    try:
        warnings.warn(sanitize(message), SkytellsWarning, stacklevel=depth)
    except SkytellsWarning:
        # Where warnings are errors.
        raise
    except Exception:
        # It cannot be shown: stderr is broken, or the hook that shows warnings. It is not worth more than the work.
        return
