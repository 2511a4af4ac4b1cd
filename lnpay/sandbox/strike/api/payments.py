"""Endpoints of Strike's payouts."""

from __future__ import annotations

import json

from lnpay.sandbox.strike.api.routes import Call, route
from lnpay.sandbox.strike.destinations import Destination, is_well_formed, look_up
from lnpay.sandbox.strike.envelope import (
    UUID,
    ApiError,
    Body,
    invalid,
)
from lnpay.sandbox.strike.invoices import sats_of
from lnpay.sandbox.strike.limits import CREATE_PAYMENT_QUOTE, EXECUTE_PAYMENT
from lnpay.sandbox.strike.models import Money, Payment, PaymentQuote
from lnpay.sandbox.strike.views import Json, payment_json, payment_quote_json
from lnpay.sandbox.wallet import WalletRequest
from lnpay.sandbox.web import Reply, json_reply

QUOTE_SCOPE = "partner.payment-quote.lightning.create"


@route("POST", "/payment-quotes/lightning", QUOTE_SCOPE, CREATE_PAYMENT_QUOTE)
def quote_payment_request(call: Call) -> Reply:
    """POST /v1/payment-quotes/lightning: pays what the simulated wallet asks for."""
    key, body = _idempotency_key(call), call.body()
    text = body.text("lnInvoice", most=4000, least=1, required=True)
    currency = _source_currency(call, body, required=False)
    if body.fields.get("amount") is not None:
        body.fail("amount", "INVALID_DATA", "The amount must be absent for an invoice with an amount.")
    body.check()
    call.sim.payments.refuse_repeat(key)
    asked = _payable_request(call, text or "")
    destination = look_up(asked.payment_request, call.sim.config)
    quote = call.sim.payments.quote(destination, asked.sats, currency, key, None)
    return json_reply(200, payment_quote_json(quote, call.sim.config))


def _payable_request(call: Call, text: str) -> WalletRequest:
    text = text.lower().removeprefix("lightning:")
    if text in call.sim.invoices.quotes_by_request or text in call.sim.receive_requests.by_payment_request:
        raise ApiError("SELF_PAYMENT_NOT_ALLOWED")
    asked = call.sim.wallet.requests.get(text)
    if asked is None:
        raise ApiError("INVALID_LN_INVOICE")
    if text in call.sim.wallet.paid:
        raise ApiError("LN_INVOICE_PROCESSED")
    if call.sim.now() >= asked.expires_at:
        raise ApiError("INVALID_STATE_FOR_INVOICE_EXPIRED")
    return asked


@route("POST", "/payment-quotes/lightning/lnurl", QUOTE_SCOPE, CREATE_PAYMENT_QUOTE)
def quote_address(call: Call) -> Reply:
    """POST /v1/payment-quotes/lightning/lnurl: pays a Lightning address or LNURL."""
    key, body = _idempotency_key(call), call.body()
    name = body.text("lnAddressOrUrl", most=2000, least=1, required=True) or ""
    currency = _source_currency(call, body, required=True)
    amount = body.money("amount")
    description = body.text("description", most=1000, least=1)
    if name and not is_well_formed(name):
        body.fail("lnAddressOrUrl", "INVALID_DATA", f"The value '{name}' is not valid.")
    if currency == "BTC" and amount.currency != "BTC":
        body.fail("amount.currency", "INVALID_DATA_CURRENCY", "The currency must be BTC.")
    body.check()
    call.sim.payments.refuse_repeat(key)
    destination = _destination(call, name)
    sats = _sats(call, amount)
    _check_terms(destination, sats, description)
    quote = call.sim.payments.quote(destination, sats, currency, key, description)
    return json_reply(200, payment_quote_json(quote, call.sim.config))


def _sats(call: Call, amount: Money) -> int:
    if amount.units <= 0:
        raise ApiError("INVALID_AMOUNT")
    return sats_of(amount, call.sim.strike_rate(amount.currency))


