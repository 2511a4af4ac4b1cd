"""Errors of the operator's pages, as pages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask import Flask, Response, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from lnpay.domain.errors import LnpayError, NotFound, StorageUnavailable, UnreadableRow
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.errors import answer_http_exception

log = logging.getLogger(__name__)

AGAIN_AFTER_SECONDS = 5

_WORDS = {
    400: ("This request is invalid", "Go back and try again."),
    403: ("This form has expired", "Nothing was done. Go back to the overview and try again from there."),
    404: ("There is no such invoice", "Look for it in the list of invoices, for example by the id of the order."),
    405: ("This link cannot be opened on its own", "Open the overview and use its buttons."),
    413: ("This is too long", "Nothing was done. Go back and shorten it."),
    500: ("Something went wrong here", "The log has the details. Check whether it was done before you try again."),
    503: ("The database does not answer", "Nothing was done. Try again in a moment."),
}


@blueprint.errorhandler(HTTPException)
def show_http_error(error: HTTPException) -> Response:
    """Errors that Flask raises."""
    return _page(error.code or 500)


@blueprint.errorhandler(LnpayError)
def show_lnpay_error(error: LnpayError) -> Response:
    """Errors that use cases raise and that the page does not show itself."""
    if isinstance(error, NotFound):
        return _page(404)
    if isinstance(error, UnreadableRow):
        return _error_page(503, "This record cannot be read", f"{error.message[0].upper()}{error.message[1:]}.")
    if not isinstance(error, StorageUnavailable):
        return show_bug(error)
    response = _page(503)
    response.headers["Retry-After"] = str(AGAIN_AFTER_SECONDS)
    return response


@blueprint.errorhandler(Exception)
def show_bug(error: Exception) -> Response:
    """Unexpected errors."""
    log.error("unexpected error page=admin", exc_info=error)
    return _page(500)


_NO_PAGE = ("There is no such page", "Check the address, or start from the overview.")


def set_up_unrouted(app: Flask, protect: Callable[[Response], Response]) -> None:
    """Answer requests below /admin that match no route with a page too.

    Flask's router refuses them before it knows their blueprint, so the blueprint's own handlers never see them.
    protect: adds the headers that every page of the operator has.
    """

    def show_unrouted(error: HTTPException) -> Response:
        if request.path != "/admin" and not request.path.startswith("/admin/"):
            return answer_http_exception(error)
        status = error.code or 404
        return protect(_error_page(status, *(_NO_PAGE if status == 404 else _WORDS[status])))

    app.register_error_handler(404, show_unrouted)
    app.register_error_handler(405, show_unrouted)


def _page(status: int) -> Response:
    return _error_page(status, *_WORDS.get(status, _WORDS[400]))


def _error_page(status: int, title: str, advice: str) -> Response:
    return make_response(render_template("admin/error.html", title=title, advice=advice), status)
