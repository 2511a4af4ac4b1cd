"""The buttons' actions: each calls the same use case as the command line, then returns to the page it was pressed on.

The states and their conditional updates decide, so a second click, or a second operator, changes nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask import abort, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.deliveries.send import send_again
from lnpay.domain.errors import Conflict, InvalidRequest, NotFound, RateUnavailable
from lnpay.invoices.late import accept_late_payment
from lnpay.refunds.by_hand import (
    approve,
    ask_strike,
    change_address,
    retry,
    settle_by_hand,
)
from lnpay.refunds.merchant import cancel_refund, create_refund
from lnpay.refunds.operator_request import read_operator_request
from lnpay.runtime.backend import Backend
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.admin.login import say
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import beside

log = logging.getLogger(__name__)

MAX_NOTE_CHARACTERS = 500

MAX_ID_DIGITS = 18


@blueprint.post("/invoices/<invoice_id>/<action>")
def act(invoice_id: str, action: str) -> AnyResponse:
    """Do what a button says about one invoice."""
    do = _ACTIONS.get(action)
    if do is None:
        abort(404)
    try:
        said = do(current_backend(), invoice_id)
    except (Conflict, InvalidRequest, RateUnavailable) as error:
        say(f"Nothing was done: {error.message}.", is_good=False)
    else:
        log.info("operator action action=%s invoice_id=%s", action, invoice_id)
        say(said)
    if request.form.get("back") == "overview":
        return redirect(beside("admin.show_overview"), 303)
    return redirect(beside("admin.show_invoice", invoice_id=invoice_id), 303)


def _approve(backend: Backend, invoice_id: str) -> str:
    refund = approve(backend.repository, invoice_id, backend.clock(), backend.refund_sender.events, _refund_id())
    backend.refund_dispatcher.wake()
    if refund.address is None:
        backend.delivery_dispatcher.wake()
        return f"The refund of {refund.amount_sats:,} sats needs an address."
    return f"Approved: {refund.amount_sats:,} sats are being sent to {refund.address}."


def _accept(backend: Backend, invoice_id: str) -> str:
    invoice = accept_late_payment(backend.repository, invoice_id, backend.settlement.events, backend.clock())
    backend.delivery_dispatcher.wake()
    return f"Accepted: the order is settled, and the {invoice.received_sats or 0:,} sats are not refunded."


def _address(backend: Backend, invoice_id: str) -> str:
    refund = change_address(
        backend.repository, invoice_id, request.form.get("ln_address", ""), backend.clock(), _refund_id()
    )
    backend.refund_dispatcher.wake()
    return f"The refund is now sent to {refund.address}."


def _retry(backend: Backend, invoice_id: str) -> str:
    note, refund_id = _note(), _refund_id()
    at_strike = ask_strike(backend.repository, backend.strike, invoice_id, refund_id)
    refund = retry(backend.repository, invoice_id, note, backend.clock(), refund_id, at_strike)
    backend.refund_dispatcher.wake()
    return f"Tried again: {refund.amount_sats:,} sats are being sent to {refund.address}."


def _settle(backend: Backend, invoice_id: str) -> str:
    note, is_time_known = _note(), backend.strike.measure_time()
    events, now = backend.refund_sender.events, backend.clock()
    refund = settle_by_hand(
        backend.repository, invoice_id, note, events, now, _refund_id(), is_time_known=is_time_known
    )
    backend.delivery_dispatcher.wake()
    return f"Closed: the refund of {refund.amount_sats:,} sats counts as sent."


def _refund(backend: Backend, invoice_id: str) -> str:
    with backend.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
    if invoice is None:
        raise NotFound("there is no such invoice")
    form = request.form
    unit = form.get("unit", "")
    amount = form.get("amount", "").strip() or None
    wanted = read_operator_request(
        invoice,
        request_key=form.get("request_key", ""),
        amount=None if unit == "sats" else amount,
        sats=amount if unit == "sats" else None,
        address=form.get("ln_address", "").strip() or None,
        is_todays_price=unit == "today" and amount is not None,
    )
    refund = create_refund(backend.refund_issuer, invoice_id, wanted)
    backend.refund_dispatcher.wake()
    backend.delivery_dispatcher.wake()
    if refund.address is None:
        return f"A refund of {refund.amount_sats:,} sats waits for the customer: send them the link below."
    return f"Refund created: {refund.amount_sats:,} sats are being sent to {refund.address}."


def _cancel(backend: Backend, invoice_id: str) -> str:
    refund = cancel_refund(backend.refund_issuer, _refund_id() or 0)
    backend.delivery_dispatcher.wake()
    return f"Canceled: the refund of {refund.amount_sats:,} sats is not sent."


def _refund_id() -> int | None:
    """Which refund of the invoice a form is about; None if it does not say."""
    text = request.form.get("refund_id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS else None


def _note() -> str:
    """How the operator knows what happened to the money. Required, as is the checkbox beside it."""
    note = " ".join(request.form.get("note", "").split())
    if "sure" not in request.form or not note or len(note) > MAX_NOTE_CHARACTERS or not note.isprintable():
        raise InvalidRequest(f"tick the box and write how you know, in at most {MAX_NOTE_CHARACTERS} characters")
    return note


def _redeliver(backend: Backend, invoice_id: str) -> str:
    count = len(send_again(backend.repository, invoice_id, backend.clock()))
    backend.delivery_dispatcher.wake()
    return f"{count} message{'s are' if count > 1 else ' is'} being sent to the shop again."


_ACTIONS: dict[str, Callable[[Backend, str], str]] = {
    "approve": _approve,
    "accept": _accept,
    "address": _address,
    "retry": _retry,
    "settle": _settle,
    "redeliver": _redeliver,
    "refund": _refund,
    "cancel": _cancel,
}
