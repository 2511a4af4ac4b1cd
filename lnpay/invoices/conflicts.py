"""Why a request for an invoice conflicts with the stored one, and what the shop can do about it.

The state of the stored invoice is checked before any difference: a paid order must never be sold again.
"""

from __future__ import annotations

from datetime import datetime

from lnpay.domain.errors import OrderConflict
from lnpay.domain.model import Invoice, Order
from lnpay.domain.states import WATCHED, InvoiceState
from lnpay.refunds.merchant import is_undecided
from lnpay.repository import Transaction

ANOTHER_ATTEMPT = "for another attempt, send a new correlation_id with the same order_id"

_BY_STATE = {
    InvoiceState.SETTLED: ("already_paid", "this order is already paid: do not sell it again"),
    InvoiceState.PAID_LATE: (
        "paid_late",
        "the invoice with this correlation_id was paid after its deadline, and the payment is, or will be, refunded: "
        f"{ANOTHER_ATTEMPT}",
    ),
    InvoiceState.EXPIRED: (
        "expired",
        f"the invoice with this correlation_id has expired, and no payment is known: {ANOTHER_ATTEMPT}",
    ),
    InvoiceState.LAPSED: (
        "expired",
        f"the invoice with this correlation_id can no longer be paid, and no payment is known: {ANOTHER_ATTEMPT}",
    ),
}
"""Code and message for each state that is not open."""

_UNDECIDED = (
    "paid_late",
    "the invoice with this correlation_id was paid after its deadline, and the operator has yet to accept or refund "
    "the payment: do not sell the order again before that",
)

_PENDING = (
    "payment_pending",
    "a payment for this order was seen but is not final yet: wait before you sell the order again",
)

_MAY_BE_PENDING = (InvoiceState.UNPAID, InvoiceState.EXPIRED, InvoiceState.CANCELLED)

_NAMES = ("description", "ln_address", "return_url", "retry_url", "metadata", "order_id", "expires_in")
"""The fields, besides the amount, that must be the same in a repeated request."""


def already_paid(invoice: Invoice) -> OrderConflict:
    """The error for an order that has been paid already, with `invoice`."""
    code, message = _BY_STATE[InvoiceState.SETTLED]
    return _conflict(invoice, InvoiceState.SETTLED, code, message)


def not_cancellable(tx: Transaction, invoice: Invoice) -> OrderConflict:
    """Why `invoice` cannot be cancelled: it is paid, has ended, or has a payment in progress."""
    if invoice.state in WATCHED:
        return _conflict(invoice, invoice.state, *_PENDING)
    if is_undecided(tx, invoice):
        return _conflict(invoice, invoice.state, *_UNDECIDED)
    return _conflict(invoice, invoice.state, *_BY_STATE[invoice.state])


def conflict_of(tx: Transaction, invoice: Invoice, order: Order, now: datetime) -> OrderConflict | None:
    """Why `invoice` cannot answer a request for `order`; None if it can: it is open, and the request is the same."""
    state = invoice.state
    if is_undecided(tx, invoice):
        return _conflict(invoice, state, *_UNDECIDED)
    if state is InvoiceState.UNPAID and now >= invoice.expires_at:
        state = InvoiceState.EXPIRED  # the next worker pass will record this
    is_pending = invoice.seen_at is not None and state in _MAY_BE_PENDING
    if is_pending and (state is not InvoiceState.UNPAID or invoice.order != order):
        return _conflict(invoice, state, *_PENDING)
    if state is InvoiceState.UNPAID:
        return _difference(invoice, order)
    other = (str(state), f"the invoice with this correlation_id is {state.replace('_', ' ')}: {ANOTHER_ATTEMPT}")
    return _conflict(invoice, state, *_BY_STATE.get(state, other))


def _difference(invoice: Invoice, order: Order) -> OrderConflict | None:
    known = invoice.order
    if (known.amount_fiat, known.currency) != (order.amount_fiat, order.currency):
        message = (
            f"the open invoice with this correlation_id asks for {known.amount_fiat:f} {known.currency}, "
            f"not {order.amount_fiat:f} {order.currency}: a different request needs a different correlation_id"
        )
        return _conflict(invoice, InvoiceState.UNPAID, "amount_differs", message)
    names = [name for name in _NAMES if getattr(known, name) != getattr(order, name)]
    if not names:
        return None
    message = (
        f"this correlation_id was used for a request with a different {', '.join(names)}: "
        "repeat the original request, or use a new correlation_id"
    )
    return _conflict(invoice, InvoiceState.UNPAID, "correlation_id_taken", message)


def _conflict(invoice: Invoice, state: InvoiceState, code: str, message: str) -> OrderConflict:
    return OrderConflict(
        message,
        code=code,
        state=state,
        invoice_id=invoice.strike_invoice_id,
        correlation_id=invoice.correlation_id,
        token=invoice.token,
    )
