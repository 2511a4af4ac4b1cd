"""The shop's API: create, read, list and cancel invoices, and draw their QR codes."""

from __future__ import annotations

import base64
from decimal import Decimal

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from lnpay.domain.addresses import (
    MAX_ADDRESS_CHARACTERS,
    AddressRefused,
    parse_refund_address,
    refund_address,
)
from lnpay.domain.errors import NO_SUCH_INVOICE, InvalidRequest, NotFound, OrderConflict
from lnpay.domain.events import EventType
from lnpay.domain.model import (
    Delivery,
    Invoice,
    Order,
    Refund,
)
from lnpay.domain.money import CurrencyAmount, parse_fiat
from lnpay.domain.permissions import Permission
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.text import printable
from lnpay.invoices.cancel import cancel_invoice
from lnpay.invoices.create import create_invoice
from lnpay.repository import Transaction
from lnpay.runtime.backend import Backend
from lnpay.web.api.answers import (
    Credited,
    InvoiceMade,
    InvoicePage,
    InvoiceStanding,
    OpenInvoice,
    OrderAttempts,
)
from lnpay.web.api.bodies import invalid_fields, read_json
from lnpay.web.api.listing import PAGED, ListQuery, cursor_after, read_list_query
from lnpay.web.api.schemas import AMOUNT_LIMIT, GenerateInvoice, idempotency_key
from lnpay.web.authentication import require
from lnpay.web.context import current_backend
from lnpay.web.customer.pages import beside
from lnpay.web.customer.qr import payment_uri, qr_png, qr_svg
from lnpay.web.errors import error_response

blueprint = Blueprint("api", __name__)

KEY_REUSED = "this Idempotency-Key was used for a different request: repeat that request, or use a new key"

ADDRESS_WARNING = "ln_address {}: the invoice is good, but a refund would wait until the customer gives an address"


@blueprint.post("/generate-invoice")
def generate_invoice() -> Response:
    """Create an open invoice with its QR code; repeating the request returns the same invoice."""
    caller = require(Permission.CREATE_INVOICE)
    backend = current_backend()
    wanted = read_json(request, GenerateInvoice)
    key = None if wanted.correlation_id else idempotency_key(request)
    order = _to_order(wanted, wanted.currency or backend.currency)
    try:
        invoice = create_invoice(backend.issuer, wanted.invoice_name(key, caller.scope), order)
    except OrderConflict as conflict:
        return _conflict_response(backend, conflict if key is None else _about_key(conflict))
    except InvalidRequest as error:
        # Only the current price shows that an amount is less than a sat.
        raise invalid_fields({"amount_fiat": error.message}) from error
    data = _shown(backend, invoice)
    if wanted.ln_address:
        try:
            parse_refund_address(wanted.ln_address)
        except AddressRefused as error:
            data["warnings"] = [ADDRESS_WARNING.format(error)]
    return jsonify(InvoiceMade(status="success", data=data))


def _about_key(conflict: OrderConflict) -> OrderConflict:
    """The same conflict for a shop that sent an Idempotency-Key and no correlation_id."""
    if conflict.code not in ("amount_differs", "correlation_id_taken"):
        return conflict
    conflict.code = "idempotency_key_reused"
    conflict.message = KEY_REUSED
    return conflict


def _conflict_response(backend: Backend, conflict: OrderConflict) -> Response:
    """The error, with the invoice it is about."""
    about = {
        "state": conflict.state,
        "invoice_id": conflict.invoice_id,
        "correlation_id": conflict.correlation_id,
        "checkout_url": None if conflict.token is None else _checkout_url(backend, conflict.token),
    }
    return error_response(409, conflict.code, conflict.message, about=about)


def _to_order(wanted: GenerateInvoice, currency: str) -> Order:
    try:
        amount_fiat = parse_fiat(wanted.amount_fiat, currency)
        if amount_fiat >= AMOUNT_LIMIT:
            raise InvalidRequest(f"must be less than {AMOUNT_LIMIT:,}")
    except InvalidRequest as error:
        raise invalid_fields({"amount_fiat": error.message}) from error
    address = wanted.ln_address if refund_address(wanted.ln_address) else _kept(wanted.ln_address)
    return Order(
        amount_fiat,
        currency,
        wanted.description or None,
        address,
        wanted.return_url or None,
        wanted.retry_url or None,
        wanted.metadata or {},
        None if wanted.order_id == wanted.correlation_id else wanted.order_id or None,
        expires_in=wanted.expires_in,
    )


def _kept(address: str | None) -> str | None:
    """The part of an invalid address that is stored: enough to see what was sent."""
    if not address:
        return None
    return printable(address, instead="")[:MAX_ADDRESS_CHARACTERS] or None


def _shown(backend: Backend, invoice: Invoice) -> OpenInvoice:
    bolt11 = invoice.issue.bolt11
    return {
        # The correlation id at Strike is internal; the shop gets its own.
        "invoice": {**invoice.issue.strike_invoice, "correlationId": invoice.correlation_id},
        "quote": invoice.issue.strike_quote,
        "qr_code": base64.b64encode(qr_png(bolt11)).decode(),
        "expiration_time": invoice.expires_at.isoformat(),
        "payment_uri": payment_uri(bolt11),
        "checkout_url": _checkout_url(backend, invoice.token),
    }


def _checkout_url(backend: Backend, token: str) -> str:
    if backend.access.public_url is not None:
        return backend.access.public_url + url_for("checkout.show", token=token)
    return url_for("checkout.show", token=token, _external=True)


