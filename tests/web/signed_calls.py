"""For schemathesis: calls name the store that is there, webhook calls are signed, weak currencies are left out."""

from __future__ import annotations

import hashlib
import hmac

import requests
import schemathesis
from requests.auth import AuthBase

from lnpay.domain.money import CURRENCIES, decimals_of
from lnpay.web.greenfield.answers import STORE_ID
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


@schemathesis.hook
def map_path_parameters(context: object, path_parameters: dict[str, object] | None) -> dict[str, object] | None:
    """Ask for the store of the document's examples: of any other one, a key may not even know that it is there."""
    if path_parameters and "store_id" in path_parameters:
        path_parameters["store_id"] = STORE_ID
    return path_parameters
