"""From what the service answers to one class each, and errors that travel between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from skytells_nb import errors
from skytells_nb.errors import (
    AccountError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextLengthError,
    ModelNotFoundError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    Retryable,
    ServerError,
    SkytellsWarning,
    api_error,
    warn,
)

VERDICT = {"violence": {"filtered": True, "severity": "medium"}}

BY_ERROR_ID = [
    (401, "UNAUTHORIZED", AuthenticationError),
    (403, "FORBIDDEN", PermissionDeniedError),
    (400, "INVALID_REQUEST", BadRequestError),
    (400, "INVALID_PARAMETER", BadRequestError),
    (422, "INVALID_PARAMETER", BadRequestError),
    (422, "INVALID_INPUT", BadRequestError),
    (422, "VALIDATION_ERROR", BadRequestError),
    (400, "context_length_exceeded", ContextLengthError),
    (404, "MODEL_NOT_FOUND", ModelNotFoundError),
    (404, "ENDPOINT_NOT_FOUND", NotFoundError),
    (402, "INSUFFICIENT_CREDITS", PaymentRequiredError),
    (402, "PAYMENT_REQUIRED", PaymentRequiredError),
    (403, "ACCOUNT_SUSPENDED", PermissionDeniedError),
    (403, "SECURITY_VIOLATION", PermissionDeniedError),
    (451, "CONTENT_POLICY_VIOLATION", ContentPolicyError),
    (400, "CONTENT_POLICY_VIOLATION", ContentPolicyError),
    (429, "RATE_LIMITED", RateLimitError),
    (429, "INFERENCE_RATE_LIMITED", RateLimitError),
    (429, "RATE_LIMIT_EXCEEDED", RateLimitError),
    (500, "INFERENCE_ERROR", ServerError),
    (500, "INTERNAL_ERROR", ServerError),
    (502, "INFRASTRUCTURE_ERROR", ServerError),
    (503, "SERVICE_UNAVAILABLE", ServerError),
    (504, "INFERENCE_TIMEOUT", ServerError),
]

BY_STATUS = [
    (400, BadRequestError),
    (401, AuthenticationError),
    (402, PaymentRequiredError),
    (403, PermissionDeniedError),
    (404, NotFoundError),
    (409, APIError),
    (418, APIError),
    (422, BadRequestError),
    (429, RateLimitError),
    (451, ContentPolicyError),
    (500, ServerError),
    (501, BadRequestError),
    (599, ServerError),
]


def classes() -> list[type[BaseException]]:
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BaseException)]


def example(kind: type[BaseException]) -> BaseException:
    """One error of this class with every argument that it takes."""
    if issubclass(kind, APIError):
        body = {"error": {"message": "No.", "details": {"category": "request"}}}
        return kind("No.", status=418, error_id="X", code="c", type="t", param="p", request_id="req_1", body=body)
    if issubclass(kind, errors.MissingExtraError):
        return kind("The map", "plots")
    given = {"request_id": "req_1", "error_id": "X", "code": "c", "partial": "half", "report": ["row"], "outcome": [1]}
    takes = inspect.signature(kind.__init__).parameters
    return kind("No.", **{name: value for name, value in given.items() if name in takes})


@pytest.mark.parametrize(("status", "error_id", "kind"), BY_ERROR_ID)
def test_an_error_id_of_the_catalog_has_its_class(status: int, error_id: str, kind: type[APIError]) -> None:
    error = api_error(status, {"error": {"message": "No.", "error_id": error_id, "status": status}})
    assert type(error) is kind
    assert (error.status, error.error_id) == (status, error_id)


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_an_unknown_error_id_goes_by_the_status(status: int, kind: type[APIError]) -> None:
    assert type(api_error(status, {"error": {"message": "No.", "error_id": "SOMETHING_NEW"}})) is kind


@pytest.mark.parametrize(
    ("status", "before", "kind"),
    [
        *((status, 0, PaymentRequiredError) for status in (400, 403, 422)),
        *((400, 50, BadRequestError), (422, 50, BadRequestError), (403, 50, PaymentRequiredError)),
    ],
)
def test_words_of_a_missing_credit_count_unless_a_rejected_request_quotes_them(
    status: int, before: int, kind: type[APIError]
) -> None:
    """What follows the first words of a rejection can be the row that was sent."""
    message = "x " * before + "Your account balance is insufficient."
    assert type(api_error(status, {"error": {"message": message}})) is kind


def test_the_inference_envelope_fills_every_field() -> None:
    body = {
        "error": {
            "message": "top_p is wrong.",
            "type": "invalid_request_error",
            "code": "invalid_parameter",
            "error_id": "INVALID_PARAMETER",
            "status": 400,
            "param": "top_p",
            "request_id": "req_abc123",
            "details": {"category": "request"},
        }
    }
    error = api_error(400, body, request_id="from the header", retry_after=2.0)
    assert error.message == "top_p is wrong."
    assert (error.type, error.code, error.param) == ("invalid_request_error", "invalid_parameter", "top_p")
    assert error.request_id == "req_abc123"
    assert error.details == {"category": "request"}
    assert error.retry_after == 2.0
    assert error.body == body


def test_str_names_status_id_param_and_request() -> None:
    body = {"error": {"message": "No.", "error_id": "INVALID_PARAMETER", "param": "n", "request_id": "req_9"}}
    assert str(api_error(400, body)) == "No. (HTTP 400, INVALID_PARAMETER, param n, request req_9)"


def test_the_seeds_own_example_is_a_model_not_found() -> None:
    body = {
        "error": {
            "message": "The model 'unknown-model' was not found.",
            "type": "server_error",
            "code": "model_not_found",
            "error_id": "MODEL_NOT_FOUND",
            "status": 404,
            "request_id": "req_abc123",
        }
    }
    error = api_error(404, body)
    assert type(error) is ModelNotFoundError
    assert isinstance(error, AccountError)
    assert not isinstance(error, Retryable)


def test_the_unified_envelope_with_http_status() -> None:
    body = {
        "status": False,
        "response": "Unauthorized.",
        "error": {"http_status": 401, "message": "The key is not known.", "details": None, "error_id": "UNAUTHORIZED"},
    }
    error = api_error(401, body)
    assert type(error) is AuthenticationError
    assert error.message == "The key is not known."


def test_the_unified_envelope_without_a_message_says_its_response() -> None:
    assert api_error(403, {"status": False, "response": "Not you.", "error": {}}).message == "Not you."


def test_the_flat_envelope() -> None:
    error = api_error(429, {"error_id": "RATE_LIMIT_EXCEEDED", "message": "Slow down."}, retry_after=12.0)
    assert type(error) is RateLimitError
    assert (error.message, error.retry_after) == ("Slow down.", 12.0)


def test_an_error_id_and_request_id_beside_the_error_object_count() -> None:
    error = api_error(
        400, {"error_id": "CONTENT_POLICY_VIOLATION", "request_id": "req_2", "error": {"message": "Blocked."}}
    )
    assert type(error) is ContentPolicyError
    assert error.request_id == "req_2"


def test_an_error_that_is_a_string_is_the_message() -> None:
    assert api_error(500, {"error": "It broke."}).message == "It broke."


def test_the_lower_case_context_error_of_the_training_page() -> None:
    body = {
        "error": {
            "error_id": "context_length_exceeded",
            "type": "InferenceError",
            "code": "context_length_exceeded",
            "param": "messages",
            "status": 400,
            "request_id": "req_3",
        }
    }
    error = api_error(400, body)
    assert type(error) is ContextLengthError
    assert error.message == "The service responded with 400 without a message"


@pytest.mark.parametrize("key", ["content_filter_result", "content_filter_results"])
def test_a_blocked_prompt_of_the_upstream_carries_its_verdict(key: str) -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", key: VERDICT}
    body = {"error": {"message": "Filtered.", "code": "content_filter", "type": None, "innererror": inner}}
    error = api_error(400, body)
    assert isinstance(error, ContentPolicyError)
    assert error.safety == VERDICT


def test_a_blocked_prompt_of_responses_carries_its_verdict() -> None:
    filters = [{"blocked": True, "source_type": "prompt", "content_filter_results": VERDICT}]
    error = api_error(400, {"error": {"message": "Filtered.", "code": "content_filter", "content_filters": filters}})
    assert isinstance(error, ContentPolicyError)
    assert error.safety == VERDICT


def test_the_code_of_a_block_wins_over_a_general_error_id() -> None:
    body = {"error": {"message": "Filtered.", "error_id": "INVALID_REQUEST", "code": "content_filter"}}
    assert type(api_error(400, body)) is ContentPolicyError


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        [],
        {},
        {"error": "text"},
        {"error": {"innererror": "text"}},
        {"error": {"innererror": {"content_filter_result": None}}},
        {"error": {"content_filters": "text"}},
        {"error": {"content_filters": [None, {}]}},
    ],
)
def test_a_block_without_a_verdict_has_empty_safety(body: Any) -> None:
    error = api_error(451, body)
    assert isinstance(error, ContentPolicyError)
    assert error.safety == {}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("batch size 600 > maximum allowed batch size 32", BadRequestError),
        ("Too many inputs: 600", BadRequestError),
        ("The maximum number of texts is 96.", BadRequestError),
        ("payload too large", BadRequestError),
        ("Too many requests in the queue; the maximum is 100.", ServerError),
        ("Internal error. The batch of jobs was lost.", ServerError),
    ],
)
def test_a_request_that_is_too_large_is_at_fault_also_under_500(words: str, kind: type[APIError]) -> None:
    """Gateways pass on rejections of their upstream so, and no other attempt changes them."""
    assert type(api_error(500, {"error": {"message": words}})) is kind
    assert type(api_error(503, {"error": {"message": words}})) is ServerError


def test_a_proxys_page_is_quoted_as_text_without_its_tags() -> None:
    page = (
        "<html><head><style>p {}</style><title>502 Bad Gateway</title></head>"
        "<body><script>alert(1)</script><p>nginx &amp; co</p></body></html>"
    )
    error = api_error(502, page)
    assert type(error) is ServerError
    assert error.message == "The service responded with 502: 502 Bad Gateway nginx & co"


def test_a_long_page_is_cut() -> None:
    assert len(api_error(502, "word " * 1000).message) < 300


def test_fields_of_the_wrong_type_are_left_out() -> None:
    error = api_error(400, {"error": {"message": 5, "error_id": 7, "code": 400, "param": [], "type": None}})
    assert type(error) is BadRequestError
    assert (error.error_id, error.code, error.param, error.type) == (None, None, None, None)


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_every_error_survives_pickling_and_copying(kind: type[BaseException], way: Any) -> None:
    """Workers of a cluster send their errors home."""
    error = example(kind)
    again = way(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


def test_every_error_is_a_skytells_error_or_says_why_not() -> None:
    others = {c.__name__ for c in classes() if not issubclass(c, errors.SkytellsError)}
    assert others == {"Interrupted", "SkytellsWarning"}


def test_input_errors_are_value_errors_and_missing_extras_import_errors() -> None:
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = errors.MissingExtraError("The map", "plots")
    assert "pip install 'skytells-nb[plots]'" in str(error)
    assert error.extra == "plots"


def test_the_tree_in_the_docstring_names_every_error() -> None:
    tree = errors.__doc__ or ""
    missing = [c.__name__ for c in classes() if c.__name__ != "SkytellsWarning" and c.__name__ not in tree]
    assert missing == []


def test_all_is_complete() -> None:
    assert {c.__name__ for c in classes()} <= set(errors.__all__)


def test_a_notebook_shows_one_block() -> None:
    assert errors.InputError("No.")._render_traceback_() == ["InputError: No."]
    assert errors.Interrupted("Stopped.")._render_traceback_() == ["Interrupted: Stopped."]


def test_the_block_a_notebook_shows_has_the_notes_and_no_escape_sequence() -> None:
    """What the service says is quoted to a terminal without its control characters."""
    error = errors.InputError("found \x1b[2J\x07 here")
    error.add_note("3 rows are answered.")
    assert error._render_traceback_() == ["InputError: found \ufffd[2J\ufffd here", "3 rows are answered."]


@pytest.mark.parametrize("kind", [errors.InputError, errors.Interrupted])
def test_tb_shows_the_frames_that_a_failed_cell_leaves_out(kind: type[BaseException]) -> None:
    """The cell shows one line; %tb after it names the line of code."""
    shell = InteractiveShell.instance()
    shell.user_ns["kind"] = kind
    try:
        with capture_output() as failed:
            shell.run_cell("def deep():\n    raise kind('No.')\ndeep()")
        with capture_output() as asked:
            shell.run_cell("%tb")
    finally:
        InteractiveShell.clear_instance()
    assert "deep" not in failed.stdout + failed.stderr
    assert "in deep" in asked.stdout + asked.stderr
    assert f"{kind.__name__}: No." in asked.stdout + asked.stderr


def test_a_warning_that_cannot_be_shown_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("no display")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", broken)
        warn("A word.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SkytellsWarning, match="A word"):
            warn("A word.")


def test_an_error_in_the_body_of_a_success_says_the_status_that_came() -> None:
    plain = api_error(200, {"error": {"message": "It broke."}})
    assert (str(plain), plain.status, plain.http_status) == ("It broke. (HTTP 200)", 500, 200)
    named = api_error(200, {"error": {"message": "It broke.", "code": 503}})
    assert str(named) == "It broke. (HTTP 200, status 503 in its body)"
    assert str(api_error(200, {"error": {}})) == 'The service responded with 200: {"error": {}} (HTTP 200)'


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (401, AuthenticationError), (422, BadRequestError)])
def test_an_id_of_whatever_is_wrong_says_less_than_the_status(status: int, kind: type[APIError]) -> None:
    """As for a response that is not stored: 404 is NotFoundError, as in the OpenAI SDK."""
    assert type(api_error(status, {"error": {"message": "No.", "error_id": "INVALID_REQUEST"}})) is kind
