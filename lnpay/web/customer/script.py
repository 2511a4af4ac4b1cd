"""`/lnpay.js`: with one script tag, a shop's own page opens the payment page in a modal."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

blueprint = Blueprint("script", __name__)

MAX_AGE_SECONDS = 3_600
"""Short, because the URL never changes and a new version must still arrive."""


@blueprint.get("/lnpay.js")
def show_script() -> Response:
    """The script; any page may load it."""
    response = current_app.send_static_file("lnpay.js")
    response.cache_control.max_age = MAX_AGE_SECONDS
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