@blueprint.get("/invoices")
def find_invoices() -> Response:
    """A page of the list; given `correlation_id` alone, that invoice; given `order_id` alone, its attempts."""
    require(Permission.VIEW_INVOICES)
    backend = current_backend()
    correlation_id, order_id = request.args.get("correlation_id"), request.args.get("order_id")
    is_page = any(name in request.args for name in PAGED) or (correlation_id is None and order_id is None)
    query = read_list_query(request.args)
    with backend.repository.reading() as tx:
        if is_page:
            return jsonify(_page(tx, query))
        if correlation_id is not None:
            invoice = tx.invoices.find_invoice_by_correlation_id(correlation_id.strip())
            if invoice is None or order_id not in (None, invoice.order_id):
                raise NotFound("there is no invoice with this correlation_id")
            return jsonify(_standing(tx, invoice))
        wanted = (order_id or "").strip()
        return jsonify(
            OrderAttempts(order_id=wanted, invoices=[_standing(tx, one) for one in tx.attempts.of_order(wanted)])
        )


def _page(tx: Transaction, query: ListQuery) -> InvoicePage:
    # Read one row more than shown: if there is one, there is a next page.
    found = tx.invoice_list.newest(query.wanted, query.limit + 1, query.before)
    shown = found[: query.limit]
    return InvoicePage(
        invoices=[_standing(tx, one) for one in shown],
        next_cursor=cursor_after(shown[-1]) if len(found) > query.limit else None,
    )


@blueprint.post("/invoices/<invoice_id>/cancel")
def cancel(invoice_id: str) -> Response:
    """Cancel an unpaid invoice; an earlier payment wins."""
    require(Permission.MODIFY_INVOICES)
    backend = current_backend()
    try:
        invoice = cancel_invoice(backend.settlement, invoice_id)
    except OrderConflict as conflict:
        return _conflict_response(backend, conflict)
    with backend.repository.reading() as tx:
        return jsonify(_standing(tx, invoice))


@blueprint.get("/invoices/<invoice_id>")
def show_invoice(invoice_id: str) -> AnyResponse:
    """The state of an invoice, for the shop. A staff member's browser is redirected to the operator's page."""
    if _is_for_staff():
        return redirect(beside("admin.show_invoice", invoice_id=invoice_id), code=302)
    require(Permission.VIEW_INVOICES)
    with current_backend().repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
        if invoice is None:
            raise _unknown()
        return jsonify(_standing(tx, invoice))


def _standing(tx: Transaction, invoice: Invoice) -> InvoiceStanding:
    shown = _state_of(invoice, tx.refunds.find_by_invoice(invoice.id), tx.deliveries.of_invoice(invoice.id))
    if invoice.issue.receive_with is ReceiveWith.RECEIVE_REQUEST:
        shown["received_sats"] = sum(one.amount_sats for one in tx.receives.of(invoice.id))
        shown["credited"] = None if invoice.credited is None else _credited(invoice.credited, invoice.conversion_rate)
    return shown


def _credited(credited: CurrencyAmount, rate: Decimal | None) -> Credited:
    return {
        "amount": format(credited.amount, "f"),
        "currency": credited.currency,
        "rate": None if rate is None else format(rate, "f"),
    }


def _is_for_staff() -> bool:
    """Whether a browser rather than a program asks, and there is an operator's page to show."""
    is_browser = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    return is_browser and "Authorization" not in request.headers and bool(current_backend().access.admin_password)


def _state_of(invoice: Invoice, refund: Refund | None, deliveries: list[Delivery]) -> InvoiceStanding:
    # Deliveries to DELIVERY_URL only; webhook endpoints have their own.
    deliveries = [one for one in deliveries if one.endpoint_id is None]
    delivery = next((one for one in deliveries if one.event_type == EventType.INVOICE_SETTLED), None)
    delivery = delivery or (deliveries[0] if deliveries else None)
    return {
        "invoice_id": invoice.strike_invoice_id,
        "correlation_id": invoice.correlation_id,
        "order_id": invoice.order_id,
        "state": invoice.state,
        "amount_fiat": format(invoice.order.amount_fiat, "f"),
        "currency": invoice.order.currency,
        "amount_sats": invoice.amount_sats,
        "expiration_time": invoice.expires_at.isoformat(),
        "settled_at": invoice.settled_at.isoformat() if invoice.settled_at else None,
        "accepted_late": invoice.accepted_by is not None,
        "delivery": {"state": delivery.state, "attempts": delivery.attempts} if delivery else None,
        "refund": {"state": refund.state} if refund else None,
        "metadata": invoice.order.metadata,
    }


@blueprint.get("/invoices/<invoice_id>/qr.png")
def show_png(invoice_id: str) -> Response:
    """The QR code as PNG."""
    return _picture(qr_png(_bolt11_of(invoice_id)), "image/png")


@blueprint.get("/invoices/<invoice_id>/qr.svg")
def show_svg(invoice_id: str) -> Response:
    """The QR code as SVG."""
    return _picture(qr_svg(_bolt11_of(invoice_id)), "image/svg+xml")


def _bolt11_of(invoice_id: str) -> str:
    with current_backend().repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
    if invoice is None:
        raise _unknown()
    if not invoice.issue.bolt11:
        raise NotFound("the payment request of this invoice cannot be read from the archive; it was paid long ago")
    return invoice.issue.bolt11


def _picture(content: bytes | str, mimetype: str) -> Response:
    response = Response(content, mimetype=mimetype)
    # A payment request never changes, and pages of other origins may show it.
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return response


def _unknown() -> NotFound:
    return NotFound(NO_SUCH_INVOICE)
