"""What the tests of all routes check in an answer."""

from __future__ import annotations

from werkzeug.test import TestResponse

from tests.world import WEBHOOK_SECRET

NEVER_SHOWN = (
    WEBHOOK_SECRET, "a-key-of-the-tests", "a-shop-key-for-the-tests", "Traceback", "sqlite", "provider.test",
    "Strike answered", "Cloudflare", "INTERNAL_SERVER_ERROR", "DUPLICATE_INVOICE", "USER_CURRENCY_UNAVAILABLE",
)  # fmt: skip
"""Secrets, insides of ours, words of the provider."""


def assert_error(answer: TestResponse, status: int, code: str) -> dict[str, str]:
    """Check that an answer is an error in the standard shape. Returns its `errors`, by field."""
    assert (answer.status_code, answer.mimetype) == (status, "application/json"), answer.text
    body = answer.get_json()
    assert body.keys() == {"status", "code", "message", "errors"}
    assert (body["status"], body["code"]) == ("error", code)
    assert isinstance(body["message"], str)
    assert body["message"]
    assert isinstance(body["errors"], dict)
    assert not [words for words in NEVER_SHOWN if words in answer.text]
    assert (status == 503) == ("Retry-After" in answer.headers)
    return dict(body["errors"])
