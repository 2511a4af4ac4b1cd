"""What is kept of every request: an id in its log lines and its answer, one quiet line, and how long it took."""

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
"""For addresses and methods that are not ours: strangers may ask for any, and each would be a series of its own."""

_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def set_up_request_log(app: Flask) -> None:
    """Watch every request to `app`. Must come first: what is set up later is inside of it."""
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
    # The route and never the path: a token in it opens a customer's page.
    log.debug("request method=%s route=%s status=%d ms=%d", request.method, route, response.status_code, seconds * 1000)
    return response


def _forget(_error: BaseException | None) -> None:
    # The thread goes on to do other things.
    request_id.set("")
