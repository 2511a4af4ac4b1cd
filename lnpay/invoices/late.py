"""Decide about payments after the deadline: by LATE_PAYMENTS, or by the operator if they are held.

Accepting and refunding exclude each other in the database:
- Automatically: one conditional update moves the invoice from a payable state either to SETTLED or to PAID_LATE. Only
  the latter adds a refund, in the same commit.
- By the operator: a conditional update moves the refund of a held payment out of HELD once, either to be sent or to
  CANCELED. The latter also moves the invoice to SETTLED, in the same commit.

A payment is never accepted if it may already have been refunded: before a restore that lost the record, or by another
copy of the database. Refunding it is safe, because such a refund is held until the operator has checked with Strike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from lnpay.deliveries.owe import owe_settled
from lnpay.domain.errors import Conflict, NotFound, RateUnavailable
from lnpay.domain.model import Hold, Invoice, Rate
from lnpay.domain.states import (
    PAYABLE,
    Accepter,
    HoldCause,
    InvoiceState,
    LatePayments,
    RefundState,
    RefundStep,
)
from lnpay.refunds.overpaid import owe_beyond_price
from lnpay.repository import Repository, Transaction

log = logging.getLogger(__name__)

PRICE_PATIENCE = timedelta(minutes=5)
"""How long after the payment LNPay waits for a trustworthy price, before it refunds the payment."""

PRICE_SECONDS = 15.0
"""How long a worker waits for one fetch of the price."""

HURRIED_PRICE_SECONDS = 1.0
"""How long a webhook call waits for it: Strike repeats a call that is not answered within five seconds."""

DECIDE = (
    "paid late: accept it with python main.py refunds accept, if you still deliver the order at this price; "
    "otherwise refund it with refunds approve"
)


@dataclass(frozen=True)
class LateRules:
    """The settings LATE_PAYMENTS and LATE_ACCEPT_PERCENT.

    price_within: called with a currency, a timeout in seconds and a time; returns the price of one bitcoin. A price
    that another server shared must be newer than that time. Raises RateUnavailable. Needed for LATE_PAYMENTS=accept
    only.
    """

    payments: LatePayments = LatePayments.REFUND
    accept_percent: Decimal = Decimal(1)
    price_within: Callable[[str, float, datetime], Rate] | None = None


@dataclass(frozen=True)
class LateVerdict:
    """The decision on one late payment. price: of one bitcoin, if that is why it is accepted. why: the reason for a
    refund, for people to read; empty if refunding is the policy.
    """

    decision: LatePayments
    price: Decimal | None = None
    why: str = ""

    @property
    def hold(self) -> Hold | None:
        """Why the refund is held, if it is."""
        return Hold(HoldCause.LATE_PAYMENT, DECIDE) if self.decision is LatePayments.HOLD else None


def price_for_late(
    repository: Repository,
    rules: LateRules,
    strike_invoice_id: str,
    paid_at: datetime | None,
    now: datetime,
    seconds: float,
) -> Rate | None:
    """The current price, if a late payment may be accepted at it. Call it outside any transaction: it may fetch.

    None if no price is needed, or if none could be had for too long.
    Raises RateUnavailable while the price is worth waiting for.
    """
    if rules.payments is not LatePayments.ACCEPT or rules.price_within is None or paid_at is None:
        return None
    with repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
    if invoice is None or invoice.state not in PAYABLE or paid_at <= invoice.expires_at:
        return None
    try:
        rate = rules.price_within(invoice.order.currency, seconds, invoice.rate.as_of)
        return _newer_than_sale(rate, invoice)
    except RateUnavailable:
        if now - paid_at < PRICE_PATIENCE:
            raise
        log.warning("late payment is judged without a price invoice_id=%s", strike_invoice_id)
        return None


def _newer_than_sale(rate: Rate, invoice: Invoice) -> Rate:
    """Return `rate`. Raises RateUnavailable if it is no newer than the price of the sale."""
    if rate.as_of <= invoice.rate.as_of:
        raise RateUnavailable("there is no newer price than that of the sale", retry_after_seconds=5)
    return rate


def judge_late(
    tx: Transaction, rules: LateRules, invoice: Invoice, received_sats: int, rate: Rate | None
) -> LateVerdict:
    """Decide about a late payment. Call it in the transaction that acts on the decision.

    rate: the current price. Without one the payment is not accepted, because a refund costs the shop only the fee.
    """
    if rules.payments is LatePayments.REFUND:
        return LateVerdict(LatePayments.REFUND)
    tx.invoices.take_turn_accepting()
    why = _why_never(tx, invoice, received_sats)
    if why is not None:
        return LateVerdict(LatePayments.REFUND, why=why)
    if rules.payments is LatePayments.HOLD:
        return LateVerdict(LatePayments.HOLD)
    if rate is None:
        return LateVerdict(LatePayments.REFUND, why="not accepted: no price of bitcoin could be trusted")
    if _has_fallen(invoice.rate.price, rate.price, rules.accept_percent):
        why = (
            f"not accepted: one bitcoin was worth {invoice.rate.price:,f} {invoice.order.currency.upper()} at the sale "
            f"and is now worth {rate.price:,f}; LATE_ACCEPT_PERCENT is {rules.accept_percent:f}"
        )
        return LateVerdict(LatePayments.REFUND, why=why)
    return LateVerdict(LatePayments.ACCEPT, price=rate.price)


def _has_fallen(sold_at: Decimal, now_at: Decimal, percent: Decimal) -> bool:
    """Whether the price has fallen by `percent` or more, so that the sats received are worth less to the shop."""
    fall = sold_at - now_at
    return fall > 0 and fall * 100 >= sold_at * percent


def _why_never(tx: Transaction, invoice: Invoice, received_sats: int) -> str | None:
    """Why this payment must not be accepted, by rule or by the operator; None if it may be."""
    if invoice.marked_invalid_at is not None or invoice.state is InvoiceState.CANCELLED:
        return "not accepted: the invoice was cancelled before it was paid"
    if received_sats < invoice.amount_sats:
        return f"not accepted: {received_sats:,} sats is less than the {invoice.amount_sats:,} sats asked for"
    settled = tx.attempts.settled_of_any(invoice.order_id)
    if settled is not None and settled.id != invoice.id:
        return f"not accepted: the order was paid already, with invoice {settled.strike_invoice_id}"
    if tx.restores.covering(invoice.id) is not None:
        return "not accepted: it may have been refunded before the database was restored or copied"
    return None


def accept_late_payment(
    repository: Repository, strike_invoice_id: str, events: frozenset[str], now: datetime
) -> Invoice:
    """Accept a held late payment for the operator: the order is settled, and nothing is refunded.

    Safe to repeat: an invoice whose payment is already accepted is returned. events: those of the delivery hook.
    Raises NotFound; Conflict if it is not held for a decision, or may not be accepted.
    """
    with repository.transaction() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        if invoice is None:
            raise NotFound("there is no such invoice")
        if invoice.accepted_by is not None:
            return invoice
        refund = tx.refunds.find_late(invoice.id)
        is_held = refund is not None and refund.state is RefundState.HELD
        if refund is None or not is_held or refund.held_because is not HoldCause.LATE_PAYMENT:
            raise Conflict("no late payment of this invoice waits for a decision", code="refund_state")
        tx.invoices.take_turn_accepting()
        # Only this payment counts: later ones are owed back separately.
        why = _why_never(tx, invoice, refund.amount_sats)
        if why is not None:
            raise Conflict(f"{why}; refund it with refunds approve", code="refund_state")
        canceled = tx.refund_requests.cancel_accepted(refund, now)
        if canceled is None or not tx.invoices.accept_late(invoice.id, now):
            # Raised inside the transaction, so that neither row moves.
            raise Conflict("it was decided at the same moment: look at it again", code="refund_state")
        tx.refunds.note(canceled, now, RefundStep.BY_HAND, "the operator accepted the late payment")
        settled = replace(invoice, state=InvoiceState.SETTLED, settled_at=now, accepted_by=Accepter.OPERATOR)
        owe_settled(tx, events, settled, now)
        owe_beyond_price(tx, events, settled, tx.receives.every_of(invoice.id), now)
    log.info("late payment accepted invoice_id=%s by=operator", strike_invoice_id)
    return settled
