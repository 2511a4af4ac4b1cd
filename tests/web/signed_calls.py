"""For schemathesis: calls of the webhook are signed, as the provider's are; weak currencies are left out."""

from __future__ import annotations

import hashlib
import hmac

import requests
import schemathesis
from requests.auth import AuthBase

from lnpay.domain.money import CURRENCIES, decimals_of
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


SOUND = {0: "jpy", 2: "eur", 3: "kwd"}


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: object) -> object:
    """Replace a currency by a sound one of as many decimals: 0.01 of a weak one is less than a sat."""
    is_sale = context.operation is not None and context.operation.path == "/generate-invoice"
    code = body.get("currency") if is_sale and isinstance(body, dict) else None
    if isinstance(code, str) and code.lower() in CURRENCIES:
        return {**body, "currency": SOUND[decimals_of(code.lower())]}  # type: ignore[dict-item]
    return body
