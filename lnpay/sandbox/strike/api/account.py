"""Endpoints of Strike's account: rates, balances, profile, limits, webhook subscriptions and events."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from urllib.parse import urlsplit

from lnpay.sandbox.strike.api.odata import Row
from lnpay.sandbox.strike.api.routes import Call, list_envelope, route
from lnpay.sandbox.strike.envelope import ApiError, Body
from lnpay.sandbox.strike.limits import RATES
from lnpay.sandbox.strike.models import AccountEvent, Money, Subscription
from lnpay.sandbox.strike.views import Json, event_json, subscription_json
from lnpay.sandbox.strike.webhooks import EVENT_TYPES
from lnpay.sandbox.web import Reply, json_reply
from lnpay.sandbox.world import World

MANAGE = "partner.webhooks.manage"
MOST_SUBSCRIPTIONS = 50
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
EVENT_KINDS = {"created": "date", "eventType": "text", "deliverySuccess": "bool"}


@route("GET", "/rates/ticker", "partner.rates.ticker", RATES)
def read_ticker(call: Call) -> Reply:
    """GET /v1/rates/ticker: both directions of each pair of currencies that have a price."""
    known = {currency: _price_in(call, currency) for currency in call.sim.config.currencies}
    prices = {currency: price for currency, price in known.items() if price is not None}
    rows = [_ticker_row(source, target, prices) for source, target in permutations(prices, 2)]
    return json_reply(200, rows)


def _price_in(call: Call, currency: str) -> Decimal | None:
    """Units of a currency for one bitcoin."""
    return Decimal(1) if currency == "BTC" else call.sim.rates.price("strike", currency)


def _ticker_row(source: str, target: str, prices: dict[str, Decimal]) -> Json:
    step = Decimal("0.00000001" if target == "BTC" else "0.0001")
    amount = f"{(prices[target] / prices[source]).quantize(step):f}"
    return {"amount": amount, "sourceCurrency": source, "targetCurrency": target}


@route("GET", "/balances", "partner.balances.read")
def read_balances(call: Call) -> Reply:
    """GET /v1/balances."""
    return json_reply(200, [_balance(call.sim, currency) for currency in call.sim.config.usable_currencies()])


def _balance(simulator: World, currency: str) -> Json:
    available, outgoing = simulator.balances.available[currency], simulator.balances.outgoing[currency]
    return {
        "currency": currency,
        "current": Money(available, currency).text(),
        "pending": Money(0, currency).text(),
        "outgoing": Money(outgoing, currency).text(),
        "reserved": Money(0, currency).text(),
        "available": Money(available, currency).text(),
        "total": Money(available + outgoing, currency).text(),
    }


@route("GET", "/accounts/handle/{handle}/profile", "partner.account.profile.read")
def read_profile_by_handle(call: Call) -> Reply:
    """GET /v1/accounts/handle/{handle}/profile."""
    return _profile(call, call.path["handle"] == call.sim.config.handle)


@route("GET", "/accounts/{accountId}/profile", "partner.account.profile.read")
def read_profile(call: Call) -> Reply:
    """GET /v1/accounts/{id}/profile."""
    return _profile(call, call.path["accountId"].lower() == call.sim.account_id)


def _profile(call: Call, is_found: bool) -> Reply:
    if not is_found:
        raise ApiError("NOT_FOUND")
    config, usable = call.sim.config, call.sim.config.usable_currencies()
    currencies = [
        {
            "currency": currency,
            "isDefaultCurrency": currency == config.default_currency,
            "isAvailable": currency in usable,
            "isInvoiceable": currency in usable and currency in config.invoiceable_currencies,
        }
        for currency in config.currencies
    ]
    view = {"id": call.sim.account_id, "handle": config.handle, "canReceive": True, "currencies": currencies}
    return json_reply(200, view)


@route("GET", "/accounts/limits", "partner.account.profile.read-own")
def read_limits(call: Call) -> Reply:
    """GET /v1/accounts/limits: generous, and never used up."""
    cycle = {"days": 30, "limit": "100000.00", "used": "0.00"}
    amounts = {
        "effective": "100000.00",
        "lifetime": None,
        "calendarYear": None,
        "cycles": [cycle],
    }
    return json_reply(200, {"deposits": {"currency": "USD", "amount": amounts}})


@route("POST", "/subscriptions", MANAGE)
def create_subscription(call: Call) -> Reply:
    """POST /v1/subscriptions."""
    subscriptions, body = call.sim.webhooks.subscriptions, call.body()
    for name in ("webhookUrl", "webhookVersion", "secret", "enabled", "eventTypes"):
        if body.fields.get(name) is None:
            body.fail(name, "INVALID_DATA_REQUIRED", f"The {name} field is required.")
    _check_subscription(body)
    if len(subscriptions) >= MOST_SUBSCRIPTIONS:
        raise ApiError("UNPROCESSABLE_ENTITY", "The maximum number of subscriptions is reached.")
    fields = body.fields
    subscription = Subscription(
        call.sim.new_id(), fields["webhookUrl"], fields["webhookVersion"], fields["secret"],
        fields["enabled"], list(fields["eventTypes"]), call.sim.now(),
    )  # fmt: skip
    subscriptions[subscription.subscription_id] = subscription
    location = f"{call.request.base_url}/v1/subscriptions/{subscription.subscription_id}"
    return json_reply(201, subscription_json(subscription, call.sim.config), [("Location", location)])


def _check_subscription(body: Body) -> None:
    """Raise INVALID_DATA for the fields that are there and wrong."""
    url = body.text("webhookUrl", most=2000)
    if url is not None and not _is_allowed_url(url):
        body.fail("webhookUrl", "INVALID_DATA", "The webhookUrl must be an absolute https URL.")
    version = body.text("webhookVersion", most=10)
    if version is not None and version not in ("v1", "v2"):
        body.fail("webhookVersion", "INVALID_DATA", f"The value '{version}' is not valid.")
    body.text("secret", most=50, least=10)
    if not isinstance(body.fields.get("enabled", True), bool | None):
        body.fail("enabled", "INVALID_DATA", "The value of enabled is not valid.")
    types = body.fields.get("eventTypes")
    if types is not None and not _are_event_types(types):
        body.fail("eventTypes", "INVALID_DATA", "The value of eventTypes is not valid.")
    body.check()


def _is_allowed_url(url: str) -> bool:
    """https anywhere, plain http only on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (parts.scheme == "https" and bool(parts.hostname)) or (
        parts.scheme == "http" and parts.hostname in LOCAL_HOSTS
    )


