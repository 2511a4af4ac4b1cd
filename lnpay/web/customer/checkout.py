"""The page a customer pays on; it follows the payment automatically."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, request

from lnpay.domain.errors import NotFound
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import customer_page
from lnpay.web.customer.status import StatusCache

blueprint = Blueprint("checkout", __name__)

STATUS_CACHE = "lnpay-status"
"""Name of the app extension that holds the StatusCache."""


@blueprint.get("/checkout/<token>")
def show(token: str) -> Response:
    """Show the payment request, or the outcome of the payment."""
    with current_backend().repository.reading() as tx:
        invoice = tx.invoices.find_by_token(token)
        partial_sats = 0 if invoice is None else tx.payment_statuses.partial_sats(invoice)
        refund = None if invoice is None else tx.refunds.find_late(invoice.id)
    if invoice is None:
        raise _unknown()
    return customer_page(invoice, refund, partial_sats=partial_sats)


@blueprint.get("/checkout/<token>/status")
def show_status(token: str) -> Response:
    """The payment's status, for an open page. StatusMiddleware usually answers this before Flask does."""
    cache: StatusCache = current_app.extensions[STATUS_CACHE]
    answer = cache.answer(token)
    if answer is None:
        raise _unknown()
    if answer.is_known_to(request.headers.get("If-None-Match")):
        response = Response(status=304)
        del response.headers["Content-Type"]
    else:
        response = Response(answer.body, content_type="application/json")
    response.headers.extend(answer.headers())
    return response


def _unknown() -> NotFound:
    return NotFound("there is no payment page at this address")
