"""Access to the metrics: callers send METRICS_TOKEN as `Authorization: Bearer <token>`."""

from __future__ import annotations

import hmac

from flask import request

from lnpay.domain.errors import Unauthorized

NEEDS_KEY = "send a valid API key (for /metrics: METRICS_TOKEN) as Authorization: Bearer <key>"


def check_bearer(known: tuple[str, ...]) -> None:
    """Raise Unauthorized unless this request sends one of `known`. If `known` is empty, access is open."""
    if not known:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Compare with every token, so that the timing reveals nothing.
    matches = [hmac.compare_digest(given.strip().encode(), one.encode()) for one in known]
    if scheme.lower() != "bearer" or not any(matches):
        raise Unauthorized(NEEDS_KEY)
