"""The customer's refund page: its status, and a form if an address is needed."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, Flask, Response, current_app, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    TooManyTries,
)
from lnpay.refunds.by_hand import give_address
from lnpay.runtime.backend import Backend
from lnpay.web.client_limit import ClientLimit, place_of
from lnpay.web.clients import client_address
from lnpay.web.context import current_backend
from lnpay.web.customer.languages import language_query
from lnpay.web.customer.pages import customer_page
from lnpay.web.errors import error_response

blueprint = Blueprint("refund", __name__)

MISSES, MISS_PAUSE = 20, timedelta(seconds=2)
"""Unknown refund links that one client may try. After that one per pause is looked up, so that a customer behind the
same address gets through by repeating."""

ADDRESSES, ADDRESS_PAUSE = 20, timedelta(seconds=30)
"""Lightning addresses that one client may enter, for all links together: each costs a call to Strike. One link allows
fewer, so customers who share an IP address rarely reach this limit."""

MISS_LIMIT, ADDRESS_LIMIT = "lnpay.refund_misses", "lnpay.refund_addresses"


def set_up_refund_limits(app: Flask, backend: Backend) -> None:
    """Set the rate limits of the refund form."""
    app.extensions[MISS_LIMIT] = ClientLimit(MISSES, MISS_PAUSE, backend.clock)
    app.extensions[ADDRESS_LIMIT] = ClientLimit(ADDRESSES, ADDRESS_PAUSE, backend.clock)


@blueprint.get("/refund/<token>")
def show(token: str) -> Response:
    """Show the refund's status, or the form that asks for an address."""
    return _page(token)


@blueprint.post("/refund/<token>")
def submit(token: str) -> AnyResponse:
    """Accept the address. However often it is sent, there is one refund: once it has an address, no other starts."""
    backend = current_backend()
    client = place_of(client_address(request, backend.access.trusted_proxies))
    misses: ClientLimit = current_app.extensions[MISS_LIMIT]
    addresses: ClientLimit = current_app.extensions[ADDRESS_LIMIT]
    try:
        misses.check(client, "too many refund links that do not exist were tried from this address")
        addresses.check(client, "too many refund addresses were entered from this address")
        give_address(backend.repository, token, request.form.get("ln_address", ""), backend.clock())
        addresses.count(client)
    except NotFound:
        misses.count(client)
        raise
    except InvalidRequest as error:
        return _page(token, mistake=error.code, status=400)
    except Conflict:
        return _page(token, status=409)
    except TooManyTries as error:
        return error_response(429, error.code, error.message, retry_after_seconds=error.retry_after_seconds)
    backend.refund_dispatcher.wake()
    # Relative, like every link of the page, so that it works under any proxy path.
    return redirect(f"{token}{language_query()}", code=303)


def _page(token: str, *, mistake: str | None = None, status: int = 200) -> Response:
    with current_backend().repository.reading() as tx:
        refund = tx.refunds.find_by_token(token)
        invoice = None if refund is None else tx.invoices.find(refund.invoice_id)
    if refund is None or invoice is None:
        raise NotFound("there is no refund at this address")
    return customer_page(invoice, refund, mistake=mistake, given=request.form.get("ln_address", ""), status=status)
