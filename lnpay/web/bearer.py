"""Who may come in: whoever sends a word that we know as `Authorization: Bearer <word>`."""

from __future__ import annotations

import hmac

from flask import request

from lnpay.domain.errors import Unauthorized

NEEDS_KEY = "send one of the keys of API_KEYS (for /metrics: METRICS_TOKEN), as Authorization: Bearer <key>"


def check_bearer(known: tuple[str, ...]) -> None:
    """Raise Unauthorized unless this request brings one of `known`. Without any, everybody may come in."""
    if not known:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Every one is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(given.strip().encode(), one.encode()) for one in known]
    if scheme.lower() != "bearer" or not any(matches):
        raise Unauthorized(NEEDS_KEY)
