"""The entry to Strike's API: rate limits, firewall and keys, then dispatch to the endpoints."""

from __future__ import annotations

import math
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from lnpay.sandbox.strike import limits
from lnpay.sandbox.strike.api import account, invoices, payments, receive_requests
from lnpay.sandbox.strike.api.routes import (
    ROUTER,
    Blocked,
    Call,
    Endpoint,
)
from lnpay.sandbox.strike.envelope import (
    UUID,
    ApiError,
    error_reply,
    invalid,
)
from lnpay.sandbox.web import (
    Reply,
    Request,
    html_reply,
    json_reply,
)
from lnpay.sandbox.world import World

# Importing them registers their endpoints.
ENDPOINT_MODULES = (account, invoices, payments, receive_requests)

_LIMITED_PAGE = "<html><head><title>Access denied | Cloudflare</title></head><body>Error 1015</body></html>"
_BLOCKED_PAGE = "<html><head><title>Attention Required! | Cloudflare</title></head><body>Blocked</body></html>"


def answer(simulator: World, request: Request) -> Reply:
    """One call of Strike's API."""
    try:
        return _answer(simulator, request)
    except ApiError as error:
        return error_reply(error, simulator.new_id())
    except Blocked:
        return html_reply(403, _BLOCKED_PAGE, [("Server", "cloudflare")])


def _answer(simulator: World, request: Request) -> Reply:
    match = ROUTER.find(request.method, request.segments)
    endpoint = match.target if match else None
    wait = _seconds_to_wait(simulator, request, endpoint)
    if wait:
        return too_many_requests(simulator, wait)
    scopes = _scopes_of_caller(simulator, request)
    if match is None or endpoint is None:
        if ROUTER.methods_of(request.segments):
            raise ApiError("METHOD_NOT_ALLOWED", status=405)
        raise ApiError("NOT_FOUND")
    if endpoint.scope not in scopes and "*" not in scopes:
        raise ApiError("FORBIDDEN")
    for name, value in match.values.items():
        if name.endswith("Id") and not UUID.fullmatch(value):
            raise invalid(name, "INVALID_DATA", f"The value '{value}' is not valid.")
    return endpoint.handler(Call(simulator, request, match.values))


def _seconds_to_wait(simulator: World, request: Request, endpoint: Endpoint | None) -> float:
    config = simulator.config
    bucket = endpoint.bucket if endpoint else limits.OTHERS
    if config.invoice_reads_share_creation_bucket and endpoint and endpoint.scope == "partner.invoice.read":
        bucket = limits.CREATE_INVOICE
    table: dict[str, Any] = config.rate_limit_table or limits.TABLES[config.rate_limits]
    limit = table.get(bucket)
    if limit is None:
        return 0.0
    now = simulator.now().timestamp()
    return simulator.limits.seconds_to_wait(bucket, request.client, tuple(limit), now)


def too_many_requests(simulator: World, seconds: float) -> Reply:
    """429, with the end of the lock-out in Retry-After."""
    config, whole = simulator.config, math.ceil(seconds)
    end = simulator.now() + timedelta(seconds=whole)
    text = format_datetime(end, usegmt=True) if config.retry_after_form == "date" else str(whole)
    headers = [("Retry-After", text)]
    if config.rate_limit_body == "html":
        return html_reply(429, _LIMITED_PAGE, [*headers, ("Server", "cloudflare")])
    data = {"status": 429, "code": "RATE_LIMIT_EXCEEDED", "message": "Rate limit exceeded."}
    return json_reply(429, {"traceId": simulator.new_id(), "data": data}, headers)


def _scopes_of_caller(simulator: World, request: Request) -> list[str]:
    kind, _, key = (request.header("Authorization") or "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise ApiError("UNAUTHORIZED")
    keys = simulator.config.api_keys
    if keys is None:
        return ["*"]
    if key.strip() not in keys:
        raise ApiError("UNAUTHORIZED")
    return keys[key.strip()]
