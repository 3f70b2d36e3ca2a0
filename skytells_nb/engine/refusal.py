"""A prompt that the safety filter blocked, as the cache keeps it: the service bills it, so it is asked once."""

from __future__ import annotations

import json

from skytells_nb.errors import ContentPolicyError, api_error

_MARK = b'{"refused":'


def refusal_to_bytes(refusal: ContentPolicyError) -> bytes:
    """The refusal with its verdict, in a form that no kept completion has."""
    told = {"status": refusal.status, "request_id": refusal.request_id, "body": refusal.body}
    return json.dumps({"refused": told}, separators=(",", ":")).encode()


def refusal_in(value: bytes) -> ContentPolicyError | None:
    """The refusal that a kept value is, ``None`` for a completion."""
    if not value.startswith(_MARK):
        return None
    told = json.loads(value)["refused"]
    problem = api_error(told["status"], told["body"], request_id=told["request_id"])
    return problem if isinstance(problem, ContentPolicyError) else None
