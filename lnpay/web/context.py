"""Access to the backend from a route."""

from __future__ import annotations

from typing import cast

from flask import current_app

from lnpay.runtime.backend import Backend


def current_backend() -> Backend:
    """The backend behind the app that serves this request."""
    return cast(Backend, current_app.extensions["lnpay"])
