"""Use case: a shop gives an invoice up. What is paid after that is late, and refunded."""

from __future__ import annotations

import logging

from lnpay.deliveries.owe import owe_delivery, owe_marked_invalid
from lnpay.domain.errors import Conflict, NotFound, StrikeUnavailable
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.invoices.settle import SettlementContext

log = logging.getLogger(__name__)


def mark_invalid(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    """Mark an open invoice as invalid, and give it as it is then. Safe to repeat.

    The deadline ends now, by Strike's time, which payments carry. A payment that was made before counts, however late
    LNPay notices it: it wins the race.
    The invoice is not cancelled at Strike, which does not say whether that keeps a customer from paying.
    Raises NotFound; Conflict when the invoice is paid or has expired; StrikeUnavailable if Strike's time is unknown.
    """
    if not context.strike.measure_time():
        # By a clock that is behind, it would end in the past, and a payment that was made in time would be late.
        raise StrikeUnavailable("Strike's time is unknown: repeat the request")
    now = context.clock()
    with context.repository.transaction() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        if invoice is None:
            raise NotFound("there is no such invoice")
        is_marked = tx.greenfield.mark_invalid(invoice, now)
        if is_marked:
            # First: an endpoint that hears that it is invalid does not hear that it expired as well.
            owe_marked_invalid(tx, invoice, now)
            owe_delivery(tx, context.events, EventType.INVOICE_EXPIRED, invoice, now)
        # Read again: if it was not open, another call may have marked it, also a moment ago.
        known = tx.invoices.find(invoice.id)
    if known is None or known.marked_invalid_at is None or known.state is InvoiceState.SETTLED:
        raise Conflict("the invoice is paid, cancelled or expired", code="invoice_ended")
    if is_marked:
        log.info("invoice marked invalid invoice_id=%s", strike_invoice_id)
    return known
