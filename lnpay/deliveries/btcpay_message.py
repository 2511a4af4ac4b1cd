"""The messages of BTCPay Server, for shop plugins that use its Greenfield API.

The BTCPay events for each of LNPay's own, and the body of each. All fields are always present: plugins read them
without checking.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lnpay.domain.encoding.json_text import json_text
from lnpay.domain.events import BtcpayEventType as B
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.money import sats_to_btc

BTCPAY_EVENTS: Mapping[EventType, tuple[B, ...]] = {
    EventType.INVOICE_SETTLED: (B.RECEIVED_PAYMENT, B.PROCESSING, B.PAYMENT_SETTLED, B.INVOICE_SETTLED),
    EventType.INVOICE_EXPIRED: (B.INVOICE_EXPIRED,),
    # Plugins ship on any event that names a late payment, but this one is refunded, or undecided. They are only
    # told, once, that the invoice is over.
    EventType.INVOICE_PAID_LATE: (B.INVOICE_EXPIRED,),
}
"""The events that an endpoint of the btcpay form receives, in this order. It receives none about refunds."""

ACCEPTED_LATE_EVENTS = (B.RECEIVED_PAYMENT, B.PAYMENT_SETTLED)
"""What BTCPay Server sends when it keeps a late payment: both say `afterExpiration`, and the invoice stays expired."""

PAYMENT_METHOD = "BTC-LN"

TEST_INVOICE = "__test__"
"""The prefix of the invoice id in a test message."""


def btcpay_events(event_type: EventType, invoice: Invoice) -> tuple[B, ...]:
    """The BTCPay events, in order, that correspond to one of LNPay's own about `invoice`."""
    if event_type is EventType.INVOICE_SETTLED and invoice.accepted_by is not None:
        return ACCEPTED_LATE_EVENTS
    return BTCPAY_EVENTS.get(event_type, ())


def btcpay_body(
    name: B,
    invoice: Invoice,
    at: datetime,
    delivery_id: str,
    endpoint_id: str,
    store_id: str,
    original_id: str | None = None,
) -> str:
    """The JSON text of an event about `invoice`, stored once and sent unchanged on every attempt.

    at: when it happened. original_id: of a redelivery: the delivery that it repeats.
    """
    about = {"invoiceId": invoice.strike_invoice_id, "metadata": invoice.order.metadata}
    if original_id is not None:
        about = {"originalDeliveryId": original_id, "isRedelivery": True, **about}
    return _body(name, at, delivery_id, endpoint_id, store_id, {**about, **_details(name, invoice, at)})


def btcpay_test_body(at: datetime, delivery_id: str, endpoint_id: str, store_id: str) -> str:
    """The JSON text of a test message: about an invoice that does not exist."""
    about = {"invoiceId": f"{TEST_INVOICE}{delivery_id}{TEST_INVOICE}", "metadata": {}}
    return _body(B.INVOICE_CREATED, at, delivery_id, endpoint_id, store_id, about)


def _body(name: B, at: datetime, delivery_id: str, endpoint_id: str, store_id: str, about: Mapping[str, Any]) -> str:
    body = {
        "deliveryId": delivery_id,
        "webhookId": endpoint_id,
        "originalDeliveryId": delivery_id,
        "isRedelivery": False,
        "type": name,
        "timestamp": int(at.timestamp()),
        "storeId": store_id,
        **about,
    }
    return json_text(body)


def _details(name: B, invoice: Invoice, at: datetime) -> dict[str, Any]:
    if name in (B.RECEIVED_PAYMENT, B.PAYMENT_SETTLED):
        is_late = invoice.accepted_by is not None
        return {"afterExpiration": is_late, "paymentMethodId": PAYMENT_METHOD, "payment": payment_of(invoice, at)}
    if name is B.PROCESSING:
        return {"overPaid": False}
    if name is B.INVOICE_SETTLED:
        return {"manuallyMarked": False, "overPaid": False}
    if name is B.INVOICE_EXPIRED:
        return {"partiallyPaid": False}
    return {"manuallyMarked": True} if name is B.INVOICE_INVALID else {}


def payment_of(invoice: Invoice, at: datetime) -> dict[str, Any]:
    """The one payment of a settled invoice, as Greenfield shows it. at: when it was noticed, if it has no time."""
    return {
        "id": invoice.issue.payment_hash,
        "receivedDate": int((invoice.paid_at or at).timestamp()),
        "value": sats_to_btc(invoice.amount_sats),
        "fee": "0",
        "status": "Settled",
        "destination": invoice.issue.bolt11,
    }


def btcpay_signature(secret: str, content: bytes) -> str:
    """The header `BTCPay-Sig` for the exact bytes of a body."""
    return "sha256=" + hmac.digest(secret.encode(), content, hashlib.sha256).hex()
