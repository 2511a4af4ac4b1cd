"""Use cases: detect payments and act on them. Webhook and workers both call `settle`.

The time of the payment decides, not the time at which LNPay noticed it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from lnpay.deliveries.owe import owe_delivery, owe_settled
from lnpay.domain.addresses import refund_address
from lnpay.domain.errors import RateUnavailable
from lnpay.domain.events import EventType
from lnpay.domain.model import Clock, Invoice, Rate
from lnpay.domain.states import (
    PAYABLE,
    UNWATCHED,
    WATCHED,
    Accepter,
    InvoiceState,
    LatePayments,
    RefundStep,
)
from lnpay.http.outgoing import Timeout
from lnpay.invoices.late import PRICE_SECONDS, LateRules, LateVerdict, judge_late, price_for_late
from lnpay.refunds.keys import late_key
from lnpay.repository import Repository, Transaction
from lnpay.strike.client import DEFAULT_TIMEOUT, Strike
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """The result of checking one invoice."""

    SETTLED = "settled"
    PAID_LATE = "paid_late"
    NOT_PAID = "not_paid"
    NOT_FINAL = "not_final"  # payment seen, not final yet
    CANCELLED = "cancelled"  # cancelled or reversed at Strike
    ALREADY = "already"  # known before


_UNPAID_OUTCOMES = {
    InvoiceStatus.UNPAID: Outcome.NOT_PAID,
    InvoiceStatus.PENDING: Outcome.NOT_FINAL,
    InvoiceStatus.CANCELLED: Outcome.CANCELLED,
    InvoiceStatus.REVERSED: Outcome.CANCELLED,
}


IN_TIME = LateVerdict(LatePayments.ACCEPT)

NOTHING_RECEIVED = LateVerdict(
    LatePayments.HOLD, why="Strike says that it was paid with 0 sats: look at it in Strike's dashboard first"
)
"""Refunding the amount asked for would send money that may never have arrived."""


@dataclass(frozen=True)
class SettlementContext:
    """Everything needed to detect payments. `events`: the event types that the shop subscribes to."""

    repository: Repository
    strike: Strike
    clock: Clock
    events: frozenset[str]
    stop: threading.Event
    late: LateRules = field(default_factory=LateRules)


def settle(context: SettlementContext, seen: StrikeInvoice, *, price_seconds: float = PRICE_SECONDS) -> Outcome:
    """Bring our row in line with Strike's state of an invoice. Safe to repeat, in any order and concurrently.

    Paid in time: SETTLED; the shop is owed a message, and an unsent message that the invoice expired is withdrawn. Paid
    late: PAID_LATE; the customer is owed a refund, unless LATE_PAYMENTS says otherwise (see `late`). Cancelled while
    unpaid: CANCELLED; the shop is owed the message that the invoice is over. What is owed is stored in the commit that
    makes the move, and therefore exactly once.
    price_seconds: how long to wait for the price at which a late payment may be accepted. Returns NOT_FINAL if it is
    not known by then.
    """
    now = context.clock()
    if seen.status is not InvoiceStatus.PAID:
        _note_seen(context, seen, now)
        if seen.status is InvoiceStatus.CANCELLED:
            _note_cancelled(context, seen, now)
        return _UNPAID_OUTCOMES[seen.status]
    try:
        price = price_for_late(context.repository, context.late, seen.invoice_id, seen.paid_at, now, price_seconds)
    except RateUnavailable as error:
        log.warning("late payment waits for a price invoice_id=%s error=%s", seen.invoice_id, error.message)
        return Outcome.NOT_FINAL
    return _settle_paid(context, seen, price, now)


def _settle_paid(context: SettlementContext, seen: StrikeInvoice, price: Rate | None, now: datetime) -> Outcome:
    with context.repository.transaction() as tx:
        invoice = tx.invoices.find_by_strike_id(seen.invoice_id)
        if invoice is None:
            return _note_pruned(tx, seen, now)
        if invoice.state not in PAYABLE:
            return Outcome.ALREADY
        paid_at = _paid_at(invoice, seen, now)
        received_sats = seen.received_sats or invoice.amount_sats
        if paid_at <= invoice.expires_at:
            verdict = IN_TIME
        elif seen.received_sats == 0:
            verdict = NOTHING_RECEIVED
        else:
            verdict = judge_late(tx, context.late, invoice, received_sats, price)
        paid = record_paid(context, tx, invoice, verdict, paid_at=paid_at, received_sats=received_sats, at=now)
        if paid is None:
            # Another call settled it first, or the invoice was deleted in between.
            return _note_pruned(tx, seen, now)
    if invoice.state in UNWATCHED:
        log.warning("%s invoice was paid invoice_id=%s", invoice.state, invoice.strike_invoice_id)
    how = "" if paid.accepted_by is None else " accepted late"
    log.info("invoice %s invoice_id=%s received_sats=%d%s", paid.state, invoice.strike_invoice_id, received_sats, how)
    return Outcome(paid.state.value)


def record_paid(
    context: SettlementContext,
    tx: Transaction,
    invoice: Invoice,
    verdict: LateVerdict,
    *,
    paid_at: datetime,
    received_sats: int,
    at: datetime,
) -> Invoice | None:
    """Move an invoice to SETTLED, or to PAID_LATE if `verdict` does not accept the payment, and store what that owes.

    received_sats: of all its payments. at: when the payment was noticed. Returns the invoice as it is now, or None if
    it is no longer in a payable state.
    """
    new = InvoiceState.SETTLED if verdict.decision is LatePayments.ACCEPT else InvoiceState.PAID_LATE
    if not tx.invoices.mark_paid(
        invoice.id, new, paid_at=paid_at, received_sats=received_sats, at=at, accepted_price=verdict.price
    ):
        return None
    accepter = None if verdict.price is None else Accepter.RULE
    paid = replace(invoice, state=new, paid_at=paid_at, received_sats=received_sats, accepted_by=accepter)
    if new is InvoiceState.SETTLED:
        owe_settled(tx, context.events, paid, at)
    else:
        _owe_late_refund(context, tx, paid, verdict, at)
    return paid


def _note_pruned(tx: Transaction, seen: StrikeInvoice, now: datetime) -> Outcome:
    """Record the payment of a deleted invoice for the operator to resolve. Does nothing for any other invoice."""
    if tx.pruned.mark_paid(seen.invoice_id, received_sats=seen.received_sats, at=now):
        log.error("deleted invoice was paid, check it at strike invoice_id=%s", seen.invoice_id)
    return Outcome.ALREADY


def _note_seen(context: SettlementContext, seen: StrikeInvoice, now: datetime) -> None:
    """Record that a payment was seen, for the customer's page, or that it is no longer pending."""
    is_seen = seen.status is InvoiceStatus.PENDING
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(seen.invoice_id)
    if invoice is None or invoice.state not in PAYABLE or is_seen == (invoice.seen_at is not None):
        return
    with context.repository.transaction() as tx:
        tx.invoices.mark_seen(invoice.id, now if is_seen else None)


