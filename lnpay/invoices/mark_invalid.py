"""Use case: a shop marks an invoice as invalid. A payment after that counts as late."""

from __future__ import annotations

import logging

from lnpay.deliveries.owe import owe_delivery, owe_marked_invalid
from lnpay.domain.errors import Conflict, NotFound
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.invoices.settle import SettlementContext

log = logging.getLogger(__name__)


def mark_invalid(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    """Mark an open invoice as invalid, and return it. Safe to repeat.

    The payment deadline moves to now, by Strike's clock, which also dates payments. An earlier payment counts, however
    late LNPay notices it.
    The invoice is not cancelled at Strike: whether a cancelled invoice can still be paid is not documented.
    Raises NotFound; Conflict if the invoice is paid or has expired; StrikeUnavailable if Strike's time is unknown.
    """
    # A clock that is behind would put the deadline in the past and make a payment in time count as late.
    context.strike.confirm_time()
    now = context.clock()
    with context.repository.transaction() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        if invoice is None:
            raise NotFound("there is no such invoice")
        is_marked = tx.greenfield.mark_invalid(invoice, now)
        if is_marked:
            # First, because an endpoint that gets this message gets no expiry as well.
            owe_marked_invalid(tx, invoice, now)
            owe_delivery(tx, context.events, EventType.INVOICE_EXPIRED, invoice, now)
        # Read again: if it was not open, a concurrent call may have just marked it.
        known = tx.invoices.find(invoice.id)
    if known is None or known.marked_invalid_at is None or known.state is InvoiceState.SETTLED:
        raise Conflict("the invoice is paid, cancelled or expired", code="invoice_ended")
    if is_marked:
        log.info("invoice marked invalid invoice_id=%s", strike_invoice_id)
    return known
