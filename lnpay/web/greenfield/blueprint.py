"""The blueprint that every route of the Greenfield API is part of."""

from __future__ import annotations

from flask import Blueprint

from lnpay.web.greenfield.errors import API_PREFIX, set_up_errors

blueprint = Blueprint("greenfield", __name__, url_prefix=API_PREFIX)
set_up_errors(blueprint)
