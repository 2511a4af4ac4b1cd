"""Putting a message to the shop into the outbox, in the transaction that makes it true."""

from __future__ import annotations

from datetime import datetime

from lnpay.events import EventType, event_body, new_webhook_id
from lnpay.model import Invoice
from lnpay.repository import Transaction


def owe_delivery(
    tx: Transaction, events: frozenset[str], event_type: EventType, invoice: Invoice, now: datetime
) -> None:
    """Owe the shop a message of `event_type` about `invoice`, if it wants to be told of such; once per invoice."""
    if event_type in events:
        tx.deliveries.add(invoice.id, event_type, new_webhook_id(), event_body(event_type, invoice, now), now)
