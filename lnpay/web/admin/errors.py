"""Errors as pages, for somebody who looks at them."""

from __future__ import annotations

import logging

from flask import Response, make_response, render_template
from werkzeug.exceptions import HTTPException

from lnpay.errors import LnpayError, NotFound, StorageUnavailable
from lnpay.web.admin.blueprint import blueprint

log = logging.getLogger(__name__)

AGAIN_AFTER_SECONDS = 5

_WORDS = {
    400: ("This cannot be read", "Go back and try it again."),
    403: ("This form has expired", "Nothing was done. Go back to the overview and do it again from there."),
    404: ("There is no such invoice", "Look for it in the list of invoices, by the id of the order for example."),
    413: ("This is too long", "Nothing was done. Go back and write less."),
    500: ("Something went wrong here", "The log says what. Look whether it was done before you do it again."),
    503: ("The database does not answer", "Nothing was done. Try it again in a moment."),
}


@blueprint.errorhandler(HTTPException)
def show_http_error(error: HTTPException) -> Response:
    """What Flask refuses."""
    return _page(error.code or 500)


@blueprint.errorhandler(LnpayError)
def show_lnpay_error(error: LnpayError) -> Response:
    """What the use cases refuse, apart from what a page says itself."""
    if isinstance(error, NotFound):
        return _page(404)
    if not isinstance(error, StorageUnavailable):
        return show_bug(error)
    response = _page(503)
    response.headers["Retry-After"] = str(AGAIN_AFTER_SECONDS)
    return response


@blueprint.errorhandler(Exception)
def show_bug(error: Exception) -> Response:
    """What nobody has thought of."""
    log.error("unexpected error on the operator's page", exc_info=error)
    return _page(500)


def _page(status: int) -> Response:
    title, advice = _WORDS.get(status, _WORDS[400])
    return make_response(render_template("admin/error.html", title=title, advice=advice), status)
