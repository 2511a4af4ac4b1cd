"""GET /api-keys/authorize, where a shop's plugin sends its operator to get a key."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from lnpay.web.connect.request import FIELDS
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import beside
from lnpay.web.errors import error_response

blueprint = Blueprint("connect", __name__)


@blueprint.get("/api-keys/authorize")
def authorize() -> AnyResponse:
    """Redirect to the operator's page, because the session cookie is limited to /admin."""
    if not current_backend().access.admin_password:
        return error_response(
            404,
            "not_found",
            "connecting a shop from its plugin needs the operator's page: set ADMIN_PASSWORD and restart LNPay, or "
            "create a key with python main.py keys create",
        )
    fields = [(name, value) for name, value in request.args.items(multi=True) if name in FIELDS]
    return redirect(f"{beside('admin.show_connect')}?{urlencode(fields)}")
