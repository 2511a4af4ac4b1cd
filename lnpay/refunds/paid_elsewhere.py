"""Use case: before a refund gets a new quote, check whether another copy of this database has already sent it.

There are two cases:
- Strike answers DUPLICATE_PAYMENT_QUOTE, and one of this database's own requests had no answer. Then the quote may be
  that request's, or one that another copy requested under the same key and has executed since.
- Strike refuses a quote whose executions here did nothing so far. Another copy may have executed it in between, and
  Strike may only say that it has expired.
Strike documents neither a way to read a quote nor a list of payments, but it keeps an event for each payment, and each
payment can be read.
"""

from __future__ import annotations

from lnpay.domain.errors import StrikeError, StrikeRejected
from lnpay.domain.model import Refund
from lnpay.domain.states import RefundState
from lnpay.refunds.outcomes import RefundSender
from lnpay.strike.answers import PaymentStatus

MOST_PAYMENTS = 20
"""Payments that are read at most: each is a call of its own, and the claim on the refund lasts 30 seconds."""


def may_be_paid_elsewhere(sender: RefundSender, refund: Refund) -> bool:
    """Whether the account made a payment of this amount, unknown here, since Strike created the refund's invoice.

    Also true if there are too many payments, or unreadable ones; false if the API key may not read events. Raises
    StrikeError if it cannot be known yet: Strike does not answer, or another refund of this amount is in flight.
    """
    with sender.repository.reading() as tx:
        invoice = tx.invoices.find(refund.invoice_id)
        assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    try:
        made = sender.strike.list_payments_since(invoice.issue.opened_at)
    except StrikeRejected:
        return False
    with sender.repository.reading() as tx:
        unknown = [one for one in made.payment_ids if not tx.refunds.is_payment_known(one)]
        others = tx.refunds.without_payment_id(refund)
    if not made.is_complete or len(unknown) > MOST_PAYMENTS:
        return True
    suspects = sum(_may_be(sender, refund, payment_id) for payment_id in unknown)
    if suspects > others.count(RefundState.SENT) and RefundState.IN_FLIGHT in others:
        raise StrikeError("a payment may be this refund's, or that of another one in flight: this shows later")
    return suspects > others.count(RefundState.SENT)


def _may_be(sender: RefundSender, refund: Refund, payment_id: str) -> bool:
    try:
        payment = sender.strike.get_payment(payment_id)
    except StrikeRejected:
        return True
    return payment.status is not PaymentStatus.FAILED and payment.amount_sats in (None, refund.amount_sats)
