"""Handle one signed call from Strike: read the entity that it names, and settle accordingly.

The body is only a hint: it says which entity changed, but its content is not trusted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from lnpay.domain.errors import InvalidRequest, StrikeUnavailable
from lnpay.domain.receives import Receive
from lnpay.domain.states import PAYABLE, InvoiceState, RefundState
from lnpay.invoices.late import HURRIED_PRICE_SECONDS
from lnpay.invoices.receives import reconcile_request
from lnpay.invoices.settle import Outcome, SettlementContext, reconcile_invoice
from lnpay.refunds.outcomes import RefundSender
from lnpay.refunds.send import reconcile_payment
from lnpay.strike.client import WEBHOOK_TIMEOUT
from lnpay.strike.reading import READS_LAG, parse_time
from lnpay.strike.receive_requests import RECEIVE_COMPLETED

log = logging.getLogger(__name__)

Event = Mapping[str, object]
"""The JSON of a webhook."""

MANY_PAYMENTS = 20
"""Events of an invoice with this many payments are left to the workers: each event costs a call to Strike, and one
customer can make any number of one-sat payments.
"""

DOCTOR_EVENT = b'{"eventType": "lnpay.doctor", "data": {}}'
"""A test call from the doctor, signed like Strike's. It does nothing; the answer shows which proxies it passed."""


def receive_event(context: SettlementContext, sender: RefundSender, body: bytes) -> Outcome | RefundState | None:
    """Act on a verified webhook body. None if the event does not concern us.

    Raises InvalidRequest if it is not an event; StrikeError if its entity could not be read, or the invoice is not
    final at Strike yet. Strike then repeats the event: an installation without workers has no other trigger.
    """
    event = _parse(body)
    data = event.get("data")
    entity_id = data.get("entityId") if isinstance(data, dict) else None
    if not isinstance(entity_id, str):
        return None
    if event.get("eventType") in ("payment.created", "payment.updated"):
        return reconcile_payment(sender, entity_id, timeout=WEBHOOK_TIMEOUT)
    if event.get("eventType") == RECEIVE_COMPLETED:
        return _receive_request(context, entity_id, event)
    return _receive_invoice(context, entity_id, event) if event.get("eventType") == "invoice.updated" else None


def _receive_request(context: SettlementContext, request_id: str, event: Event) -> Outcome | None:
    """A payment of a receive request is final. One that is already stored, or another program's, needs no call.

    An invoice that is paid is read too: it may have been paid again.
    """
    data = event.get("data")
    receive_id = data.get("receiveId") if isinstance(data, dict) else None
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(request_id)
        is_pruned = invoice is None and bool(tx.pruned.unpaid_among([request_id]))
        is_known = isinstance(receive_id, str) and tx.receives.is_known(receive_id)
        before = 0 if invoice is None else len(tx.receives.of(invoice.id))
    if is_known or before >= MANY_PAYMENTS or (invoice is None and not is_pruned):
        return None
    outcome = reconcile_request(context, request_id, timeout=WEBHOOK_TIMEOUT, price_seconds=HURRIED_PRICE_SECONDS)
    with context.repository.reading() as tx:
        if invoice is None:
            may_be_missing = bool(tx.pruned.unpaid_among([request_id]))
        elif isinstance(receive_id, str):
            may_be_missing = not tx.receives.is_known(receive_id)
        else:
            may_be_missing = _may_be_missing(context, event, tx.receives.of(invoice.id)[before:])
    if may_be_missing:
        raise StrikeUnavailable("the payment is not final yet", retry_after_seconds=3)
    return outcome


def _receive_invoice(context: SettlementContext, entity_id: str, event: Event) -> Outcome | None:
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(entity_id)
        is_pruned = invoice is None and bool(tx.pruned.unpaid_among([entity_id]))
    if not is_pruned and (invoice is None or invoice.state not in PAYABLE):
        return None
    outcome = reconcile_invoice(context, entity_id, timeout=WEBHOOK_TIMEOUT, price_seconds=HURRIED_PRICE_SECONDS)
    may_lag = _may_reads_lag(context, event)
    if is_pruned and outcome is Outcome.NOT_PAID and not may_lag:
        return None
    is_no_news = outcome is Outcome.CANCELLED and (invoice is None or invoice.state is InvoiceState.CANCELLED)
    if outcome in (Outcome.NOT_PAID, Outcome.NOT_FINAL) or (is_no_news and may_lag):
        raise StrikeUnavailable("the invoice is not final yet", retry_after_seconds=3)
    return outcome


def _may_be_missing(context: SettlementContext, event: Event, new: Sequence[Receive]) -> bool:
    """Whether reads may not show the payment of an event without a receiveId yet. new: those just stored.

    One of `new` that was made at about the event's time is taken for it. An older one may be another payment, whose own
    event is late or lost.
    """
    created_at = _created_at(event)
    if created_at is None:
        return not new
    return _may_reads_lag(context, event) and all(abs(created_at - one.paid_at) >= READS_LAG for one in new)


def _may_reads_lag(context: SettlementContext, event: Event) -> bool:
    """Whether Strike may have shown the entity as it was before this event. True if the event has no time."""
    created_at = _created_at(event)
    return created_at is None or context.strike.time.now() - created_at < READS_LAG


def _created_at(event: Event) -> datetime | None:
    try:
        return parse_time(event.get("created"))
    except (ValueError, TypeError):
        return None


def _parse(body: bytes) -> Event:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not valid JSON") from error
    if not isinstance(event, dict):
        raise InvalidRequest("the body is not an event")
    return event
