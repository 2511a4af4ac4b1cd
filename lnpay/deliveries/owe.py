"""Put messages to the shop into the outbox, in the transaction that makes their event true.

Each goes to the delivery hook, if DELIVERY_EVENTS names its type, and to every webhook endpoint subscribed to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType

from lnpay.deliveries.btcpay_message import btcpay_body, btcpay_events
from lnpay.domain.events import UNTRUE_ONCE_SETTLED, BtcpayEventType, EventType, event_body, new_webhook_id
from lnpay.domain.model import Invoice, Refund, WebhookEndpoint
from lnpay.domain.states import EndpointForm
from lnpay.repository import Transaction

NOTHING_MORE: Mapping[str, int] = MappingProxyType({})


def owe_delivery(
    tx: Transaction,
    events: frozenset[str],
    event_type: EventType,
    invoice: Invoice,
    now: datetime,
    *,
    held: bool = False,
    refund: Refund | None = None,
    more: Mapping[str, int] = NOTHING_MORE,
) -> None:
    """Owe the shop a message of `event_type` about `invoice`, wherever it subscribes to that type.

    Once per invoice, or once per refund for messages about one.
    events: the types that the delivery hook receives. held: a late payment waits for the operator's decision.
    more: further data of LNPay's own messages.
    """
    if event_type in events:
        body = event_body(event_type, invoice, now, held=held, refund=refund, **more)
        refund_id = 0 if refund is None else refund.id
        tx.deliveries.add(invoice.id, event_type, new_webhook_id(), body, now, refund_id=refund_id)
    for endpoint in tx.webhook_endpoints.enabled():
        _owe_endpoint(tx, endpoint, event_type, invoice, now, held=held, refund=refund, more=more)


def owe_refund_message(
    tx: Transaction, events: frozenset[str], event_type: EventType, refund: Refund, now: datetime
) -> None:
    """Owe the shop a message about `refund`, once. events: the types that the delivery hook receives."""
    invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    owe_delivery(tx, events, event_type, invoice, now, refund=refund)


def owe_settled(tx: Transaction, events: frozenset[str], invoice: Invoice, now: datetime) -> None:
    """Owe the shop the message that `invoice` is settled, and withdraw the one that it has expired.

    An expiry that arrives after the payment makes shops cancel a paid order. A message that is being sent right now
    cannot be stopped, so the new one waits until that is done: the last message that the shop receives is then the true
    one.
    """
    sending_until = tx.deliveries.withdraw(invoice.id, UNTRUE_ONCE_SETTLED)
    if EventType.INVOICE_SETTLED in events:
        body = event_body(EventType.INVOICE_SETTLED, invoice, now)
        due_at = max(now, sending_until.get(None, now))
        tx.deliveries.add(invoice.id, EventType.INVOICE_SETTLED, new_webhook_id(), body, now, due_at)
    for endpoint in tx.webhook_endpoints.enabled():
        due_at = max(now, sending_until.get(endpoint.id, now))
        _owe_endpoint(tx, endpoint, EventType.INVOICE_SETTLED, invoice, now, due_at)


def owe_created(tx: Transaction, invoice: Invoice, now: datetime) -> bool:
    """Owe endpoints the message that `invoice` is open; LNPay's own messages have none. False if none wants it."""
    endpoints = [one for one in tx.webhook_endpoints.enabled() if one.form is EndpointForm.BTCPAY]
    owed = [_owe_btcpay(tx, one, BtcpayEventType.INVOICE_CREATED, invoice, now, now) for one in endpoints]
    return any(owed)


def owe_marked_invalid(tx: Transaction, invoice: Invoice, now: datetime) -> bool:
    """Owe endpoints the message that the shop has marked `invoice` invalid. False when none wants it.

    Call it before `call_off`: BTCPay's plugins hear of an invalid invoice once, and not that it expired as well.
    """
    endpoints = [one for one in tx.webhook_endpoints.enabled() if one.form is EndpointForm.BTCPAY]
    owed = [_owe_btcpay(tx, one, BtcpayEventType.INVOICE_INVALID, invoice, now, now) for one in endpoints]
    return any(owed)


def _owe_endpoint(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    event_type: EventType,
    invoice: Invoice,
    now: datetime,
    due_at: datetime | None = None,
    *,
    held: bool = False,
    refund: Refund | None = None,
    more: Mapping[str, int] = NOTHING_MORE,
) -> None:
    if endpoint.form is EndpointForm.STANDARD:
        if endpoint.wants(event_type):
            body = event_body(event_type, invoice, now, held=held, refund=refund, **more)
            refund_id = 0 if refund is None else refund.id
            tx.deliveries.add(invoice.id, event_type, new_webhook_id(), body, now, due_at, endpoint.id, refund_id)
        return
    for name in btcpay_events(event_type, invoice):
        _owe_btcpay(tx, endpoint, name, invoice, now, due_at or now)


def _owe_btcpay(
    tx: Transaction,
    endpoint: WebhookEndpoint,
    name: BtcpayEventType,
    invoice: Invoice,
    now: datetime,
    due_at: datetime,
) -> bool:
    is_over_already = name is BtcpayEventType.INVOICE_EXPIRED and tx.deliveries.is_owed(
        invoice.id, BtcpayEventType.INVOICE_INVALID, endpoint.id
    )
    if not endpoint.wants(name) or is_over_already:
        return False
    webhook_id = new_webhook_id()
    body = btcpay_body(name, invoice, now, webhook_id, endpoint.public_id, tx.installation.make_store_id())
    return tx.deliveries.add(invoice.id, name, webhook_id, body, now, due_at, endpoint.id)