def _are_event_types(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, str) and item in EVENT_TYPES for item in value)
    )


@route("GET", "/subscriptions", MANAGE)
def list_subscriptions(call: Call) -> Reply:
    """GET /v1/subscriptions: a bare array."""
    rows = call.sim.webhooks.subscriptions.values()
    return json_reply(200, [subscription_json(row, call.sim.config) for row in rows])


@route("GET", "/subscriptions/{subscriptionId}", MANAGE)
def read_subscription(call: Call) -> Reply:
    """GET /v1/subscriptions/{id}."""
    return json_reply(200, subscription_json(_find_subscription(call), call.sim.config))


@route("PATCH", "/subscriptions/{subscriptionId}", MANAGE)
def update_subscription(call: Call) -> Reply:
    """PATCH /v1/subscriptions/{id}: any of the fields."""
    subscription, body = _find_subscription(call), call.body()
    _check_subscription(body)
    names = {
        "webhookUrl": "url",
        "webhookVersion": "version",
        "secret": "secret",
        "enabled": "is_enabled",
        "eventTypes": "event_types",
    }
    for name, attribute in names.items():
        if body.fields.get(name) is not None:
            setattr(subscription, attribute, body.fields[name])
    return json_reply(200, subscription_json(subscription, call.sim.config))


@route("DELETE", "/subscriptions/{subscriptionId}", MANAGE)
def delete_subscription(call: Call) -> Reply:
    """DELETE /v1/subscriptions/{id}."""
    del call.sim.webhooks.subscriptions[_find_subscription(call).subscription_id]
    return Reply(204)


def _find_subscription(call: Call) -> Subscription:
    found = call.sim.webhooks.subscriptions.get(call.path["subscriptionId"].lower())
    if found is None:
        raise ApiError("NOT_FOUND")
    return found


@route("GET", "/events", MANAGE)
def list_events(call: Call) -> Reply:
    """GET /v1/events: those of the past 30 days, with or without a subscription."""
    config = call.sim.config
    rows = ((_event_row(event), event) for event in call.sim.webhooks.shown_events().values())
    return json_reply(200, list_envelope(call, EVENT_KINDS, rows, lambda event: event_json(event, config)))


def _event_row(event: AccountEvent) -> Row:
    return {
        "created": event.created_at,
        "eventType": event.event_type,
        "deliverySuccess": event.delivery_success,
    }


@route("GET", "/events/{eventId}", MANAGE)
def read_event(call: Call) -> Reply:
    """GET /v1/events/{id}."""
    event = call.sim.webhooks.shown_events().get(call.path["eventId"].lower())
    if event is None:
        raise ApiError("NOT_FOUND")
    return json_reply(200, event_json(event, call.sim.config))
