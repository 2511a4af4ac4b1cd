"""Strike's webhook: signed notice that something changed."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request

from lnpay.domain.errors import StrikeRejected, StrikeUnavailable
from lnpay.domain.states import RefundState
from lnpay.domain.webhook_signature import verify_strike_signature
from lnpay.invoices.settle import Outcome
from lnpay.invoices.webhook_invoice import DOCTOR_EVENT, receive_event
from lnpay.web.api.answers import EventTaken
from lnpay.web.clients import client_address
from lnpay.web.context import current_backend
from lnpay.web.errors import error_response
from lnpay.web.operations.metrics import meters

blueprint = Blueprint("webhook", __name__)

SEEN_HEADER = "X-LNPay-Seen"


@blueprint.post("/webhook")
def receive() -> Response:
    """Verify, settle, wake the dispatcher, answer.

    What cannot be processed now is answered 5xx, so that Strike repeats the call.
    """
    backend = current_backend()
    if not backend.access.webhook_secrets:
        return error_response(503, "webhook_not_configured", "WEBHOOK_SECRET is not set here", retry_after_seconds=60)
    body = request.get_data()
    verify_strike_signature(body, request.headers.get("X-Webhook-Signature"), *backend.access.webhook_secrets)
    try:
        outcome = receive_event(backend.settlement, backend.refund_sender, body)
    except StrikeRejected as error:
        # An invalid API key must not lose the event: Strike repeats the call for nine days, while the operator fixes
        # the key.
        raise StrikeUnavailable("the invoice could not be read") from error
    backend.delivery_dispatcher.wake()
    backend.refund_dispatcher.wake()
    g.outcome = outcome
    response = jsonify(EventTaken(status="success", outcome=outcome or "ignored"))
    if body == DOCTOR_EVENT:
        response.headers[SEEN_HEADER] = _seen()
    return response


def _seen() -> str:
    """The caller's address as LNPay sees it, for the doctor: client, peer, and whether the peer named the client."""
    client = client_address(request, current_backend().access.trusted_proxies)
    is_named = "yes" if request.headers.get("X-Forwarded-For") else "no"
    return f"client={client} peer={request.remote_addr} named={is_named}"


@blueprint.after_request
def count(response: Response) -> Response:
    """Count the outcome of a call."""
    meters().saw_webhook(_taken(g.outcome) if "outcome" in g else _refused(response.status_code))
    return response


def _taken(outcome: Outcome | RefundState | None) -> str:
    if isinstance(outcome, RefundState):
        return "refund"
    return str(outcome) if outcome in (Outcome.SETTLED, Outcome.PAID_LATE) else "ignored"


def _refused(status: int) -> str:
    if not current_backend().access.webhook_secrets:
        return "not_configured"
    return {401: "refused_signature", 500: "error", 503: "put_off"}.get(status, "refused_body")
