"""What the customer's page says: one word for where the payment, or the refund of it, stands."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from lnpay.domain.model import Invoice, Refund
from lnpay.domain.states import PAYABLE, InvoiceState, RefundState
from lnpay.repository.queries.payment_status import Standing


class Stage(StrEnum):
    """The customer's words. `GET /checkout/<token>/status` answers with one of them."""

    WAITING = "waiting"  # to be paid
    SEEN = "seen"  # money was seen, it is not final yet
    PAID = "paid"  # in time
    EXPIRED = "expired"  # the time to pay is over
    CANCELLED = "cancelled"  # it was called off
    REFUNDING = "refunding"  # paid too late: the money is on its way back
    REFUND_HELD = "refund_held"  # the shop must approve the refund
    NEEDS_ADDRESS = "needs_address"  # the customer must say where the money should go
    REFUNDED = "refunded"  # it is back


REFUND_STAGES = {
    RefundState.HELD: Stage.REFUND_HELD,
    RefundState.NEEDS_ADDRESS: Stage.NEEDS_ADDRESS,
    RefundState.SENT: Stage.REFUNDED,
}
"""Every other state of a refund is REFUNDING."""


def standing_of(invoice: Invoice, refund: Refund | None) -> Standing:
    """What two whole records say about where a payment stands."""
    return Standing(invoice.state, invoice.seen_at, invoice.expires_at, None if refund is None else refund.state)


def stage_of(standing: Standing, now: datetime) -> Stage:
    """The one word for a payment."""
    if standing.state is InvoiceState.SETTLED:
        return Stage.PAID
    if standing.refund_state is not None:
        return REFUND_STAGES.get(standing.refund_state, Stage.REFUNDING)
    if standing.seen_at is not None and standing.state in PAYABLE:
        return Stage.SEEN
    if standing.state is InvoiceState.CANCELLED:
        return Stage.CANCELLED
    # The page does not wait for a worker to say that the time is over.
    is_open = standing.state is InvoiceState.UNPAID and now <= standing.expires_at
    return Stage.WAITING if is_open else Stage.EXPIRED


def is_final(standing: Standing) -> bool:
    """Whether nothing will ever change any more, so that nobody need ask again."""
    if standing.state is InvoiceState.PAID_LATE:
        return standing.refund_state is RefundState.SENT
    return standing.state is InvoiceState.SETTLED
