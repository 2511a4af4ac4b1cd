"""Rows of invoices as drafts, invoices and rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select

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
from lnpay.repository.records.archive import read_archived
from lnpay.repository.sql import Sought, checked, read_one, read_rows, require
from lnpay.repository.tables import invoices as t

_Found = TypeVar("_Found", bound=Draft | Invoice)


def read_invoices(connection: Connection, statement: Select[Any], sought: Sought = None) -> list[Invoice]:
    """The invoices that `statement` selects, whole: what is archived of them is read from the archive.

    This, `read_invoice` and `read_record` are the only ways to an invoice. A damaged archive hides none.
    """
    return _whole(connection, read_rows(connection, t, statement, _to_invoice, sought))


def read_invoice(connection: Connection, statement: Select[Any], sought: Sought = None) -> Invoice | None:
    """The first one that `statement` selects; None if there is none. Raises UnreadableRow."""
    found = read_one(connection, t, statement, _to_invoice, sought)
    return None if found is None else _whole(connection, [found])[0]


def read_record(connection: Connection, statement: Select[Any], sought: Sought = None) -> Draft | Invoice | None:
    """The same of a draft or an invoice."""
    found = read_one(connection, t, statement, to_record, sought)
    return None if found is None else _whole(connection, [found])[0]


def _whole(connection: Connection, found: Sequence[_Found]) -> list[_Found]:
    archived = [one.id for one in found if _is_archived(one)]
    fields = read_archived(connection, archived)
    return [_filled(one, fields[one.id]) if one.id in fields else one for one in found]


def _is_archived(record: Draft | Invoice) -> bool:
    return isinstance(record, Invoice) and record.issue.archived_at is not None


def _filled(record: _Found, fields: dict[str, Any]) -> _Found:
    if not isinstance(record, Invoice):
        return record
    return replace(record, issue=replace(record.issue, **fields))


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


def _to_invoice(row: Row[Any]) -> Invoice:
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
        archived_at=row.archived_at,
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
        issue.bolt11.isascii() and (issue.bolt11.isalnum() or issue.archived_at is not None),
    )
    return checked(invoice)


def to_record(row: Row[Any]) -> Draft | Invoice:
    return checked(Draft(**_draft_fields(row))) if row.strike_invoice_id is None else _to_invoice(row)


def draft_values(order: Order, amount_sats: int, rate: Rate, created_at: datetime) -> dict[str, Any]:
    """The columns of a draft that is priced."""
    return {
        **vars(order),
        "amount_sats": amount_sats,
        "rate_price": rate.price,
        "rate_source": rate.source,
        "rate_as_of": rate.as_of,
        "created_at": created_at,
    }