def _note_cancelled(context: SettlementContext, seen: StrikeInvoice, now: datetime) -> None:
    with context.repository.transaction() as tx:
        invoice = tx.invoices.find_by_strike_id(seen.invoice_id)
        if invoice is None or invoice.state not in WATCHED:
            return
        is_moved = call_off(tx, context.events, invoice, now)
    if is_moved:
        log.info("invoice cancelled invoice_id=%s", seen.invoice_id)


def call_off(tx: Transaction, events: frozenset[str], invoice: Invoice, now: datetime) -> bool:
    """Move a watched invoice to CANCELLED. The shop is owed an expiry message, unless one is owed already.

    False if the invoice has moved since it was read.
    """
    is_moved = tx.invoices.cancel(invoice.id, invoice.state)
    if is_moved:
        owe_delivery(tx, events, EventType.INVOICE_EXPIRED, invoice, now)
    return is_moved


def _paid_at(invoice: Invoice, seen: StrikeInvoice, now: datetime) -> datetime:
    """When the payment was made. If Strike gives no payment time, assume the payment was on time."""
    if seen.paid_at is not None:
        return seen.paid_at
    log.warning("paid invoice has no payment time invoice_id=%s", invoice.strike_invoice_id)
    return min(now, invoice.expires_at)


def _owe_late_refund(
    context: SettlementContext, tx: Transaction, invoice: Invoice, verdict: LateVerdict, now: datetime
) -> None:
    """Owe the customer a refund of a late payment, or hold it for the operator, and owe the shop the message."""
    address, hold = refund_address(invoice.order.ln_address), verdict.hold
    assert invoice.received_sats is not None  # noqa: S101 - it was paid a moment ago
    tx.refunds.add(
        invoice.id,
        received_sats=invoice.received_sats,
        address=address,
        token=secrets.token_urlsafe(24),
        key=late_key(invoice.strike_invoice_id),
        created_at=now,
        hold=hold,
    )
    refund = tx.refunds.find_late(invoice.id)
    if refund is not None and (hold is not None or verdict.why):
        tx.refunds.note(refund, now, RefundStep.POLICY, verdict.why or "held: the operator decides")
    if address is None and hold is None:
        owe_delivery(tx, context.events, EventType.REFUND_NEEDS_ADDRESS, invoice, now, refund=refund)
    owe_delivery(tx, context.events, EventType.INVOICE_PAID_LATE, invoice, now, held=hold is not None)


def reconcile_invoice(
    context: SettlementContext,
    strike_invoice_id: str,
    *,
    timeout: Timeout = DEFAULT_TIMEOUT,
    price_seconds: float = PRICE_SECONDS,
) -> Outcome:
    """Read one invoice at Strike and settle accordingly. Raises StrikeError if Strike cannot say."""
    seen = context.strike.get_invoice(strike_invoice_id, timeout=timeout)
    return settle(context, seen, price_seconds=price_seconds)
