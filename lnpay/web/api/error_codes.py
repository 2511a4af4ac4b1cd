"""Every error `code` that a route may return, as the API document lists it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lnpay.domain import errors as e
from lnpay.domain.permissions import Permission
from lnpay.invoices.conflicts import ANOTHER_ATTEMPT
from lnpay.web.api.answers import INVOICE_ID
from lnpay.web.bearer import NEEDS_KEY


@dataclass(frozen=True)
class ErrorCode:
    """One error code, its status and an example message."""

    status: int
    message: str
    errors: dict[str, str] = field(default_factory=dict)
    state: str | None = None
    """The state of the invoice that the error is about."""
    permission: str | None = None
    """The permission that the key lacks."""


def _of(kind: type[e.LnpayError], message: str | None = None, **more: Any) -> ErrorCode:  # noqa: ANN401 - of ErrorCode
    """The code of an error class; `message` is an example if messages vary."""
    sentence = kind.public_message or message
    assert kind.http_status is not None and sentence is not None  # noqa: S101, PT018 - only errors that routes raise are listed
    return ErrorCode(kind.http_status, sentence, **more)


ERRORS: dict[str, ErrorCode] = {
    "invalid_request": _of(e.InvalidRequest, "amount_fiat is missing", errors={"amount_fiat": "is missing"}),
    "invalid_json": ErrorCode(400, "the body is not valid JSON"),
    "unauthorized": _of(e.Unauthorized, NEEDS_KEY),
    "signature_mismatch": _of(e.SignatureMismatch, "the signature does not match the body"),
    "permission_missing": _of(
        e.PermissionMissing, e.PermissionMissing(Permission.VIEW_INVOICES).message, permission=Permission.VIEW_INVOICES
    ),
    "not_found": _of(e.NotFound, "there is nothing at this address"),
    "webhook_endpoint_not_found": _of(e.NotFound, "there is no webhook endpoint with this id"),
    "too_many_endpoints": _of(e.Conflict, "there are 50 webhook endpoints: delete one first"),
    "already_paid": _of(e.OrderConflict, "this order is already paid: do not sell it again", state="settled"),
    "payment_pending": _of(
        e.OrderConflict,
        "a payment for this order was seen but is not final yet: wait before you sell the order again",
        state="expired",
    ),
    "expired": _of(
        e.OrderConflict,
        f"the invoice with this correlation_id has expired, and no payment is known: {ANOTHER_ATTEMPT}",
        state="expired",
    ),
    "paid_late": _of(
        e.OrderConflict,
        "the invoice with this correlation_id was paid after its deadline, and the payment is, or will be, refunded: "
        f"{ANOTHER_ATTEMPT}",
        state="paid_late",
    ),
    "amount_differs": _of(
        e.OrderConflict,
        "the open invoice with this correlation_id asks for 12.34 usd, not 20.00 usd: a different request needs a "
        "different correlation_id",
        state="unpaid",
    ),
    "correlation_id_taken": _of(
        e.OrderConflict,
        "this correlation_id was used for a request with a different description: repeat the original request, or "
        "use a new correlation_id",
        state="unpaid",
    ),
    "idempotency_key_reused": _of(
        e.OrderConflict,
        "this Idempotency-Key was used for a different request: repeat that request, or use a new key",
        state="unpaid",
    ),
    "idempotency_key_missing": _of(
        e.InvalidRequest,
        "the header Idempotency-Key is missing: send a new value, such as a UUID, with each refund, and the same value "
        "when you repeat a request",
        errors={"Idempotency-Key": "is missing"},
    ),
    "invoice_not_refundable": _of(e.Conflict, "this invoice is not paid: there is nothing to refund"),
    "refund_exceeds_received": _of(
        e.RefundExceedsReceived, "5,000 sats is more than the 1,200 sats of this invoice that can still be refunded"
    ),
    "refund_not_found": _of(e.NotFound, "there is no refund with this id"),
    "refund_state": _of(e.Conflict, "this refund was sent: it cannot be canceled any more"),
    "refund_owed": _of(e.Conflict, "LNPay owes this refund to the customer by its rules: it cannot be canceled"),
    "refund_unclear": _of(
        e.Conflict,
        "this refund may have been sent before the database was restored: the operator must look for it in Strike's "
        "dashboard first",
    ),
    "order_busy": _of(e.OrderConflict, "concurrent requests are changing this order: repeat the request"),
    "payload_too_large": ErrorCode(413, "the body is larger than 64 KiB"),
    "unsupported_media_type": ErrorCode(415, "send the body as JSON, with Content-Type: application/json"),
    "provider_rejected": _of(e.StrikeRejected),
    "provider_unavailable": _of(e.StrikeUnavailable),
    "rate_unavailable": _of(e.RateUnavailable, "no usable price is available"),
    "storage_unavailable": _of(e.StorageUnavailable, "the database is not available right now"),
    "unreadable_row": _of(e.UnreadableRow),
    "webhook_not_configured": ErrorCode(503, "WEBHOOK_SECRET is not set here"),
    "not_ready": ErrorCode(503, "the database does not respond; see the log"),
}
"""Every `code` that an operation below may return."""


def problem_example(code: str) -> dict[str, Any]:
    """An error body as the API returns it."""
    known = ERRORS[code]
    problem: dict[str, Any] = {"status": "error", "code": code, "message": known.message, "errors": known.errors}
    if known.permission is not None:
        return {**problem, "permission": known.permission}
    if known.state is None:
        return problem
    return {
        **problem,
        "state": known.state,
        "invoice_id": INVOICE_ID,
        "correlation_id": "order-1042",
        "checkout_url": "https://pay.shop.example/checkout/tJFDFF-ynntxIgBUDYHQfwn3d2QpYugk",
    }
