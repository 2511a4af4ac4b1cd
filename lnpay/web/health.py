"""For whoever watches the process."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from lnpay.errors import SchemaTooNew, StorageUnavailable
from lnpay.web.answers import Alive
from lnpay.web.context import backend
from lnpay.web.errors import error_response

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process is up."""
    return jsonify(Alive(status="ok"))


@blueprint.get("/readyz")
def readyz() -> Response:
    """The database answers and has the tables this version needs."""
    try:
        backend().repository.ping()
    except (StorageUnavailable, SchemaTooNew):
        return error_response(503, "not_ready", "the database is not ready; see the log", retry_after_seconds=5)
    return jsonify(Alive(status="ok"))
