"""The Flask app: routes, limits on requests, and one shape for every error."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider
from flask_cors import CORS

from lnpay.domain.encoding.json_text import write_json_text
from lnpay.runtime.backend import Backend
from lnpay.web import errors
from lnpay.web.admin import set_up_admin
from lnpay.web.api import endpoints, refunds, routes, webhook
from lnpay.web.connect import routes as connect
from lnpay.web.customer import checkout, refund, script, shop
from lnpay.web.customer.languages import set_up_languages
from lnpay.web.customer.pages import set_up_customer_page
from lnpay.web.customer.refund import set_up_refund_limits
from lnpay.web.customer.status import StatusCache, StatusMiddleware
from lnpay.web.greenfield import set_up_greenfield
from lnpay.web.operations import docs, health, metrics
from lnpay.web.operations.metrics import set_up_metrics
from lnpay.web.request_log import set_up_request_log
from lnpay.web.serving import MAX_BODY_BYTES

STATIC_MAX_AGE_SECONDS = 86_400
"""Pages link static files with a fingerprint, so that a changed file has a new URL."""

COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer, unless its route sets them."""


class ExactJson(DefaultJSONProvider):
    """Writes numbers in metadata exactly as the shop sent them."""

    def dumps(self, obj: Any, **options: Any) -> str:  # noqa: ANN401 - Flask's signature
        """As Flask's; see `write_json_text`."""
        return write_json_text(obj, **{"default": self.default, "sort_keys": self.sort_keys, **options})


def create_app(backend: Backend) -> Flask:
    """Build the app around `backend`."""
    app = Flask("lnpay.web")
    app.json = ExactJson(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = STATIC_MAX_AGE_SECONDS
    app.extensions["lnpay"] = backend
    set_up_metrics(app, backend)
    set_up_request_log(app)
    set_up_languages(app)
    set_up_customer_page(app)
    set_up_refund_limits(app, backend)
    app.jinja_env.globals.update(shop_version=lambda: shop.fingerprint(backend.shop_face))
    for part in (routes, endpoints, refunds, webhook, shop, checkout, refund, script, health, metrics, docs):
        app.register_blueprint(part.blueprint)
    if backend.access.is_greenfield_on:
        app.register_blueprint(connect.blueprint)
    set_up_admin(app, backend)
    errors.register(app)
    set_up_greenfield(app, backend)
    app.after_request(_protect)
    if backend.access.cors_origins:
        CORS(
            app,
            origins=list(backend.access.cors_origins),
            resources=[r"/generate-invoice", r"/invoices/.*"],
            methods=["GET", "POST", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Retry-After", "X-Request-Id"],
            max_age=3600,
        )
    cache = StatusCache(backend.repository, backend.clock)
    app.extensions[checkout.STATUS_CACHE] = cache
    app.wsgi_app = StatusMiddleware(app.wsgi_app, cache, COMMON_HEADERS.items())  # type: ignore[method-assign]
    return app


def _protect(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    for name, value in COMMON_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
