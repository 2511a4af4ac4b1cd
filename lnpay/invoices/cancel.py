"""Use case: cancel an invoice for the shop. Strike decides; an earlier payment wins."""

from __future__ import annotations

import logging

from lnpay.domain.errors import NO_SUCH_INVOICE, NotFound, OrderConflict, StrikeAmbiguous, StrikeRejected
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import WATCHED, InvoiceState
from lnpay.invoices.conflicts import not_cancellable
from lnpay.invoices.receives import reconcile_request
from lnpay.invoices.settle import SettlementContext, call_off, reconcile_invoice, settle

log = logging.getLogger(__name__)

_IN_FLIGHT = "PROCESSING_PAYMENT"
"""Strike's code for an invoice with a payment in progress."""


def cancel_invoice(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    """Cancel an invoice at Strike and here, and return it. Safe to repeat.

    Strike's answer is settled like any other change of the invoice: the new state and the shop's message are one
    commit. If the answer is lost or a refusal, LNPay reads the invoice at Strike. If LNPay stops in between, the
    webhook, a worker or a repeat of this call completes it.
    Raises NotFound; OrderConflict if the invoice is paid, has ended, or has a payment in progress; StrikeError if the
    outcome is unknown (repeat the call) or Strike refused for another reason.
    """
    invoice = _read(context, strike_invoice_id)
    if invoice.state is InvoiceState.CANCELLED:
        return invoice
    if invoice.state not in WATCHED:
        raise _refusal(context, invoice)
    if invoice.issue.receive_with is ReceiveWith.RECEIVE_REQUEST:
        return _cancel_request(context, invoice)
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
        raise _refusal(context, invoice)
    if refusal is not None:
        raise refusal
    raise StrikeAmbiguous("Strike did not cancel the invoice; repeat the request")


def _cancel_request(context: SettlementContext, invoice: Invoice) -> Invoice:
    """Strike cannot cancel a receive request, so move its deadline to now: a later payment is refunded.

    Raises OrderConflict if it is paid, or has a payment in progress; StrikeError if Strike cannot say, or if its time
    is unknown.
    """
    request_id = invoice.strike_invoice_id
    context.strike.confirm_time()
    reconcile_request(context, request_id)
    now = context.clock()
    with context.repository.transaction() as tx:
        known = tx.receives.lock_invoice(request_id)
        if known is not None and known.state is InvoiceState.CANCELLED:
            return known  # another call was faster
        if known is None or known.state not in WATCHED or known.seen_at is not None or tx.receives.every_of(known.id):
            raise not_cancellable(tx, known or invoice)
        tx.receives.end_deadline(known.id, now)
        call_off(tx, context.events, known, now)
        # As it is now: a late payment may change it again right after this commit.
        cancelled = tx.invoices.find(known.id)
    log.info("invoice cancelled for the shop invoice_id=%s", request_id)
    return cancelled or known


def _refusal(context: SettlementContext, invoice: Invoice) -> OrderConflict:
    with context.repository.reading() as tx:
        return not_cancellable(tx, invoice)


def _read(context: SettlementContext, strike_invoice_id: str) -> Invoice:
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
    if invoice is None:
        raise NotFound(NO_SUCH_INVOICE)
    return invoice
