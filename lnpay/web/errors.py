"""Every error as {"status": "error", "code", "message", "errors"}, or as a page for a customer's browser.

Never a stack trace, a provider's text or a secret.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flask import Flask, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from lnpay.domain import errors as e
from lnpay.web.customer.pages import trouble_page, wants_trouble_page

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
"""The default."""

HTTP_WORDS = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take that method"),
    413: ("payload_too_large", "the body is larger than 64 KiB"),
    415: ("unsupported_media_type", "send the body as JSON, with Content-Type: application/json"),
}


def register(app: Flask) -> None:
    """Register the error handlers of `app`."""
    app.register_error_handler(e.LnpayError, _answer_lnpay_error)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, _answer_bug)


def error_response(
    status: int,
    code: str,
    message: str,
    fields: dict[str, str] | None = None,
    retry_after_seconds: int | None = None,
    about: Mapping[str, str | None] | None = None,
) -> Response:
    """Build an error body. `fields` maps request fields to their problems; `about` identifies the subject."""
    if wants_trouble_page():
        response = trouble_page(status, retry_after_seconds or RETRY_AFTER_SECONDS)
    else:
        response = jsonify(status="error", code=code, message=message, errors=fields or {}, **(about or {}))
        response.status_code = status
    if retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, retry_after_seconds))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_lnpay_error(error: e.LnpayError) -> Response:
    if error.http_status is None:
        return _answer_bug(error)
    wait = None
    if error.http_status in (429, 503):
        wait = error.retry_after_seconds or RETRY_AFTER_SECONDS
    message = error.public_message or error.message
    fields = error.errors if isinstance(error, e.InvalidRequest) else None
    about = {"permission": error.permission} if isinstance(error, e.PermissionMissing) else None
    return error_response(error.http_status, error.code, message, fields, wait, about)


UNROUTED = "lnpay-unrouted"
"""Name of the app extension that maps a path prefix to its handler for requests without a route."""


def answer_http_exception(error: HTTPException) -> Response:
    """Answer Flask's own errors in LNPay's shape, or in that of the API the path belongs to."""
    answers: dict[str, Callable[[HTTPException], Response]] = current_app.extensions.get(UNROUTED, {})
    for start, answer in answers.items():
        if request.path.startswith(start):
            return answer(error)
    status = error.code or 500
    code, message = HTTP_WORDS.get(status, (error.name.lower().replace(" ", "_"), error.name))
    retry_after = getattr(error, "retry_after", None)
    response = error_response(
        status, code, message, retry_after_seconds=retry_after if isinstance(retry_after, int) else None
    )
    for name, value in error.get_headers():
        if name in ("Allow", "Location"):
            response.headers[name] = value
    return response


def _answer_bug(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return error_response(500, "internal_error", "something went wrong here; the operator finds it in the log")
