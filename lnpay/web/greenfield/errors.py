"""Errors in Greenfield's shape: an object with `code` and `message`, or a list of invalid fields with 422."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from lnpay.domain import errors as e
from lnpay.web.errors import HTTP_WORDS, RETRY_AFTER_SECONDS

log = logging.getLogger(__name__)

API_PREFIX = "/api/v1"

GENERIC = "generic-error"

NEEDS_KEY = "send a valid API key as Authorization: token <key>"

_CODES = {404: "not-found", 405: "method-not-allowed", 413: "payload-too-large", 415: "unsupported-media-type"}


class FieldsRefused(e.LnpayError):
    """The request has wrong fields: 422. fields: path of each, such as "checkout.redirectURL", to what is wrong."""

    code = "validation-error"

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{path} {why}" for path, why in fields.items()))
        self.fields = dict(fields)


class UnknownHere(e.NotFound):
    """There is no such invoice, webhook or store. code: "invoice-not-found" and the like."""


def problem(status: int, code: str, message: str, **more: str) -> Response:
    """An error as an object."""
    response = jsonify(code=code, message=message, **more)
    response.status_code = status
    if status == 401:
        response.headers["WWW-Authenticate"] = "token"
    return response


def set_up_errors(blueprint: Blueprint) -> None:
    """Register the error handlers of the blueprint."""
    blueprint.register_error_handler(e.LnpayError, answer_lnpay_error)
    blueprint.register_error_handler(HTTPException, answer_http_exception)
    blueprint.register_error_handler(Exception, answer_bug)


def answer_lnpay_error(error: e.LnpayError) -> Response:
    """Answer errors that use cases raise."""
    if isinstance(error, FieldsRefused):
        return _list_of_fields(error.fields)
    if isinstance(error, e.Unauthorized):
        return problem(401, "unauthenticated", NEEDS_KEY)
    if isinstance(error, e.PermissionMissing):
        return problem(403, "missing-permission", error.message, missingPermission=error.permission)
    if isinstance(error, e.NotFound):
        return problem(404, error.code if isinstance(error, UnknownHere) else "not-found", error.message)
    return _answer_refusal(error)


def _answer_refusal(error: e.LnpayError) -> Response:
    message = error.public_message or error.message
    if isinstance(error, e.InvalidRequest | e.Conflict | e.StrikeRejected):
        return problem(400, GENERIC, message)
    if isinstance(error, e.StrikeError | e.RateUnavailable | e.StorageUnavailable):
        response = problem(503, GENERIC, message)
        seconds = error.retry_after_seconds or RETRY_AFTER_SECONDS
        response.headers["Retry-After"] = str(max(1, seconds))
        return response
    return answer_bug(error)


def _list_of_fields(fields: Mapping[str, str]) -> Response:
    found: list[dict[str, Any]] = [{"path": path, "message": f"{path} {why}".strip()} for path, why in fields.items()]
    response = jsonify(found)
    response.status_code = 422
    return response


def answer_http_exception(error: HTTPException) -> Response:
    """Answer Flask's own errors."""
    status = error.code or 500
    _, message = HTTP_WORDS.get(status, ("", error.name))
    response = problem(status, _CODES.get(status, GENERIC), message)
    for name, value in error.get_headers():
        if name in ("Allow", "Location"):
            response.headers[name] = value
    return response


def answer_bug(error: Exception) -> Response:
    """Answer an unexpected error. Only the log has its cause."""
    log.error("unexpected error in the Greenfield API path=%s", request.path, exc_info=error)
    return problem(500, "internal-error", "something went wrong here; the operator finds it in the log")
