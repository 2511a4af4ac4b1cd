"""Endpoints of Strike's invoices."""

from __future__ import annotations

from lnpay.sandbox.strike.api.odata import Row
from lnpay.sandbox.strike.api.routes import Call, list_envelope, route
from lnpay.sandbox.strike.envelope import ApiError
from lnpay.sandbox.strike.limits import CREATE_INVOICE, QUOTE_INVOICE
from lnpay.sandbox.strike.models import Invoice
from lnpay.sandbox.strike.views import invoice_json, invoice_quote_json
from lnpay.sandbox.web import Reply, json_reply

MAX_SATS = 21_000_000 * 100_000_000

FILTER_KINDS = {
    "invoiceId": "text",
    "created": "date",
    "currency": "text",
    "state": "text",
    "issuerId": "text",
    "receiverId": "text",
    "payerId": "text",
    "correlationId": "text",
}


@route("POST", "/invoices", "partner.invoice.create", CREATE_INVOICE)
def create_invoice(call: Call) -> Reply:
    """POST /v1/invoices."""
    body = call.body()
    amount = body.money("amount")
    correlation_id = body.text("correlationId", most=40)
    description = body.text("description", most=200)
    body.check()
    config = call.sim.config
    if amount.currency not in config.invoiceable_currencies or amount.currency not in config.usable_currencies():
        raise ApiError("USER_CURRENCY_UNAVAILABLE", values={"currency": amount.currency})
    if amount.units <= 0:
        raise ApiError("INVALID_AMOUNT")
    if amount.units > MAX_SATS:
        raise ApiError("AMOUNT_TOO_HIGH")
    invoice = call.sim.invoices.create(amount, correlation_id, description)
    location = f"{call.request.base_url}/v1/invoices/{invoice.invoice_id}"
    return json_reply(201, invoice_json(invoice, call.sim.config), [("Location", location)])


@route("POST", "/invoices/handle/{handle}", "partner.invoice.create-for-receiver", CREATE_INVOICE)
def create_invoice_for_receiver(call: Call) -> Reply:
    """POST /v1/invoices/handle/{handle}: the account itself is the one handle there is."""
    if call.path["handle"] != call.sim.config.handle:
        raise ApiError("NOT_FOUND")
    return create_invoice(call)


@route("GET", "/invoices", "partner.invoice.read")
def list_invoices(call: Call) -> Reply:
    """GET /v1/invoices."""
    config = call.sim.config
    rows = ((_filter_row(invoice), invoice) for invoice in call.sim.invoices.by_id.values())
    return json_reply(200, list_envelope(call, FILTER_KINDS, rows, lambda found: invoice_json(found, config)))


def _filter_row(invoice: Invoice) -> Row:
    return {
        "invoiceId": invoice.invoice_id,
        "created": invoice.created_at,
        "currency": invoice.amount.currency,
        "state": invoice.state,
        "issuerId": invoice.issuer_id,
        "receiverId": invoice.receiver_id,
        "payerId": None,
        "correlationId": invoice.correlation_id,
    }


@route("GET", "/invoices/{invoiceId}", "partner.invoice.read")
def read_invoice(call: Call) -> Reply:
    """GET /v1/invoices/{invoiceId}."""
    with_transactions = call.request.arguments.get("includeTransactions", "").lower() == "true"
    invoice = _find(call)
    view = invoice_json(invoice, call.sim.config, with_transactions)
    return json_reply(200, {**view, "state": call.sim.invoices.state_shown(invoice)})


@route("POST", "/invoices/{invoiceId}/quote", "partner.invoice.quote.generate", QUOTE_INVOICE)
def quote_invoice(call: Call) -> Reply:
    """POST /v1/invoices/{invoiceId}/quote."""
    invoice = _find(call)
    body = call.body()
    text = body.hash_text("descriptionHash")
    body.check()
    quote = call.sim.invoices.quote(invoice, bytes.fromhex(text) if text else None)
    location = f"{call.request.base_url}/v1/quotes/{quote.quote_id}"
    return json_reply(201, invoice_quote_json(quote, call.sim.config), [("Location", location)])


@route("PATCH", "/invoices/{invoiceId}/cancel", "partner.invoice.cancel")
def cancel_invoice(call: Call) -> Reply:
    """PATCH /v1/invoices/{invoiceId}/cancel."""
    invoice = _find(call)
    call.sim.invoices.cancel(invoice)
    return json_reply(200, invoice_json(invoice, call.sim.config))


def _find(call: Call) -> Invoice:
    invoice = call.sim.invoices.by_id.get(call.path["invoiceId"].lower())
    if invoice is None:
        raise ApiError("NOT_FOUND")
    return invoice
