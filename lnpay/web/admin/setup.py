"""Adding the operator's page to the app."""

from __future__ import annotations

from flask import Flask, Response, g

from lnpay.runtime.backend import Backend
from lnpay.web.admin import (
    actions,
    connections,
    errors,
    formatting,
    login,
    pages,
)
from lnpay.web.admin.blueprint import blueprint
from lnpay.web.admin.session import form_token, set_up_sessions

_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"

ROUTES = (actions, connections, login, errors, pages)
"""Each adds its routes to the blueprint when it is loaded."""


def set_up_admin(app: Flask, backend: Backend) -> None:
    """Add the operator's pages to `app` if ADMIN_PASSWORD is set; otherwise their URLs are answered 404."""
    if not backend.access.admin_password:
        return
    set_up_sessions(app, backend.access)
    app.register_blueprint(blueprint)
    errors.set_up_unrouted(app, protect)
    app.jinja_env.globals["form_token"] = form_token
    app.jinja_env.filters.update(
        tone=formatting.tone,
        plain=formatting.plain,
        moment=formatting.moment,
        lasting=formatting.length,
        in_fiat=formatting.fiat,
        in_metadata=formatting.metadata,
        in_price=formatting.price,
        in_sats=formatting.sats,
    )


@blueprint.after_request
def protect(response: Response) -> Response:
    """Forbid the page to load external resources, to be framed and to be cached.

    It may run no scripts and send forms only here, except the page that hands a key to a shop: `g.form_target`.
    """
    target = g.get("form_target")
    if target is None:
        response.headers["Content-Security-Policy"] = f"{_POLICY}; form-action 'self'"
    else:
        response.headers["Content-Security-Policy"] = f"{_POLICY}; script-src 'self'; form-action {target}"
    # Not "no-referrer", with which browsers would not report where a form comes from.
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Robots-Tag"] = "noindex"
    return response
