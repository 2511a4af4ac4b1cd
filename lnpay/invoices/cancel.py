"""Use case: cancel an invoice for the shop. Strike decides; a payment that was quicker wins."""

from __future__ import annotations

import logging

from lnpay.domain.errors import NotFound, StrikeAmbiguous, StrikeRejected
from lnpay.domain.model import Invoice
from lnpay.domain.states import WATCHED, InvoiceState
from lnpay.invoices.conflicts import not_cancellable
from lnpay.invoices.settle import SettlementContext, reconcile_invoice, settle

log = logging.getLogger(__name__)

_IN_FLIGHT = "PROCESSING_PAYMENT"
"""Strike's code for an invoice of which a payment is on its way."""


def cancel_invoice(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    """Cancel an invoice at Strike and here. Returns it as it stands; one that is cancelled already is returned too.

    Strike's answer is settled as any other news of the invoice: the move and the shop's message are one commit. If that
    answer is lost, or refuses, Strike is asked how the invoice stands. If LNPay stops in between, the webhook, a
    worker or a repeat of this call finishes it.
    Raises NotFound; OrderConflict if the invoice is paid, has ended, or a payment is on its way; StrikeError if the
    outcome is unknown (repeat the call) or Strike refused for another reason.
    """
    invoice = _read(context, strike_invoice_id)
    if invoice.state is InvoiceState.CANCELLED:
        return invoice
    if invoice.state not in WATCHED:
        raise not_cancellable(invoice)
    refusal: StrikeRejected | None = None
    try:
        settle(context, context.strike.cancel_invoice(strike_invoice_id))
    except (StrikeRejected, StrikeAmbiguous) as error:
        refusal = error if isinstance(error, StrikeRejected) else None
        reconcile_invoice(context, strike_invoice_id)
    invoice = _read(context, strike_invoice_id)
    if invoice.state is InvoiceState.CANCELLED:
        log.info("invoice cancelled for the shop invoice_id=%s", strike_invoice_id)
        return invoice
    is_in_flight = refusal is not None and refusal.strike_code == _IN_FLIGHT
    if invoice.state not in WATCHED or invoice.seen_at is not None or is_in_flight:
        raise not_cancellable(invoice)
    if refusal is not None:
        raise refusal
    raise StrikeAmbiguous("Strike did not cancel the invoice; repeat the request")


def _read(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
    if invoice is None:
        raise NotFound("there is no invoice of this id; it is the invoiceId of the answer to /generate-invoice")
    return invoice
