"""Rows of invoices as drafts, invoices and rates."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from lnpay.domain.model import (
    Draft,
    Invoice,
    Issue,
    Order,
    Rate,
)
from lnpay.domain.money import CurrencyAmount
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import (
    PAID,
    Accepter,
    InvoiceState,
)
from lnpay.repository.sql import checked, require
from lnpay.repository.tables import invoices as t


def _draft_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "correlation_id": row.former_correlation_id or row.correlation_id,
        "strike_correlation_id": row.strike_correlation_id,
        "token": row.token,
        "order": _order(row),
        "amount_sats": row.amount_sats,
        "rate": to_rate(row),
        "created_at": row.created_at,
    }


def _order(row: Row[Any]) -> Order:
    order = Order(
        row.amount_fiat,
        row.currency,
        row.description,
        row.ln_address,
        row.return_url,
        row.retry_url,
        row.metadata,
        row.order_id,
        row.checkout_options,
        row.expires_in,
    )
    return checked(order)


_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)

RATE_COLUMNS = (t.c.rate_price, t.c.currency, t.c.rate_source, t.c.rate_as_of)


def to_rate(row: Row[Any]) -> Rate:
    return checked(Rate(row.rate_price, row.currency, row.rate_source, row.rate_as_of))


def to_checked(row: Row[Any]) -> tuple[bool, datetime, str]:
    """For sorting: those that were never asked about come first."""
    return row.checked_at is not None, row.checked_at or _BEFORE_ALL, row.strike_invoice_id


def to_amount(amount: Decimal | None, currency: str | None) -> CurrencyAmount | None:
    return None if amount is None or currency is None else checked(CurrencyAmount(amount, currency))


def to_invoice(row: Row[Any]) -> Invoice:
    """The invoice in a row that is no draft."""
    """The record of an issued row."""
    issue = Issue(
        strike_invoice_id=row.strike_invoice_id,
        bolt11=row.bolt11,
        payment_hash=row.payment_hash,
        strike_invoice=row.strike_invoice,
        strike_quote=row.strike_quote,
        opened_at=row.opened_at,
        expires_at=row.expires_at,
        payable_until=row.payable_until,
        receive_with=ReceiveWith(row.receive_with),
        target_currency=row.target_currency,
    )
    invoice = Invoice(
        **_draft_fields(row),
        issue=checked(issue),
        state=InvoiceState(row.state),
        paid_at=row.paid_at,
        received_sats=row.received_sats,
        settled_at=row.settled_at,
        seen_at=row.seen_at,
        marked_invalid_at=row.marked_invalid_at,
        accepted_by=None if row.accepted_by is None else Accepter(row.accepted_by),
        accepted_price=row.accepted_price,
        credited=to_amount(row.credited_amount, row.credited_currency),
        conversion_rate=row.conversion_rate,
    )
    is_paid = invoice.state in PAID
    require(
        is_paid == (invoice.paid_at is not None) == (invoice.received_sats is not None),
        (invoice.state is InvoiceState.SETTLED) == (invoice.settled_at is not None),
        invoice.accepted_by is None or invoice.state is InvoiceState.SETTLED,
        invoice.amount_sats > 0,
        issue.bolt11.isascii() and issue.bolt11.isalnum(),
    )
    return checked(invoice)


def to_record(row: Row[Any]) -> Draft | Invoice:
    return checked(Draft(**_draft_fields(row))) if row.strike_invoice_id is None else to_invoice(row)
