"""Each route of LNPay's own API, as the API document describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lnpay.domain.states import InvoiceState
from lnpay.web.api import answers as a
from lnpay.web.api.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from lnpay.web.api.refunds import RefundAnswer, RefundList
from lnpay.web.api.schemas import IDEMPOTENCY_KEY, KEY_PATTERN

Json = dict[str, Any]

SHOP, STRIKE, OPERATOR = "For your shop", "For Strike", "For the operator"


@dataclass(frozen=True)
class Operation:
    """One route: what it takes, what it gives, and the codes of its errors."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answer: Any = None
    content_type: str = "application/json"
    description: str = ""
    errors: tuple[str, ...] = ()
    request: Json | None = None
    security: str | None = None
    query: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, Json] = field(default_factory=dict)
    example: Json | None = None


_LIST_QUERY: dict[str, Json] = {
    "correlation_id": {"type": "string"},
    "order_id": {"type": "string"},
    "state": {"type": "string", "enum": list(InvoiceState)},
    "from": {"type": "string", "format": "date-time", "description": "Created at this time or later."},
    "to": {"type": "string", "format": "date-time", "description": "Created before this time."},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE},
    "cursor": {"type": "string", "description": "`next_cursor` of the previous page."},
}

_IDEMPOTENCY_KEY: dict[str, Json] = {
    IDEMPOTENCY_KEY: {
        "type": "string",
        "pattern": f"^{KEY_PATTERN}$",
        "description": "Without a `correlation_id`: the same key with the same request returns the same invoice.",
    }
}

_REFUND_KEY: dict[str, Json] = {
    IDEMPOTENCY_KEY: {
        "type": "string",
        "pattern": f"^{KEY_PATTERN}$",
        "required": True,
        "description": "A new value for each refund of the invoice, such as a UUID.",
    }
}

_PICTURE = ("not_found", "storage_unavailable", "unreadable_row")

_STRIKE_EVENT = {
    "required": True,
    "description": "Strike's event. It is only a hint: LNPay reads the object that it names from Strike.",
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {
                "id": "b8f4f5c6-1d0c-4d0c-9a6b-2a7ad6a0e0a1",
                "eventType": "invoice.updated",
                "webhookVersion": "v1",
                "data": {"entityId": a.INVOICE_ID, "changes": ["state"]},
                "created": "2026-01-01T00:00:42+00:00",
                "deliverySuccess": True,
            },
        }
    },
}

