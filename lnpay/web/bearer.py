"""Who may read the figures: callers that send METRICS_TOKEN as `Authorization: Bearer <token>`."""

from __future__ import annotations

import hmac

from flask import request

from lnpay.domain.errors import Unauthorized

NEEDS_KEY = "send a valid API key (for /metrics: METRICS_TOKEN) as Authorization: Bearer <key>"


def check_bearer(known: tuple[str, ...]) -> None:
    """Raise Unauthorized unless this request brings one of `known`. Without any, everyone may."""
    if not known:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Every one is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(given.strip().encode(), one.encode()) for one in known]
    if scheme.lower() != "bearer" or not any(matches):
        raise Unauthorized(NEEDS_KEY)
