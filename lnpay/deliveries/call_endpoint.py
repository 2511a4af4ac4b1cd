"""Calling a webhook endpoint of the shop once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lnpay.deliveries.btcpay_message import btcpay_signature
from lnpay.deliveries.shop_answer import require_accepted
from lnpay.domain.errors import ShopGone, ShopRefused
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from lnpay.domain.webhook_signature import delivery_headers
from lnpay.http.post import Post


@dataclass(frozen=True)
class EndpointAnswer:
    """The outcome of one call.

    status: of the answer; None if there was none. error: why the message does not count as accepted; None if it does.
    is_gone: the endpoint refuses it permanently (410).
    """

    status: int | None
    error: str | None = None
    is_gone: bool = False


def call_endpoint(
    post: Post, endpoint: WebhookEndpoint, webhook_id: str, body: str, signed_at: datetime, *, allow_private: bool
) -> EndpointAnswer:
    """POST one message, signed as the endpoint's form requires. The answer describes any failure."""
    content = body.encode()
    is_public_only = endpoint.set_by is EndpointSetter.KEY and not allow_private
    status = None
    try:
        status = post(endpoint.url, content, _headers(endpoint, webhook_id, signed_at, content), is_public_only)
        require_accepted(status)
    except ShopRefused as error:
        return EndpointAnswer(status, error.message, isinstance(error, ShopGone))
    return EndpointAnswer(status)


def _headers(endpoint: WebhookEndpoint, webhook_id: str, signed_at: datetime, content: bytes) -> dict[str, str]:
    if endpoint.form is EndpointForm.STANDARD:
        signed = delivery_headers(endpoint.secret, webhook_id, signed_at, content)
    else:
        signed = {"BTCPay-Sig": btcpay_signature(endpoint.secret, content), "webhook-id": webhook_id}
    return {"Content-Type": "application/json", **signed}
