"""The simulator's HTTP entry point: dispatches requests to its services and injects faults.

Connections cannot be dropped from here, so private headers tell the transport (server.py, transport.py) to:
X-Sandbox-Drop: "unreachable", "reset" (no answer, connection closed) or "timeout" (no answer ever);
X-Sandbox-Delay: seconds to wait; with X-Sandbox-Resume: call again after the wait, nothing has happened yet.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from lnpay.sandbox import control
from lnpay.sandbox.faults import NO_ANSWER_SECONDS, Fault
from lnpay.sandbox.people.app import people_app
from lnpay.sandbox.rates import api as rates_api
from lnpay.sandbox.shop import actions as shop
from lnpay.sandbox.shop import greenfield
from lnpay.sandbox.strike.api import front as strike_api
from lnpay.sandbox.strike.envelope import ApiError, error_reply
from lnpay.sandbox.web import Reply, Request, html_reply
from lnpay.sandbox.world import World

DROP = "X-Sandbox-Drop"
DELAY = "X-Sandbox-Delay"
RESUME = "X-Sandbox-Resume"

MARK = ("X-LNPay-Simulator", "1")
"""A header of every answer, so that it cannot be mistaken for Strike's or a shop's."""

READ_TIMEOUT = "sandbox.read_timeout"
"""Environ key set by an in-process transport: how many seconds its caller waits. Nothing really sleeps then."""
RESUMED = "sandbox.resumed"
"""Environ key of a call repeated after its delay."""

BLOCKED_PAGE = (
    "<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>"
    "<body><h1>Sorry, you have been blocked</h1></body></html>"
)

_SERVICES: dict[str, Callable[[World, Request], Reply]] = {
    "v1": strike_api.answer,
    "coingecko": rates_api.answer,
    "coinbase": rates_api.answer,
}
_WEBHOOKS = {"/shop/webhook": shop.receive_webhook, greenfield.WEBHOOK_PATH: greenfield.receive_event}
"""Of the demo shop: for LNPay's own messages, and for those of BTCPay Server."""

_MOST_BYTES = 1_000_000

log = logging.getLogger(__name__)