def _check_terms(destination: Destination, sats: int, description: str | None) -> None:
    if sats < destination.min_sats:
        raise ApiError("AMOUNT_TOO_LOW")
    if sats > destination.max_sats:
        raise ApiError("AMOUNT_TOO_HIGH")
    if description is not None and len(description) > destination.comment_allowed:
        most = destination.comment_allowed
        message = f"The field description must be a value with a maximum length of '{most}'"
        raise invalid("description", "INVALID_DATA_MAXLENGTH", message, maxLength=most)


def _destination(call: Call, name: str) -> Destination:
    destination = look_up(name, call.sim.config)
    if destination.behaviour == "unknown":
        config = call.sim.config
        raise ApiError(config.unknown_address_code, status=config.unknown_address_status)
    return destination


def _idempotency_key(call: Call) -> str | None:
    key = call.request.header("idempotency-key")
    if key is not None and not UUID.fullmatch(key):
        raise invalid("idempotency-key", "INVALID_DATA", f"The value '{key}' is not valid.")
    return key.lower() if key is not None else None


def _source_currency(call: Call, body: Body, *, required: bool) -> str:
    config = call.sim.config
    currency = body.text("sourceCurrency", most=10, required=required)
    if currency is None:
        return config.default_currency
    if currency not in config.currencies:
        body.fail("sourceCurrency", "INVALID_DATA_CURRENCY", f"Currency '{currency}' is not supported.")
    return currency


@route("GET", "/payment-quotes/lightning/lnurl/{address}", QUOTE_SCOPE)
def read_address(call: Call) -> Reply:
    """GET /v1/payment-quotes/lightning/lnurl/{lnAddressOrUrl}: what can be sent there, in msats."""
    name = call.path["address"]
    if not is_well_formed(name):
        raise invalid("lnAddressOrUrl", "INVALID_DATA", f"The value '{name}' is not valid.")
    destination = _destination(call, name)
    metadata = [["text/plain", f"Payment to {name}"], ["text/identifier", name]]
    view: Json = {
        "minSendable": destination.min_sats * 1000,
        "maxSendable": destination.max_sats * 1000,
        "metadata": json.dumps(metadata),
        "tag": "payRequest",
    }
    if destination.comment_allowed:
        view["commentAllowed"] = destination.comment_allowed
    return json_reply(200, view)


@route("PATCH", "/payment-quotes/{paymentQuoteId}/execute", "partner.payment-quote.execute", EXECUTE_PAYMENT)
def execute_quote(call: Call) -> Reply:
    """PATCH /v1/payment-quotes/{paymentQuoteId}/execute."""
    config = call.sim.config
    payment = call.sim.payments.execute(_find_quote(call))
    if config.execute_status in ("200", "202"):
        status = int(config.execute_status)
    else:
        status = 202 if payment.state == "PENDING" else 200
    return json_reply(status, payment_json(payment, config))


@route("GET", "/payment-quotes/{paymentQuoteId}", QUOTE_SCOPE)
def read_quote(call: Call) -> Reply:
    """GET /v1/payment-quotes/{paymentQuoteId}: undocumented, there only when configured."""
    if not call.sim.config.has_payment_quote_read:
        raise ApiError("NOT_FOUND")
    return json_reply(200, payment_quote_json(_find_quote(call), call.sim.config))


def _find_quote(call: Call) -> PaymentQuote:
    quote = call.sim.payments.quotes.get(call.path["paymentQuoteId"].lower())
    if quote is None:
        raise ApiError("NOT_FOUND")
    return quote


@route("GET", "/payments/{paymentId}", "partner.payment.read")
def read_payment(call: Call) -> Reply:
    """GET /v1/payments/{paymentId}."""
    payment: Payment | None = call.sim.payments.payments.get(call.path["paymentId"].lower())
    if payment is None:
        raise ApiError("NOT_FOUND")
    return json_reply(200, payment_json(payment, call.sim.config))
