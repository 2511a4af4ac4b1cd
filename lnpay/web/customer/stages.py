"""The stages of a payment and its refund, as the customer's page shows them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.states import PAYABLE, HoldCause, InvoiceState, RefundState
from lnpay.refunds.by_hand import has_claim_ended
from lnpay.repository.queries.payment_status import PaymentStatus


class Stage(StrEnum):
    """A stage. `GET /checkout/<token>/status` returns its value."""

    WAITING = "waiting"  # to be paid
    UNDERPAID = "underpaid"  # paid in part; the rest may still be paid
    UNDERPAID_OVER = "underpaid_over"  # paid in part when the time to pay ended: about to be refunded
    SEEN = "seen"  # a payment was seen but is not final
    PAID = "paid"  # paid in time
    EXPIRED = "expired"  # the time to pay is over
    CANCELLED = "cancelled"  # cancelled
    REFUNDING = "refunding"  # paid late: being refunded
    REFUND_HELD = "refund_held"  # the shop must approve the refund
    LATE_HELD = "late_held"  # paid too late: the shop accepts or refunds it
    NEEDS_ADDRESS = "needs_address"  # the customer must say where the money should go
    REFUNDED = "refunded"  # refunded
    REFUND_ENDED = "refund_ended"  # the refund was withdrawn, or its customer gave no address in time


REFUND_STAGES = {
    RefundState.HELD: Stage.REFUND_HELD,
    RefundState.NEEDS_ADDRESS: Stage.NEEDS_ADDRESS,
    RefundState.SENT: Stage.REFUNDED,
}
"""Every other state of a refund is REFUNDING."""


def refund_stage_of(refund: Refund, now: datetime) -> Stage:
    """The one word for a refund of an order that was paid in time."""
    return Stage.REFUND_ENDED if has_claim_ended(refund, now) else REFUND_STAGES.get(refund.state, Stage.REFUNDING)


def payment_status_of(invoice: Invoice, refund: Refund | None, partial_sats: int = 0) -> PaymentStatus:
    """The payment status of an invoice and its refund. partial_sats: what was received of the price so far."""
    refund_state, held_because = (None, None) if refund is None else (refund.state, refund.held_because)
    times, sats = (invoice.seen_at, invoice.expires_at), (invoice.amount_sats, partial_sats)
    return PaymentStatus(invoice.state, *times, refund_state, held_because, *sats)


def stage_of(payment_status: PaymentStatus, now: datetime) -> Stage:
    """The stage of a payment."""
    if payment_status.state is InvoiceState.SETTLED:
        return Stage.PAID
    if payment_status.refund_state is RefundState.HELD and payment_status.held_because is HoldCause.LATE_PAYMENT:
        return Stage.LATE_HELD
    if payment_status.refund_state is not None:
        return REFUND_STAGES.get(payment_status.refund_state, Stage.REFUNDING)
    if payment_status.seen_at is not None and payment_status.state in PAYABLE:
        return Stage.SEEN
    if payment_status.state is InvoiceState.CANCELLED:
        return Stage.CANCELLED
    # The deadline counts at once, even before a worker records it.
    is_open = payment_status.state is InvoiceState.UNPAID and now <= payment_status.expires_at
    if payment_status.partial_sats and payment_status.state in PAYABLE:
        return Stage.UNDERPAID if is_open else Stage.UNDERPAID_OVER
    return Stage.WAITING if is_open else Stage.EXPIRED


def is_final(payment_status: PaymentStatus) -> bool:
    """Whether the stage can no longer change, so that the page can stop polling."""
    if payment_status.state is InvoiceState.PAID_LATE:
        return payment_status.refund_state is RefundState.SENT
    return payment_status.state is InvoiceState.SETTLED
