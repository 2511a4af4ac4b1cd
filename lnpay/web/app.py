"""The Flask app: routes, limits on what comes in, and one shape for every error."""

from __future__ import annotations

from flask import Flask, Response
from flask_cors import CORS

from lnpay.backend import Backend
from lnpay.web import api, checkout, docs, errors, health, refund, webhook

MAX_BODY_BYTES = 64 * 1024
"""Much more than any request needs."""


def create_app(backend: Backend) -> Flask:
    """Build the app around `backend`."""
    app = Flask("lnpay.web")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["lnpay"] = backend
    for part in (api, webhook, checkout, refund, health, docs):
        app.register_blueprint(part.blueprint)
    errors.register(app)
    app.after_request(_protect)
    if backend.access.cors_origins:
        CORS(
            app,
            origins=list(backend.access.cors_origins),
            resources=[r"/generate-invoice", r"/invoices/.*"],
            methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
            max_age=3600,
        )
    return app


def _protect(response: Response) -> Response:
    """Headers that every answer has unless its route says otherwise."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    return response
