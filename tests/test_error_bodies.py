"""Errors in the envelopes of services and gateways: recognized, quoted, and of their class."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.error_bodies import is_error, read_error
from skytells_nb.errors import (
    AccountError,
    AuthenticationError,
    BadRequestError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    api_error,
)

ENVELOPES: dict[str, Any] = {
    "object": {"error": {"message": "MARK", "code": 502}},
    "text": {"error": "MARK"},
    "list of texts": {"error": ["MARK", "more"]},
    "beside a label": {"statusCode": 400, "error": "Bad Request", "message": "MARK"},
    "oauth": {"error": "invalid_request", "error_description": "MARK"},
    "flag": {"error": True, "message": "MARK"},
    "nested text of JSON": {"error": '{"error": {"message": "MARK"}}'},
    "vllm": {"object": "error", "message": "MARK", "code": 400},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "MARK"}},
    "fastapi": {"detail": "MARK"},
    "fastapi list": {"detail": [{"loc": ["body", "x"], "msg": "MARK", "type": "value_error"}]},
    "fastapi object": {"detail": {"error": "MARK"}},
    "errors": {"success": False, "errors": [{"code": 7003, "message": "MARK"}]},
    "errors as texts": {"errors": ["MARK"]},
    "errors by field": {"errors": {"model": ["MARK"]}},
    "rfc 7807": {"type": "https://example.org/x", "title": "Bad", "status": 400, "detail": "MARK"},
    "aws": {"Message": "MARK"},
    "aws typed": {"__type": "ThrottlingException", "message": "MARK"},
    "apim": {"statusCode": 429, "message": "MARK"},
    "code and msg": {"code": 500, "msg": "MARK"},
    "errorMessage": {"errorMessage": "MARK"},
    "error_msg": {"error_code": 17, "error_msg": "MARK"},
    "apigee": {"fault": {"faultstring": "MARK", "detail": {"errorcode": "x.y"}}},
    "minimax": {"base_resp": {"status_code": 1004, "status_msg": "MARK"}},
    "gemini": [{"error": {"code": 400, "message": "MARK", "status": "INVALID_ARGUMENT"}}],
    "tencent": {"Response": {"Error": {"Code": "X", "Message": "MARK"}}},
    "status as text": {"status": "error", "message": "MARK"},
    "skytells": {"status": False, "response": "MARK"},
    "flat": {"error_id": "RATE_LIMIT_EXCEEDED", "message": "MARK"},
    "openrouter": {"error": {"message": "Provider error", "metadata": {"raw": '{"error":{"message":"MARK"}}'}}},
    "choice": {"choices": [{"index": 0, "message": {"content": ""}, "error": {"code": 502, "message": "MARK"}}]},
    "message of a choice": {"choices": [{"message": {"content": None, "error": {"message": "MARK"}}}]},
    "beside a choice": {"choices": [{"delta": {}, "finish_reason": "error"}], "error": {"message": "MARK"}},
    "end of a choice": {"choices": [{"finish_reason": {"type": "abort", "message": "MARK", "status_code": 503}}]},
    "list without a name": [{"code": 2005, "message": "MARK"}],
    "aws event": {"throttlingException": {"message": "MARK"}},
    "aws proxy": {"statusCode": 502, "body": '{"error": "MARK"}'},
    "message of JSON": {"status": "error", "message": '{"detail": "MARK"}'},
    "err": {"err": "MARK"},
    "err object": {"err": {"msg": "MARK"}},
}
FINISHED = {"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_error_is_recognized_and_quotes_the_services_own_words(name: str) -> None:
    assert is_error(ENVELOPES[name], ["choices"])
    assert "MARK" in str(read_error(ENVELOPES[name]).message)
    assert "MARK" in str(api_error(400, ENVELOPES[name]))


@pytest.mark.parametrize(
    "body",
    [
        FINISHED,
        {**FINISHED, "error": None},
        {**FINISHED, "error": {}},
        {**FINISHED, "error": {"code": None, "message": ""}},
        {**FINISHED, "error": "", "detail": None},
        {**FINISHED, "error": {"message": "a fallback was used"}},
        {**FINISHED, "message": "ok", "code": 0},
        {"object": "chat.completion.chunk", "choices": [], "usage": {}},
        {"choices": [], "prompt_filter_results": []},
    ],
)
def test_an_answer_is_no_error_whatever_stands_beside_it(body: dict[str, Any]) -> None:
    assert not is_error(body, ["choices"])


@pytest.mark.parametrize("reason", ["ERROR", "abort", "network_error", "insufficient_system_resource"])
def test_an_answer_whose_end_says_that_it_failed_is_an_error_that_names_it(reason: str) -> None:
    body = {"choices": [{"index": 0, "message": {"content": "half of it"}, "finish_reason": reason}]}
    assert is_error(body, ["choices"])
    assert ("(" in str(read_error(body).message)) == (reason != "ERROR")


def test_vectors_that_are_all_errors_are_an_error() -> None:
    entries = [{"index": n, "error": {"message": f"too long {n}"}} for n in range(2)]
    assert is_error({"data": entries}, ["data"])
    assert read_error({"data": entries}).message == "too long 0"
    assert not is_error({"data": [*entries, {"index": 2, "embedding": [1.0]}]}, ["data"])


@pytest.mark.parametrize(("code", "read"), [(7003, "7003"), (0, None), (200, None), (404, None), (True, None)])
def test_a_code_may_be_a_number_that_is_no_status(code: Any, read: str | None) -> None:
    assert read_error({"success": False, "errors": [{"code": code, "message": "No."}]}).code == read


def test_an_error_beside_an_answer_that_did_not_end_is_an_error() -> None:
    cut = {
        "choices": [{"index": 0, "message": {"content": "hel"}, "finish_reason": None}],
        "error": {"message": "Died."},
    }
    assert is_error(cut, ["choices"])
    assert is_error({"choices": [{"message": {"content": "hel"}, "finish_reason": "error"}]}, ["choices"])


def test_a_list_of_errors_is_quoted_with_the_parameters() -> None:
    detail = [{"loc": ["body", "temperature"], "msg": "too high"}, {"loc": ["body", "n"], "msg": "too low"}]
    error = api_error(422, {"detail": detail})
    assert error.message == "temperature: too high; n: too low"
    assert error.param == "temperature"


def test_an_envelope_that_nobody_knows_is_quoted_itself() -> None:
    assert str(api_error(400, {"kaputt": {"because": 7}})) == (
        'The service responded with 400: {"kaputt": {"because": 7}} (HTTP 400)'
    )


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"message": "Slow down.", "code": 429}}, RateLimitError, 429),
        ({"statusCode": 503, "message": "Busy."}, ServerError, 503),
        ({"error": {"message": "No.", "code": "400"}}, BadRequestError, 400),
        ({"error": "boom"}, ServerError, 500),
    ],
)
def test_an_error_with_status_200_has_the_class_of_the_status_that_it_names(
    body: Any, kind: type[Exception], status: int
) -> None:
    error = api_error(200, body)
    assert (type(error), error.status) == (kind, status)


NO_CREDIT: list[Any] = [
    {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
    {"error": {"message": "No.", "type": "insufficient_quota", "code": None}},
    {"error": {"message": "No.", "error_id": "INSUFFICIENT_CREDITS"}},
    {"error": {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}},
    {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "Your credit balance is too low."},
    },
    {"detail": "Error code: 429 - {'error': {'type': 'insufficient_quota'}}"},
    {"error": {"code": "insufficient_user_quota", "message": "x"}},
    {"message": "Insufficient Balance"},
    {"error": {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}},
    {"error": {"message": "Budget has been exceeded! Current cost: 11.2, Max budget: 10.0", "type": "budget_exceeded"}},
    {"error": "Your account has run out of credits. Please add credits."},
    {"Code": "InsufficientBalance", "Message": "x"},
    {"error": {"code": "insufficient-quota", "message": "x"}},
    {"error": {"message": "You have reached your specified API usage limits."}},
    {"error": "You have exceeded your monthly included credits."},
    {"error": {"message": "Provider error", "metadata": {"raw": '{"error": {"code": "insufficient_quota"}}'}}},
    *[
        {"error": {"message": words}}
        for words in (
            "Your credit balance is depleted",
            "User quota is not enough",
            "balance not enough",
            "Out of tokens, please recharge",
            "Your free trial has ended",
            "Free tier exhausted, please upgrade your plan",
            "You have exceeded the free quota.",
            "No payment method on file",
            "Account suspended due to unpaid invoice",
            "Your subscription has expired",
            "This request would exceed your remaining credits",
            "credit limit exceeded",
            "Billing account disabled",
            "API key has exceeded its budget",
            "ExceededBudget: Crossed spend within team",
            "Key limit exceeded (total limit).",
            "Workspace API usage limits reached",
        )
    ],
    *[{"code": code, "message": "x"} for code in ("BILLING_DISABLED", "AllocationQuota.FreeTierOnly", "trial_expired")],
]


@pytest.mark.parametrize("status", [200, 400, 402, 403, 429, 500, 503])
@pytest.mark.parametrize("body", NO_CREDIT)
def test_an_account_that_cannot_pay_is_final_under_every_status(body: Any, status: int) -> None:
    error = api_error(status, body)
    assert type(error) is PaymentRequiredError
    assert isinstance(error, AccountError)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "You exceeded your current quota. Please retry in 34.07s.", RateLimitError),
        (429, "Rate limit reached for gpt-5: limit 3 requests per minute.", RateLimitError),
        (429, "Too many requests", RateLimitError),
        (400, "Invalid value for 'messages[0]': 'A customer writes that there is not enough credit.'", BadRequestError),
        (500, "The balance of the load is off.", ServerError),
        (429, "Rate limit: free-models-per-min. Add 10 credits to unlock 1000 requests per day.", RateLimitError),
        (429, "Limit reached on tokens per min (TPM). Add a payment method to increase it.", RateLimitError),
        (429, "Quota exceeded for quota metric 'Generate requests'.", RateLimitError),
        (400, "The reasoning budget exceeded its maximum.", BadRequestError),
    ],
)
def test_words_that_only_resemble_a_missing_credit_are_not_final(
    status: int, message: str, kind: type[Exception]
) -> None:
    assert type(api_error(status, {"error": {"message": message}})) is kind


def test_a_quota_that_says_when_to_come_back_is_a_rate_limit() -> None:
    error = api_error(429, {"error": {"message": "You exceeded your current quota"}}, retry_after=3.0)
    assert type(error) is RateLimitError


@pytest.mark.parametrize(
    ("code", "kind"), [("invalid_api_key", AuthenticationError), ("account_deactivated", PermissionDeniedError)]
)
def test_a_code_of_the_account_has_its_class_under_every_status(code: str, kind: type[Exception]) -> None:
    assert type(api_error(400, {"error": {"message": "No.", "code": code}})) is kind


NAMES = st.sampled_from(["error", "errors", "detail", "message", "choices", "code", "loc"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "message", "choices", "code", "loc"]) | st.text(), inner
        )
    ),
    max_leaves=15,
)


@given(json_values)
def test_no_body_breaks_the_reader(body: Any) -> None:
    assert isinstance(is_error(body, ["choices"]), bool)
    error = api_error(500, body)
    assert str(error)
    assert len(error.message) <= 1000


@pytest.mark.parametrize("around", ["error", "detail"])
def test_an_error_is_found_seven_envelopes_deep_and_no_deeper(around: str) -> None:
    """So that no body takes long to read."""
    body: Any = {"message": "MARK", "code": 502}
    for _ in range(7):
        body = {around: body}
    assert read_error(body).message == "MARK"
    assert read_error({around: body}).message != "MARK"
