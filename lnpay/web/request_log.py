"""Request logging: an id in log lines and answers, a debug line per request, and its duration as a metric."""

from __future__ import annotations

import logging
import re
import time
import uuid

from flask import Flask, Response, g, request

from lnpay.runtime.logs import request_id
from lnpay.web.operations.metrics import meters

log = logging.getLogger(__name__)

HEADER = "X-Request-Id"

UNKNOWN_ROUTE = "none"
"""Label for unknown paths and methods: strangers could otherwise create any number of metric series."""

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def set_up_request_log(app: Flask) -> None:
    """Log and measure every request to `app`. Call it first, so that it includes all later hooks."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_forget)


def _begin() -> None:
    given = request.headers.get(HEADER, "")
    request_id.set(given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex)
    g.began_at = time.perf_counter()


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.began_at
    route = request.url_rule.rule if request.url_rule is not None else UNKNOWN_ROUTE
    meters().saw_request(route, response.status_code, seconds)
    response.headers[HEADER] = request_id.get()
    # The route, never the path, which may hold the token of a customer's page.
    log.debug("request method=%s route=%s status=%d ms=%d", request.method, route, response.status_code, seconds * 1000)
    return response


def _forget(_error: BaseException | None) -> None:
    # The thread will serve other requests.
    request_id.set("")
