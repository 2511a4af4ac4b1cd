"""Invoices: create, read, list, show the payment, mark invalid, change metadata."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal

from flask import Response, jsonify, request

from lnpay.domain.errors import Conflict, InvalidRequest
from lnpay.domain.model import Invoice, Order
from lnpay.domain.money import read_currency, round_fiat
from lnpay.domain.permissions import Permission
from lnpay.invoices.create import MAX_EXPIRES_IN_SECONDS, MIN_EXPIRES_IN_SECONDS, create_invoice
from lnpay.invoices.mark_invalid import mark_invalid
from lnpay.repository.queries.greenfield import ListFilter
from lnpay.web.api.schemas import AMOUNT_LIMIT
from lnpay.web.context import current_backend
from lnpay.web.greenfield.access import require_store
from lnpay.web.greenfield.answers import invoice_text, invoices_text, payment_methods_of
from lnpay.web.greenfield.blueprint import blueprint
from lnpay.web.greenfield.errors import FieldsRefused, UnknownHere
from lnpay.web.greenfield.requests import (
    DEFAULT_EXPIRATION_MINUTES,
    ChangeInvoiceRequest,
    CreateInvoiceRequest,
    MarkStatusRequest,
    description_of,
    order_id_of,
    query_value,
    query_values,
    read_model,
    searchable,
    whole_number,
)

DEFAULT_TAKE = 100
MAX_TAKE = 250
MAX_ORDER_IDS = 100
MAX_SKIP = 10**9
MAX_UNIX_TIME = 253_402_300_799
"""The last second of the year 9999."""


@blueprint.post("/stores/<store_id>/invoices")
def create_new(store_id: str) -> Response:
    """Create an invoice. Greenfield has no idempotency: each call creates another one."""
    store = require_store(store_id, Permission.CREATE_INVOICE)
    backend = current_backend()
    wanted = read_model(request.get_data(), CreateInvoiceRequest)
    order = _to_order(wanted, backend.currency)
    try:
        invoice = create_invoice(backend.issuer, str(uuid.uuid4()), order)
    except InvalidRequest as error:
        # Only the current price shows that an amount is less than a sat.
        raise FieldsRefused({"amount": error.message}) from error
    return _json(invoice_text(invoice, store, backend.clock()))


def _to_order(wanted: CreateInvoiceRequest, shop_currency: str) -> Order:
    try:
        currency = read_currency(wanted.currency or shop_currency)
    except InvalidRequest as error:
        raise FieldsRefused({"currency": error.message}) from error
    try:
        amount = round_fiat(wanted.amount, currency)
        if amount >= AMOUNT_LIMIT:
            raise InvalidRequest(f"must be less than {AMOUNT_LIMIT:,}")
    except InvalidRequest as error:
        raise FieldsRefused({"amount": error.message}) from error
    metadata = wanted.metadata or {}
    checkout = {} if wanted.checkout is None else wanted.checkout.model_dump(exclude_none=True)
    checkout.setdefault("expirationMinutes", DEFAULT_EXPIRATION_MINUTES)
    return Order(
        amount,
        currency,
        description_of(metadata),
        None,
        return_url=checkout.get("redirectURL") or None,
        metadata=metadata,
        order_id=searchable(order_id_of(metadata)),
        checkout_options=checkout,
        expires_in=_seconds_to_pay(checkout["expirationMinutes"]),
    )


def _seconds_to_pay(minutes: Decimal) -> int:
    """Minutes clamped to the permitted range. Plugins ask for hours or days, longer than Strike's quotes last."""
    return max(MIN_EXPIRES_IN_SECONDS, min(MAX_EXPIRES_IN_SECONDS, int(minutes * 60)))


@blueprint.get("/stores/<store_id>/invoices/<invoice_id>")
def show_one(store_id: str, invoice_id: str) -> Response:
    """One invoice."""
    store = require_store(store_id, Permission.VIEW_INVOICES)
    return _json(invoice_text(_find(invoice_id), store, current_backend().clock()))


@blueprint.get("/stores/<store_id>/invoices")
def list_all(store_id: str) -> Response:
    """Invoices, the newest first."""
    store = require_store(store_id, Permission.VIEW_INVOICES)
    backend = current_backend()
    now = backend.clock()
    wanted = _wanted()
    skip, take = whole_number("skip", 0, MAX_SKIP), whole_number("take", DEFAULT_TAKE, MAX_SKIP)
    with backend.repository.reading() as tx:
        found = tx.greenfield.newest(wanted, now, skip, min(take, MAX_TAKE))
    return _json(invoices_text(found, store, now))


def _wanted() -> ListFilter:
    order_ids = _list_of("orderId")
    statuses = _list_of("status")
    text = query_value("textSearch")
    return ListFilter(
        None if order_ids is None else frozenset(one for one in map(searchable, order_ids) if one),
        None if statuses is None else frozenset(one.lower() for one in statuses),
        searchable(text) or text or None,
        _moment("startDate"),
        _moment("endDate"),
    )


def _list_of(name: str) -> list[str] | None:
    """The values of a repeatable parameter; None if it is absent or empty."""
    given = query_values(name)
    if len(given) > MAX_ORDER_IDS:
        raise FieldsRefused({name: f"may be given at most {MAX_ORDER_IDS} times"})
    return [one for one in given if one.strip()] or None


def _moment(name: str) -> datetime | None:
    """A time in Unix seconds."""
    if not query_value(name):
        return None
    return datetime.fromtimestamp(whole_number(name, 0, MAX_UNIX_TIME), UTC)


@blueprint.get("/stores/<store_id>/invoices/<invoice_id>/payment-methods")
def show_invoice_payment(store_id: str, invoice_id: str) -> Response:
    """The payment method of an invoice, and its payment once it counts."""
    require_store(store_id, Permission.VIEW_INVOICES)
    return jsonify(payment_methods_of(_find(invoice_id), current_backend().clock()))


@blueprint.post("/stores/<store_id>/invoices/<invoice_id>/status")
def change_status(store_id: str, invoice_id: str) -> Response:
    """Mark an open invoice invalid. No other status can be set: only a payment settles an invoice."""
    store = require_store(store_id, Permission.MODIFY_INVOICES)
    backend = current_backend()
    _find(invoice_id)
    wanted = read_model(request.get_data(), MarkStatusRequest)
    if wanted.status.lower() != "invalid":
        raise FieldsRefused({"status": "must be Invalid: only a payment settles an invoice"})
    try:
        marked = mark_invalid(backend.settlement, invoice_id)
    except Conflict as error:
        raise FieldsRefused({"status": f"cannot be changed: {error.message}"}) from error
    backend.delivery_dispatcher.wake()
    return _json(invoice_text(marked, store, backend.clock()))


@blueprint.put("/stores/<store_id>/invoices/<invoice_id>")
def change_metadata(store_id: str, invoice_id: str) -> Response:
    """Replace the metadata."""
    store = require_store(store_id, Permission.MODIFY_INVOICES)
    backend = current_backend()
    invoice = _find(invoice_id)
    wanted = read_model(request.get_data(), ChangeInvoiceRequest)
    with backend.repository.transaction() as tx:
        tx.greenfield.change_metadata(invoice, wanted.metadata, searchable(order_id_of(wanted.metadata)))
    return _json(invoice_text(_find(invoice_id), store, backend.clock()))


def _find(invoice_id: str) -> Invoice:
    with current_backend().repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
    if invoice is None:
        raise UnknownHere("there is no such invoice", code="invoice-not-found")
    return invoice


def _json(text: str) -> Response:
    return Response(text, content_type="application/json")
