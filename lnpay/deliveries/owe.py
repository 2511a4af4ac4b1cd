"""Put a message to the shop into the outbox, in the transaction that makes its event true."""

from __future__ import annotations

from datetime import datetime

from lnpay.domain.events import EventType, event_body, new_webhook_id
from lnpay.domain.model import Invoice
from lnpay.repository import Transaction


def owe_delivery(
    tx: Transaction, events: frozenset[str], event_type: EventType, invoice: Invoice, now: datetime
) -> None:
    """Owe the shop a message of `event_type` about `invoice`, if it subscribes to that type; once per invoice."""
    if event_type in events:
        tx.deliveries.add(invoice.id, event_type, new_webhook_id(), event_body(event_type, invoice, now), now)


def owe_settled(tx: Transaction, events: frozenset[str], invoice: Invoice, now: datetime) -> None:
    """Owe the shop the message that `invoice` is settled, and withdraw the one that it has expired.

    An expiry that arrives after the payment makes shops cancel a paid order. A message that is being sent right now
    cannot be stopped, so the new one waits until that is over: the last message that the shop receives is the true one.
    """
    sending_until = tx.deliveries.withdraw(invoice.id, EventType.INVOICE_EXPIRED)
    if EventType.INVOICE_SETTLED in events:
        body = event_body(EventType.INVOICE_SETTLED, invoice, now)
        due_at = now if sending_until is None else max(now, sending_until)
        tx.deliveries.add(invoice.id, EventType.INVOICE_SETTLED, new_webhook_id(), body, now, due_at)
