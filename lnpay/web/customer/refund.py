"""The customer's page about a refund: what became of it, and a form where it needs an address."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    TooManyTries,
)
from lnpay.refunds.by_hand import give_address
from lnpay.web.context import current_backend
from lnpay.web.customer.languages import language_query
from lnpay.web.customer.pages import customer_page
from lnpay.web.errors import error_response

blueprint = Blueprint("refund", __name__)


@blueprint.get("/refund/<token>")
def show(token: str) -> Response:
    """Where the money is, or the form that asks where it should go."""
    return _page(token)


@blueprint.post("/refund/<token>")
def submit(token: str) -> AnyResponse:
    """Take the address. However often it is sent, there is one refund: once it has an address, nothing starts."""
    backend = current_backend()
    try:
        give_address(backend.repository, token, request.form.get("ln_address", ""), backend.clock())
    except InvalidRequest:
        return _page(token, mistake=True, status=400)
    except Conflict:
        return _page(token, status=409)
    except TooManyTries as error:
        return error_response(429, error.code, error.message, retry_after_seconds=error.retry_after_seconds)
    backend.refund_dispatcher.wake()
    # Relative, like every link of the page: it works under any path of a proxy.
    return redirect(f"{token}{language_query()}", code=303)


def _page(token: str, *, mistake: bool = False, status: int = 200) -> Response:
    with current_backend().repository.reading() as tx:
        refund = tx.refunds.find_by_token(token)
        invoice = None if refund is None else tx.invoices.find(refund.invoice_id)
    if refund is None or invoice is None:
        raise NotFound("there is no refund at this address")
    return customer_page(invoice, refund, mistake=mistake, given=request.form.get("ln_address", ""), status=status)
