"""Adding the Greenfield API to the app."""

from __future__ import annotations

from flask import Flask

from lnpay.runtime.backend import Backend
from lnpay.web.errors import UNROUTED
from lnpay.web.greenfield import deliveries, invoices, pages, stores, webhooks
from lnpay.web.greenfield.blueprint import blueprint
from lnpay.web.greenfield.errors import API_PREFIX, answer_http_exception

ROUTES = (invoices, stores, webhooks, deliveries)
"""Each adds its routes to the blueprint when it is loaded."""


def set_up_greenfield(app: Flask, backend: Backend) -> None:
    """Give `app` the API and the pages that plugins link to, unless GREENFIELD is off."""
    if not backend.access.is_greenfield_on:
        return
    app.register_blueprint(blueprint)
    app.register_blueprint(pages.blueprint)
    app.extensions.setdefault(UNROUTED, {})[f"{API_PREFIX}/"] = answer_http_exception
