"""Endpoints of Strike's receive requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lnpay.sandbox.strike.api.invoices import MAX_SATS
from lnpay.sandbox.strike.api.odata import BadQuery, read_count
from lnpay.sandbox.strike.api.routes import Blocked, Call, counted, route
from lnpay.sandbox.strike.envelope import UUID, ApiError, Body, invalid
from lnpay.sandbox.strike.models import CURRENCIES, Money, Receive, ReceiveRequest
from lnpay.sandbox.strike.receive_requests import Bolt11Terms, OnchainTerms
from lnpay.sandbox.strike.receive_views import receive_json, receive_request_json
from lnpay.sandbox.web import Reply, html_reply, json_reply

CREATE = "partner.receive-request.create"
READ = "partner.receive-request.read"

MOST_ROWS = 100

Record = TypeVar("Record")

Keys = dict[str, str | None]
"""Name of an array filter to what a row has there."""


@route("POST", "/receive-requests", CREATE)
def create_receive_request(call: Call) -> Reply:
    """POST /v1/receive-requests. A repeat makes another one: there is no protection against duplicates."""
    body, config = call.body(), call.sim.config
    bolt11, onchain = body.section("bolt11"), body.section("onchain")
    currency = body.text("targetCurrency", most=10) or config.default_currency
    if currency not in CURRENCIES:
        body.fail("targetCurrency", "INVALID_DATA_CURRENCY", f"Currency '{currency}' is not supported.")
    by_lightning = _bolt11_terms(call, bolt11) if bolt11 else None
    by_chain = OnchainTerms(onchain.optional_money("amount")) if onchain else None
    body.check()
    _require_currency(call, currency)
    for part in (by_lightning, by_chain):
        if part is not None and part.amount is not None:
            _require_amount(call, part.amount)
    request = call.sim.receive_requests.create(currency, by_lightning, by_chain)
    location = f"{call.request.base_url}/v1/receive-requests/{request.request_id}"
    return json_reply(201, receive_request_json(request, config), [("Location", location)])


def _bolt11_terms(call: Call, body: Body) -> Bolt11Terms:
    config = call.sim.config
    expiry = body.whole_number("expiryInSeconds", least=1, most=config.max_receive_expiry_seconds)
    return Bolt11Terms(
        body.optional_money("amount"),
        body.text("description", most=250, least=1),
        body.hash_text("descriptionHash"),
        config.receive_expiry_seconds if expiry is None else expiry,
    )


def _require_currency(call: Call, currency: str) -> None:
    if currency not in call.sim.config.usable_currencies():
        raise ApiError("USER_CURRENCY_UNAVAILABLE", values={"currency": currency})


def _require_amount(call: Call, amount: Money) -> None:
    if amount.currency != "BTC":
        _require_currency(call, amount.currency)
    if amount.units <= 0:
        raise ApiError("INVALID_AMOUNT")
    if amount.units > MAX_SATS:
        raise ApiError("AMOUNT_TOO_HIGH")


@route("GET", "/receive-requests/receives", READ)
def list_receives(call: Call) -> Reply:
    """GET /v1/receive-requests/receives: of many requests at once."""
    return _list(call, call.sim.receive_requests.shown(), _keys_of_receive, _receive_json(call))


@route("GET", "/receive-requests", READ)
def list_receive_requests(call: Call) -> Reply:
    """GET /v1/receive-requests."""
    config, rows = call.sim.config, list(call.sim.receive_requests.by_id.values())
    return _list(call, rows, _keys_of_request, lambda row: receive_request_json(row, config))


@route("GET", "/receive-requests/{receiveRequestId}", READ)
def read_receive_request(call: Call) -> Reply:
    """GET /v1/receive-requests/{receiveRequestId}."""
    return json_reply(200, receive_request_json(_find(call), call.sim.config))


@route("GET", "/receive-requests/{receiveRequestId}/receives", READ)
def list_receives_of_request(call: Call) -> Reply:
    """GET /v1/receive-requests/{receiveRequestId}/receives."""
    request = _find(call)
    rows = [row for row in call.sim.receive_requests.shown() if row.request is request]
    return _list(call, rows, lambda row: {}, _receive_json(call))


def _find(call: Call) -> ReceiveRequest:
    request = call.sim.receive_requests.by_id.get(call.path["receiveRequestId"].lower())
    if request is None:
        raise ApiError("NOT_FOUND")
    return request


def _receive_json(call: Call) -> Callable[[Receive], Any]:
    book, config = call.sim.receive_requests, call.sim.config
    return lambda row: receive_json(row, config, is_completed=book.is_shown_completed(row))


def _keys_of_request(request: ReceiveRequest) -> Keys:
    return {
        "$onchainAddress": request.onchain.address if request.onchain else None,
        "$bolt11Invoice": request.bolt11.payment_request if request.bolt11 else None,
        "$paymentHash": request.bolt11.payment_hash if request.bolt11 else None,
    }


def _keys_of_receive(receive: Receive) -> Keys:
    """The values that find a receive. That of a Strike user has neither a payment request nor a hash."""
    found = _keys_of_request(receive.request)
    return {
        "$receiveId": receive.receive_id,
        "$receiveRequestId": receive.request.request_id,
        "$onchainAddress": found["$onchainAddress"] if receive.way == "ONCHAIN" else None,
        "$bolt11Invoice": found["$bolt11Invoice"] if receive.way == "LIGHTNING" else None,
        "$paymentHash": found["$paymentHash"] if receive.way == "LIGHTNING" else None,
    }


_ID_FILTERS = ("$receiveId", "$receiveRequestId")
_FILTERS = (*_ID_FILTERS, "$onchainAddress", "$bolt11Invoice", "$paymentHash")


def _list(
    call: Call, rows: Sequence[Record], keys: Callable[[Record], Keys], to_json: Callable[[Record], Any]
) -> Reply:
    """A page, the newest first, of the rows that every array filter lets through."""
    config, arguments = call.sim.config, call.request.arguments
    if config.filter_policy == "block_all" and any(name in arguments for name in ("$filter", *_FILTERS)):
        raise Blocked
    if config.most_query_bytes is not None and len(call.request.query) > config.most_query_bytes:
        return html_reply(414, "<html><body><h1>414 Request-URI Too Large</h1></body></html>")
    try:
        skip = read_count("$skip", arguments.get("$skip", "0"), 2**31)
        top = read_count("$top", arguments.get("$top", str(config.receive_default_top)), MOST_ROWS)
    except BadQuery as error:
        raise ApiError("INVALID_DATA_QUERY", str(error)) from error
    known = keys(rows[0]) if rows else {}
    wanted = {name: _wanted(call, name) for name in _FILTERS if name in call.request.lists}
    in_force = {name: values for name, values in wanted.items() if values is not None and name in known}
    found = [row for row in reversed(rows) if _is_wanted(keys(row), in_force)]
    return json_reply(200, counted(call, [to_json(row) for row in found[skip : skip + top]], len(found)))


def _is_wanted(keys: Keys, wanted: dict[str, frozenset[str]]) -> bool:
    return all(keys[name] in values for name, values in wanted.items())


def _wanted(call: Call, name: str) -> frozenset[str] | None:
    """The values of an array filter; None when it is ignored. Raises ApiError where Strike refuses it."""
    config, given = call.sim.config, call.request.lists[name]
    if config.array_filters == "ignored":
        return None
    if config.array_filters == "refused":
        raise _refusal(call, f"The query parameter '{name}' is not supported.")
    is_understood = _is_understood(given, config.array_filters)
    if not is_understood and config.unknown_array_form == "refused":
        raise _refusal(call, f"The value of '{name}' is not valid.")
    if not is_understood:
        # A parser that knows only one form sees only the first of repeated keys, or takes a comma as part of the value.
        return frozenset((given[0].strip().lower(),))
    values = [part.strip().lower() for text in given for part in text.split(",") if part.strip()]
    if len(values) > config.most_array_values:
        raise _refusal(call, f"The limit of '{config.most_array_values}' values for {name} has been exceeded.")
    for value in values:
        if name in _ID_FILTERS and not UUID.fullmatch(value):
            raise invalid(name, "INVALID_DATA", f"The value '{value}' is not valid.")
    return frozenset(values)


def _is_understood(given: list[str], forms: str) -> bool:
    if forms == "comma":
        return len(given) == 1
    return forms != "repeated" or not any("," in text for text in given)


def _refusal(call: Call, message: str) -> ApiError:
    status = call.sim.config.array_refusal_status
    return ApiError("INVALID_DATA_QUERY" if status == 400 else "UNPROCESSABLE_ENTITY", message, status=status)
