"""Health checks for monitoring."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from lnpay.domain.errors import SchemaTooNew, StorageUnavailable
from lnpay.web.api.answers import Alive
from lnpay.web.context import current_backend
from lnpay.web.errors import RETRY_AFTER_SECONDS, error_response

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process is up."""
    return jsonify(Alive(status="ok"))


@blueprint.get("/readyz")
def readyz() -> Response:
    """The database can be written and has tables that this version can use."""
    try:
        current_backend().repository.ping()
    except StorageUnavailable:
        return _not_ready("the database does not respond; see the log")
    except SchemaTooNew as error:
        return _not_ready(
            "the tables are not those of this LNPay: restart it, which brings older ones up to date, "
            f"or start the newer LNPay that made them ({error.message})"
        )
    return jsonify(Alive(status="ok"))


def _not_ready(why: str) -> Response:
    return error_response(503, "not_ready", why, retry_after_seconds=RETRY_AFTER_SECONDS)
