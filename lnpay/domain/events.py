"""The events that LNPay sends to the shop, and their bodies.

Shops written for the first version read the top-level `status`, `message` and `invoice`; the rest follows Standard
Webhooks (`type`, `timestamp`, `data`). Only invoice.settled has the status "success", so a shop that checks nothing
else never ships an unpaid order.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from enum import StrEnum
from typing import Any

from lnpay.domain.encoding.json_text import json_text
from lnpay.domain.model import Invoice, Refund


class EventType(StrEnum):
    """The event types. DELIVERY_EVENTS chooses which are sent."""

    INVOICE_SETTLED = "invoice.settled"
    INVOICE_EXPIRED = "invoice.expired"
    INVOICE_PAID_LATE = "invoice.paid_late"
    REFUND_CREATED = "refund.created"
    INVOICE_UNDERPAID = "invoice.underpaid"
    REFUND_SENT = "refund.sent"
    REFUND_NEEDS_ADDRESS = "refund.needs_address"
    REFUND_CANCELED = "refund.canceled"


class BtcpayEventType(StrEnum):
    """The BTCPay Server events that LNPay sends to endpoints of that form.

    Shop plugins ship on those that name a payment. A late payment is named only once it is accepted.
    """

    INVOICE_CREATED = "InvoiceCreated"
    RECEIVED_PAYMENT = "InvoiceReceivedPayment"
    PROCESSING = "InvoiceProcessing"
    PAYMENT_SETTLED = "InvoicePaymentSettled"
    INVOICE_SETTLED = "InvoiceSettled"
    INVOICE_EXPIRED = "InvoiceExpired"
    INVOICE_INVALID = "InvoiceInvalid"


UNTRUE_ONCE_SETTLED = (
    EventType.INVOICE_EXPIRED,
    EventType.INVOICE_PAID_LATE,
    EventType.INVOICE_UNDERPAID,
    BtcpayEventType.INVOICE_EXPIRED,
    BtcpayEventType.INVOICE_INVALID,
)
"""Events that must not follow the message that an order is paid, because the shop would cancel it."""

WORDS = {
    EventType.INVOICE_SETTLED: ("success", "Payment processed successfully!"),
    EventType.INVOICE_EXPIRED: (
        "expired",
        "The time to pay has ended, or the invoice was cancelled; nothing was paid.",
    ),
    EventType.INVOICE_PAID_LATE: (
        "paid_late",
        "The payment was late, or not complete in time; it is being refunded.",
    ),
    EventType.INVOICE_UNDERPAID: (
        "underpaid",
        "Less than the price was paid so far; it is refunded unless the rest arrives in time.",
    ),
    EventType.REFUND_CREATED: ("refund_created", "A refund of this order was requested."),
    EventType.REFUND_SENT: ("refunded", "The refund was sent."),
    EventType.REFUND_NEEDS_ADDRESS: ("needs_address", "The refund needs a Lightning address from the customer."),
    EventType.REFUND_CANCELED: ("refund_canceled", "The refund was canceled; nothing of it was sent."),
}


HELD_LATE = "The payment came too late; it waits for your decision to accept or refund it."
"""The message of invoice.paid_late if LNPay does not refund the payment automatically."""


def new_webhook_id() -> str:
    """A new webhook-id; every attempt to deliver an event carries the same one."""
    return f"msg_{secrets.token_hex(16)}"


def event_body(
    event_type: EventType,
    invoice: Invoice,
    at: datetime,
    *,
    held: bool = False,
    refund: Refund | None = None,
    **more: int,
) -> str:
    """The JSON text for an event about `invoice`; `more` is added to its data. Stored once, sent as it is.

    held: a late payment waits for the operator's decision. refund: the one that it is about.
    """
    status, message = WORDS[event_type]
    if event_type is EventType.INVOICE_PAID_LATE:
        message = HELD_LATE if held else message
    data: dict[str, Any] = {
        "invoice_id": invoice.strike_invoice_id,
        "correlation_id": invoice.correlation_id,
        "order_id": invoice.order_id,
        "amount_fiat": format(invoice.order.amount_fiat, "f"),
        "currency": invoice.order.currency,
        "amount_sats": invoice.amount_sats,
        "settled_at": at.isoformat() if event_type is EventType.INVOICE_SETTLED else None,
        "metadata": invoice.order.metadata,
    }
    if invoice.accepted_by is not None:
        data["accepted_late"] = True
    if held:
        data["held"] = True
    if refund is not None:
        data["refund"] = {"id": refund.id, "kind": refund.kind, "amount_sats": refund.amount_sats}
    body = {
        "status": status,
        "message": message,
        "invoice": invoice.issue.bolt11,
        "type": event_type,
        "timestamp": at.isoformat(),
        "data": {**data, **more},
    }
    return json_text(body)


def body_of_test(at: datetime) -> str:
    """The JSON text of a test message."""
    return json_text(
        {
            "status": "test",
            "message": "A test: no order has changed.",
            "type": "test",
            "timestamp": at.isoformat(),
            "data": {},
        }
    )