def answer_wsgi(simulator: World, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
    """Answer one request."""
    try:
        body = read_body(environ)
    except ApiError as error:
        return _start(simulator, error_reply(error, simulator.new_id()), start_response)
    request = Request(environ, body)
    service = _WEBHOOKS.get(request.path) or _SERVICES.get(request.segments[0])
    if service is not None:
        reply = _answer_with_faults(simulator, request, service)
    elif request.segments[0] == "_control":
        reply = _effect(simulator, request, control.answer)
    else:
        simulator.tick()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["sandbox.simulator"] = simulator
        return people_app().wsgi_app(environ, start_response)
    return _start(simulator, reply, start_response)


def _start(simulator: World, reply: Reply, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401
    headers = [*reply.headers, ("Content-Length", str(len(reply.body))), MARK]
    if "Date" not in dict(headers):
        headers.append(("Date", format_datetime(simulator.clock.now(), usegmt=True)))
    start_response(f"{reply.status} {_phrase(reply.status)}", headers)
    return [reply.body]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def read_body(environ: dict[str, Any]) -> bytes:
    """A request's body, chunked or not. Raises ApiError if it is too large."""
    text = str(environ.get("CONTENT_LENGTH") or "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ApiError("INVALID_DATA", "The Content-Length is not valid.")
    size = int(text)
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        size = _MOST_BYTES + 1
    try:
        body = bytes(environ["wsgi.input"].read(min(size, _MOST_BYTES + 1))) if size else b""
    except (OSError, ValueError) as error:
        raise ApiError("INVALID_DATA", "The body cannot be read.") from error
    if len(body) > _MOST_BYTES:
        raise ApiError("PAYLOAD_TOO_LARGE", status=413)
    return body


def _effect(simulator: World, request: Request, service: Callable[[World, Request], Reply]) -> Reply:
    with simulator.lock:
        simulator.tick()
        try:
            return service(simulator, request)
        except Exception:
            # Programs developed against the simulator must never see a traceback.
            log.exception("unexpected error path=%s", request.path)
            return error_reply(ApiError("INTERNAL_SERVER_ERROR"), simulator.new_id())


Effect = Callable[[], Reply]


def _answer_with_faults(simulator: World, request: Request, service: Callable[[World, Request], Reply]) -> Reply:
    def effect() -> Reply:
        return _effect(simulator, request, service)

    if request.environ.get(RESUMED):
        return effect()
    with simulator.lock:
        fault = simulator.faults.take(request.method, request.path)
    if fault is None:
        return effect()
    if fault.kind == "delay":
        return _delay(simulator, request, effect, fault.seconds)
    if fault.kind in _BEFORE:
        return _BEFORE[fault.kind](fault, simulator, request)
    if fault.kind == "repeated":
        effect()
        return effect()
    return _AFTER[fault.kind](fault, simulator, effect())


def _delay(simulator: World, request: Request, effect: Effect, seconds: float) -> Reply:
    """Let the request take effect later, even if its caller has given up by then."""
    if READ_TIMEOUT not in request.environ:
        return Reply(200, headers=[(DELAY, str(seconds)), (RESUME, "1")])
    timeout = request.environ[READ_TIMEOUT]
    if timeout is not None and seconds > timeout:
        simulator.schedule.add(simulator.now() + timedelta(seconds=seconds), effect)
        return _drop("timeout")
    if not simulator.clock.is_running:
        simulator.clock.advance(seconds)
    return effect()


def _drop(how: str) -> Reply:
    headers = [(DROP, how)]
    if how == "timeout":
        headers.append((DELAY, str(NO_ANSWER_SECONDS)))
    return Reply(502, headers=headers)


def _error(fault: Fault, simulator: World) -> Reply:
    return error_reply(ApiError(fault.code, status=fault.status), simulator.new_id())


def _rate_limited(fault: Fault, simulator: World, request: Request) -> Reply:
    if request.segments[0] == "coingecko":
        return rates_api.too_many_requests(fault.seconds or 60)
    return strike_api.too_many_requests(simulator, fault.seconds or 60)


_BEFORE: dict[str, Callable[[Fault, World, Request], Reply]] = {
    "error": lambda fault, simulator, request: _error(fault, simulator),
    "unreachable": lambda fault, simulator, request: _drop("unreachable"),
    "lost_request": lambda fault, simulator, request: _drop("timeout"),
    "html403": lambda fault, simulator, request: html_reply(403, BLOCKED_PAGE, [("Server", "cloudflare")]),
    "rate_limited": _rate_limited,
}


def _garbage(fault: Fault, simulator: World, reply: Reply) -> Reply:
    return html_reply(200, "<html><body>It works!</body></html>")


def _truncated(fault: Fault, simulator: World, reply: Reply) -> Reply:
    return Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)


def _delay_after(fault: Fault, simulator: World, reply: Reply) -> Reply:
    return Reply(reply.status, reply.body, [*reply.headers, (DELAY, str(fault.seconds))])


def _change_field(fault: Fault, simulator: World, reply: Reply) -> Reply:
    """Leave out or replace a dotted field; numbers in the path are places in a list."""
    try:
        answer = json.loads(reply.body)
        *parents, last = (int(part) if part.isdigit() else part for part in fault.field.split("."))
        holder = answer
        for part in parents:
            holder = holder[part]
        if fault.kind == "field_changed":
            holder[last] = fault.value
        else:
            del holder[last]
    except (ValueError, KeyError, IndexError, TypeError):
        # An answer without that field, such as an error, is unchanged.
        return reply
    return Reply(reply.status, json.dumps(answer).encode(), reply.headers)


def _change_date(fault: Fault, simulator: World, reply: Reply) -> Reply:
    """Send the fault's value as the Date; without a value a Date that is `seconds` off."""
    wrong = format_datetime(simulator.clock.now() + timedelta(seconds=fault.seconds), usegmt=True)
    return Reply(reply.status, reply.body, [*reply.headers, ("Date", wrong if fault.value is None else fault.value)])


_AFTER: dict[str, Callable[[Fault, World, Reply], Reply]] = {
    "error_after": lambda fault, simulator, reply: _error(fault, simulator),
    "lost_answer": lambda fault, simulator, reply: _drop("reset"),
    "timeout_after": lambda fault, simulator, reply: _drop("timeout"),
    "delay_after": _delay_after,
    "garbage": _garbage,
    "truncated": _truncated,
    "date": _change_date,
    "field_missing": _change_field,
    "field_changed": _change_field,
}
