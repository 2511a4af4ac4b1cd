"""The customer's page about a refund: what became of it, and a form where it needs an address."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from lnpay.errors import Conflict, InvalidRequest, NotFound
from lnpay.refunds_by_hand import give_address
from lnpay.web.context import backend

blueprint = Blueprint("refund", __name__)

_PAGE_POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'"


@blueprint.get("/refund/<token>")
def show(token: str) -> Response:
    """Where the money is, or the form that asks where it should go."""
    return _page(token)


@blueprint.post("/refund/<token>")
def submit(token: str) -> AnyResponse:
    """Take the address. However often it is sent, there is one refund: once it has an address, nothing starts."""
    here = backend()
    try:
        give_address(here.repository, token, request.form.get("ln_address", ""), here.clock())
    except InvalidRequest as error:
        return _page(token, mistake=error.errors["ln_address"], status=400)
    except Conflict:
        return _page(token, status=409)
    here.refunder.wake()
    return redirect(url_for("refund.show", token=token), code=303)


def _page(token: str, *, mistake: str | None = None, status: int = 200) -> Response:
    with backend().repository.reading() as tx:
        refund = tx.refunds.find_by_token(token)
    if refund is None:
        raise NotFound("there is no refund at this address")
    page = render_template("refund.html", refund=refund, mistake=mistake, given=request.form.get("ln_address", ""))
    response = make_response(page, status)
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response
