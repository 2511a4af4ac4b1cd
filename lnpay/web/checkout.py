"""The page a customer pays on."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, url_for

from lnpay.errors import NotFound
from lnpay.qr import payment_uri
from lnpay.states import InvoiceState
from lnpay.web.context import backend

blueprint = Blueprint("checkout", __name__)

_PAGE_POLICY = "default-src 'none'; img-src 'self'; style-src 'self'; frame-ancestors 'none'"


@blueprint.get("/checkout/<token>")
def show(token: str) -> Response:
    """Show what to pay, or what became of it; the page asks again by itself while it is open."""
    here = backend()
    with here.repository.reading() as tx:
        invoice = tx.invoices.find_by_token(token)
        refund = None if invoice is None else tx.refunds.find_by_invoice(invoice.id)
    if invoice is None:
        raise NotFound("there is no payment page at this address")
    is_over = invoice.state is InvoiceState.UNPAID and here.clock() > invoice.expires_at
    page = render_template(
        "checkout.html",
        invoice=invoice,
        refund=refund,
        state=InvoiceState.EXPIRED if is_over else invoice.state,
        payment_uri=payment_uri(invoice.issue.bolt11),
        qr_url=url_for("api.show_svg", invoice_id=invoice.strike_invoice_id),
    )
    response = make_response(page)
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response