OPERATIONS = (
    Operation(
        "post",
        "/generate-invoice",
        "generateInvoice",
        SHOP,
        "Turn an order into a Lightning invoice",
        a.InvoiceMade,
        description="Repeating a request with its `correlation_id` returns the same open invoice. A different request "
        "with that `correlation_id`, or one for an invoice that is no longer open, is a conflict, and the answer says "
        "what state that invoice is in. After a cancelled invoice the same `correlation_id` gives a new one. "
        "Use `order_id` for an order that may need several attempts. The customer can pay until `expiration_time`.",
        errors=(
            "invalid_request",
            "invalid_json",
            "unauthorized",
            "permission_missing",
            "already_paid",
            "payment_pending",
            "expired",
            "paid_late",
            "amount_differs",
            "correlation_id_taken",
            "idempotency_key_reused",
            "order_busy",
            "payload_too_large",
            "unsupported_media_type",
            "provider_rejected",
            "provider_unavailable",
            "rate_unavailable",
            "storage_unavailable",
            "unreadable_row",
        ),
        request={
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/GenerateInvoice"}}},
        },
        security="apiKey",
        headers=_IDEMPOTENCY_KEY,
    ),
    Operation(
        "get",
        "/invoices",
        "findInvoices",
        SHOP,
        "List invoices, or find some by your own ids",
        (a.InvoiceStanding, a.OrderAttempts, a.InvoicePage),
        description="A page of the list, newest first. Follow `next_cursor` with the same filters: each page begins "
        "after the last invoice of the previous one, so invoices created meanwhile do not shift the pages. "
        "With `correlation_id` alone the answer is that of `GET /invoices/{invoice_id}`, or a 404. With `order_id` "
        "alone it lists every attempt at the order, which may be none.",
        errors=(
            "invalid_request",
            "unauthorized",
            "permission_missing",
            "not_found",
            "storage_unavailable",
            "unreadable_row",
        ),
        security="apiKey",
        query=_LIST_QUERY,
    ),
    Operation(
        "post",
        "/invoices/{invoice_id}/cancel",
        "cancelInvoice",
        SHOP,
        "Cancel an unpaid invoice",
        a.InvoiceStanding,
        description="Safe to repeat. If the customer has paid first, the payment wins and the answer is a 409 that "
        "says so. Strike does not document whether a payment request that was shown can still be paid; a payment that "
        "arrives anyway counts, in time or late, and is reported to your shop.",
        errors=(
            "unauthorized",
            "permission_missing",
            "not_found",
            "already_paid",
            "paid_late",
            "expired",
            "payment_pending",
            "provider_rejected",
            "provider_unavailable",
            "storage_unavailable",
            "unreadable_row",
        ),
        security="apiKey",
    ),
    Operation(
        "get",
        "/invoices/{invoice_id}",
        "showInvoice",
        SHOP,
        "Read an invoice",
        a.InvoiceStanding,
        description="There is no need to poll it: LNPay notifies your shop of every payment.",
        errors=("unauthorized", "permission_missing", "not_found", "storage_unavailable", "unreadable_row"),
        security="apiKey",
    ),
    Operation(
        "post",
        "/invoices/{invoice_id}/redeliver",
        "redeliverMessages",
        SHOP,
        "Send an invoice's messages again",
        a.MessagesDue,
        description="Each keeps its `webhook-id`, so that a shop recognises a message it already has. A message that "
        "is no longer true, such as the expiry of an invoice that was paid after all, is not sent.",
        errors=("unauthorized", "permission_missing", "not_found", "storage_unavailable", "unreadable_row"),
        security="apiKey",
    ),
    Operation(
        "post",
        "/invoices/{invoice_id}/refunds",
        "createRefund",
        SHOP,
        "Refund a paid order, in full or in part",
        RefundAnswer,
        description="The refund is sent automatically, within the limits of the operator. Several are possible; "
        "together, those that are not canceled never exceed what was received. Repeat a request with the same "
        "`Idempotency-Key` and body if its answer is lost: the refund is the same. Without `ln_address` send the "
        "customer the link `claim_url`.",
        errors=(
            "invalid_request",
            "invalid_json",
            "idempotency_key_missing",
            "unauthorized",
            "permission_missing",
            "not_found",
            "invoice_not_refundable",
            "refund_exceeds_received",
            "idempotency_key_reused",
            "payload_too_large",
            "unsupported_media_type",
            "rate_unavailable",
            "storage_unavailable",
            "unreadable_row",
        ),
        request={
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CreateRefund"}}},
        },
        security="requiredApiKey",
        headers=_REFUND_KEY,
    ),
    Operation(
        "get",
        "/invoices/{invoice_id}/refunds",
        "listRefunds",
        SHOP,
        "Every refund of an invoice",
        RefundList,
        description="Includes refunds of late payments.",
        errors=("unauthorized", "permission_missing", "not_found", "storage_unavailable", "unreadable_row"),
        security="requiredApiKey",
    ),
    Operation(
        "get",
        "/refunds/{refund_id}",
        "showRefund",
        SHOP,
        "One refund",
        RefundAnswer,
        errors=("unauthorized", "permission_missing", "refund_not_found", "storage_unavailable", "unreadable_row"),
        security="requiredApiKey",
    ),
    Operation(
        "post",
        "/refunds/{refund_id}/cancel",
        "cancelRefund",
        SHOP,
        "Cancel a refund that has not been sent",
        RefundAnswer,
        description="Safe to repeat. If it is already being sent, the answer is a 409. The amount of a canceled refund "
        "can be refunded again. A refund that LNPay owes by its rules, such as that of a late payment, cannot be "
        "canceled.",
        errors=(
            "unauthorized",
            "permission_missing",
            "refund_not_found",
            "refund_state",
            "refund_owed",
            "refund_unclear",
            "storage_unavailable",
            "unreadable_row",
        ),
        security="requiredApiKey",
    ),
    Operation(
        "get",
        "/webhook-endpoints",
        "listEndpoints",
        SHOP,
        "List the webhook endpoints",
        a.EndpointList,
        description="Those of plugins are included; DELIVERY_URL, which the operator sets, is not.",
        errors=("unauthorized", "permission_missing", "storage_unavailable"),
        security="requiredApiKey",
    ),
    Operation(
        "post",
        "/webhook-endpoints",
        "createEndpoint",
        SHOP,
        "Add an address to notify",
        a.CreatedEndpoint,
        description="It receives what happens from now on, in the messages below, signed with its own secret. The "
        "messages about one invoice arrive in order.",
        errors=(
            "invalid_request",
            "invalid_json",
            "unauthorized",
            "permission_missing",
            "too_many_endpoints",
            "payload_too_large",
            "unsupported_media_type",
            "storage_unavailable",
        ),
        request={
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CreateEndpoint"}}},
        },
        security="requiredApiKey",
    ),
    Operation(
        "delete",
        "/webhook-endpoints/{endpoint_id}",
        "deleteEndpoint",
        SHOP,
        "Remove an address",
        a.EndpointDeleted,
        description="Its undelivered messages are withdrawn.",
        errors=("unauthorized", "permission_missing", "webhook_endpoint_not_found", "storage_unavailable"),
        security="requiredApiKey",
    ),
    Operation(
        "get",
        "/invoices/{invoice_id}/qr.png",
        "showPng",
        SHOP,
        "Its QR code as PNG",
        content_type="image/png",
        errors=_PICTURE,
    ),
    Operation(
        "get",
        "/invoices/{invoice_id}/qr.svg",
        "showSvg",
        SHOP,
        "Its QR code as SVG",
        content_type="image/svg+xml",
        errors=_PICTURE,
    ),
    Operation(
        "post",
        "/webhook",
        "receiveEvent",
        STRIKE,
        "Receive an event from Strike",
        a.EventTaken,
        description="Called by Strike, signed with WEBHOOK_SECRET. The answer is 503 if the event could not be "
        "processed, so that Strike calls again; unknown invoices and other types of event are acknowledged.",
        errors=(
            "invalid_request",
            "signature_mismatch",
            "payload_too_large",
            "provider_unavailable",
            "storage_unavailable",
            "unreadable_row",
            "webhook_not_configured",
        ),
        request=_STRIKE_EVENT,
        security="strikeSignature",
    ),
    Operation("get", "/healthz", "showHealth", OPERATOR, "The process is up", a.Alive),
    Operation(
        "get",
        "/readyz",
        "showReadiness",
        OPERATOR,
        "The database answers and has the tables of this version",
        a.Alive,
        errors=("not_ready",),
    ),
    Operation(
        "get",
        "/metrics",
        "showMetrics",
        OPERATOR,
        "Figures for Prometheus",
        content_type="text/plain",
        description="What waits and since when, the price, the calls to Strike, the workers, the requests. Rules for "
        "alerts are in `deploy/prometheus`.",
        errors=("unauthorized",),
        security="metricsToken",
    ),
    Operation("get", "/", "showHome", SHOP, "What this server is", answer=a.Home),
    Operation("get", "/static/shop/logo", "showLogo", SHOP, "Your logo", content_type="image/*", errors=("not_found",)),
    Operation(
        "get",
        "/static/shop/style.css",
        "showStyle",
        SHOP,
        "Your colour",
        content_type="text/css",
        errors=("not_found",),
    ),
    Operation("get", "/openapi.json", "showOpenapi", SHOP, "This document", content_type="application/json"),
    Operation("get", "/docs", "showDocs", SHOP, "This document for people", content_type="text/html"),
)
"""What the document describes. A test holds it against the routes of the app."""
