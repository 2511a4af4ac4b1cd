"""For schemathesis: calls of the webhook are signed, as the provider's are."""

from __future__ import annotations

import hashlib
import hmac

import requests
import schemathesis
from requests.auth import AuthBase

from tests.world import WEBHOOK_SECRET


class SignedLikeTheProvider(AuthBase):
    """Signs any body."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        request.headers["X-Webhook-Signature"] = hmac.digest(WEBHOOK_SECRET.encode(), raw, hashlib.sha256).hex()
        return request


schemathesis.auth.set_from_requests(SignedLikeTheProvider()).apply_to(path="/webhook")  # type: ignore[attr-defined]
