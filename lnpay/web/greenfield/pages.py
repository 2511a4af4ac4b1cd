"""URLs that shop plugins build themselves: the payment page by invoice id, and the script that shows it."""

from __future__ import annotations

from flask import Response, current_app, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.domain.errors import NotFound
from lnpay.domain.model import Invoice, Refund
from lnpay.web.context import current_backend
from lnpay.web.customer.languages import chosen_language, known_language
from lnpay.web.customer.links import origin_of
from lnpay.web.customer.pages import MODAL_PATH, ModalView, beside, customer_page
from lnpay.web.customer.script import MAX_AGE_SECONDS
from lnpay.web.greenfield.blueprint import SlashBlueprint
from lnpay.web.greenfield.status import derive_status

blueprint = SlashBlueprint("greenfield_pages", __name__)


@blueprint.get("/i/<invoice_id>")
@blueprint.get("/i/<invoice_id>/<payment_method>")
def show_invoice(invoice_id: str, payment_method: str = "") -> AnyResponse:
    """Redirect to the payment page, or serve it inside a plugin's frame. There is one payment method."""
    del payment_method
    invoice, refund = _find(invoice_id)
    if request.args.get("view") == "modal":
        return _modal(invoice, refund)
    language = _language(invoice)
    query = "" if language is None else f"?lang={language}"
    return redirect(beside("checkout.show", token=invoice.token) + query, code=302)


@blueprint.get(MODAL_PATH)
def show_in_frame() -> AnyResponse:
    """The payment page in a plugin's frame."""
    invoice, refund = _find(request.args.get("id", ""))
    return _modal(invoice, refund)


@blueprint.get("/modal/btcpay.js")
def show_script() -> Response:
    """The script that plugins put into the shop's page."""
    response = current_app.send_static_file("btcpay.js")
    response.cache_control.max_age = MAX_AGE_SECONDS
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


def _modal(invoice: Invoice, refund: Refund | None) -> AnyResponse:
    language = _language(invoice)
    if language is not None and chosen_language() is None:
        path = beside("greenfield_pages.show_in_frame", id=invoice.strike_invoice_id, view="modal", lang=language)
        return redirect(path, code=302)
    now = current_backend().clock()
    with current_backend().repository.reading() as tx:
        partial_sats = tx.payment_statuses.partial_sats(invoice)
    link = invoice.order.return_url
    # An API key of the shop set this link, so its origin belongs to the shop.
    view = ModalView(derive_status(invoice, now).status, None if link is None else origin_of(link))
    return customer_page(invoice, refund, partial_sats=partial_sats, modal=view)


def _language(invoice: Invoice) -> str | None:
    """The language that the shop requests, if it is supported."""
    given = (invoice.order.checkout_options or {}).get("defaultLanguage")
    return known_language(given) if isinstance(given, str) else None


def _find(invoice_id: str) -> tuple[Invoice, Refund | None]:
    with current_backend().repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
        refund = None if invoice is None else tx.refunds.find_late(invoice.id)
    if invoice is None:
        raise NotFound("there is no payment page at this address")
    return invoice, refund
