"""Payments and refunds in chronological order, page by page: a report reads months of them at once.

Each page is its own query, starting after the last row of the previous one, so that neither a long report nor a slow
reader keeps a transaction open. Only the columns that a report needs are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, select, tuple_

from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import OPEN_REFUNDS, PAID, Accepter, Closer, InvoiceState, RefundKind, RefundState
from lnpay.repository.sql import checked, read_rows, require
from lnpay.repository.tables import (
    SHOWN_CORRELATION_ID,
    deliveries,
    invoices,
    refund_attempts,
    refunds,
)

PAGE = 1_000
"""Rows in one query."""

IDS_AT_ONCE = 500
"""Ids in one query; every database takes so many."""

PageEnd = tuple[datetime, int]
"""Where a page ended: the time and our own number of its last row."""


@dataclass(frozen=True, slots=True)
class LedgerInvoice:
    """An issued invoice, as accounting needs it. paid_at, received_sats: None until it is paid.

    credited_amount, credited_currency: what Strike credited for it in all; None where it did not say.

    accepted_by: who has accepted a late payment; None if it was in time or is refunded.
    """

    id: int
    strike_invoice_id: str
    correlation_id: str
    state: InvoiceState
    currency: str
    amount_fiat: Decimal
    amount_sats: int
    rate_price: Decimal
    rate_source: str
    rate_as_of: datetime
    opened_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    received_sats: int | None
    accepted_by: Accepter | None
    receive_with: ReceiveWith
    credited_amount: Decimal | None
    credited_currency: str | None


@dataclass(frozen=True, slots=True)
class LedgerOrder:
    """An order's names at Strike. strike_invoice_id: None if no invoice was issued."""

    strike_invoice_id: str | None
    strike_correlation_id: str


@dataclass(frozen=True, slots=True)
class LedgerRefund:
    """A refund and its invoice. `at`: when it was sent; while it is not sent, since when it is owed.

    closed_by: who determined that it was sent.
    """

    id: int
    state: RefundState
    at: datetime
    amount_sats: int
    fee_sats: int | None
    payment_id: str | None
    reason: str | None
    closed_by: Closer | None
    kind: RefundKind
    invoice: LedgerInvoice


_INVOICE_COLUMNS = (
    invoices.c.id, invoices.c.strike_invoice_id, SHOWN_CORRELATION_ID, invoices.c.state, invoices.c.currency,
    invoices.c.amount_fiat, invoices.c.amount_sats, invoices.c.rate_price, invoices.c.rate_source,
    invoices.c.rate_as_of, invoices.c.opened_at, invoices.c.expires_at, invoices.c.paid_at, invoices.c.received_sats,
    invoices.c.accepted_by, invoices.c.receive_with, invoices.c.credited_amount, invoices.c.credited_currency,
)  # fmt: skip

_REFUND_COLUMNS = 9
"""Columns of a refund that stand before those of its invoice."""


class LedgerQueries:
    """Queries about the money of a period, inside one transaction. A page of fewer than PAGE rows is the last."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def paid(self, start: datetime, end: datetime, after: PageEnd | None) -> list[LedgerInvoice]:
        """Invoices paid from `start` until before `end`, in time or late, in order of payment."""
        return self._invoices(invoices.c.paid_at, start, end, after)

    def opened(self, start: datetime, end: datetime, after: PageEnd | None) -> list[LedgerInvoice]:
        """Invoices created at Strike from `start` until before `end`, in that order, in any state."""
        return self._invoices(invoices.c.opened_at, start, end, after)

    def _invoices(
        self, column: Column[datetime], start: datetime, end: datetime, after: PageEnd | None
    ) -> list[LedgerInvoice]:
        statement = _page(select(*_INVOICE_COLUMNS), column, invoices.c.id, start, end, after)
        return read_rows(self._connection, invoices, statement, _to_invoice)

    def refunds_sent(self, start: datetime, end: datetime, after: PageEnd | None) -> list[LedgerRefund]:
        """Refunds sent from `start` until before `end`, in that order."""
        return self._refunds(refunds.c.sent_at, refunds.c.state == RefundState.SENT, start, end, after)

    def refunds_waiting(self, start: datetime, end: datetime, after: PageEnd | None) -> list[LedgerRefund]:
        """Unsent refunds that became owed from `start` until before `end`."""
        return self._refunds(refunds.c.created_at, refunds.c.state.in_(OPEN_REFUNDS), start, end, after)

    def _refunds(
        self,
        column: Column[datetime],
        condition: ColumnElement[bool],
        start: datetime,
        end: datetime,
        after: PageEnd | None,
    ) -> list[LedgerRefund]:
        r = refunds.c
        own = (r.id, r.state, column, r.amount_sats, r.fee_sats, r.payment_id, r.reason, r.closed_by, r.kind)
        joined = select(*own, *_INVOICE_COLUMNS).join_from(refunds, invoices).where(condition)
        statement = _page(joined, column, r.id, start, end, after)
        return read_rows(self._connection, refunds, statement, _to_refund)

    def by_strike_ids(self, strike_invoice_ids: Iterable[str]) -> dict[str, LedgerInvoice]:
        """Our invoices among these Strike ids, at most IDS_AT_ONCE ids per call."""
        statement = select(*_INVOICE_COLUMNS).where(invoices.c.strike_invoice_id.in_(list(strike_invoice_ids)))
        found = read_rows(self._connection, invoices, statement, _to_invoice)
        return {invoice.strike_invoice_id: invoice for invoice in found}

    def has_requests(self, end: datetime) -> bool:
        """Whether a receive request was made before `end`."""
        i = invoices.c
        statement = select(i.id).where(i.receive_with == ReceiveWith.RECEIVE_REQUEST, i.opened_at < end).limit(1)
        return self._connection.execute(statement).scalar() is not None

    def orders_among(self, correlation_ids: Iterable[str]) -> dict[str, LedgerOrder]:
        """Our orders among these names."""
        i = invoices.c
        columns = (i.correlation_id, i.strike_invoice_id, i.strike_correlation_id)
        statement = select(*columns).where(i.correlation_id.in_(list(correlation_ids)))
        return {
            row.correlation_id: LedgerOrder(row.strike_invoice_id, row.strike_correlation_id)
            for row in self._connection.execute(statement)
        }

    def refunded_among(self, invoice_ids: Iterable[int]) -> set[int]:
        """Which of these invoices have a refund of a late payment that was sent or is owed."""
        is_late = (refunds.c.kind == RefundKind.LATE) & (refunds.c.state != RefundState.CANCELED)
        is_one = refunds.c.invoice_id.in_(list(invoice_ids)) & is_late
        statement = select(refunds.c.invoice_id).where(is_one)
        return set(self._connection.execute(statement).scalars())

    def notified_among(self, invoice_ids: Iterable[int], event_type: str) -> set[int]:
        """Those of these invoices for which a message of `event_type` exists, sent or not."""
        d = deliveries.c
        statement = select(d.invoice_id).where(d.invoice_id.in_(list(invoice_ids)), d.event_type == event_type)
        return set(self._connection.execute(statement).scalars())

    def payments_tried(self, refund_id: int) -> set[str]:
        """Every payment at Strike that a refund's history names."""
        a = refund_attempts.c
        statement = select(a.payment_id).where(a.refund_id == refund_id, a.payment_id.is_not(None))
        return {payment_id for payment_id in self._connection.execute(statement).scalars() if payment_id}


def _page(
    statement: Select[Any],
    column: Column[datetime],
    number: Column[int],
    start: datetime,
    end: datetime,
    after: PageEnd | None,
) -> Select[Any]:
    # The second condition implies the first, whose form lets every database use its index.
    first = column >= start if after is None else (column >= after[0]) & (tuple_(column, number) > after)
    return statement.where(first, column < end).order_by(column, number).limit(PAGE)


def _to_invoice(row: Sequence[Any]) -> LedgerInvoice:
    # The columns are those of the record, in its order: a million rows are read this way.
    values = list(row)
    values[3] = InvoiceState(values[3])
    values[14] = None if values[14] is None else Accepter(values[14])
    values[15] = ReceiveWith(values[15])
    invoice = checked(LedgerInvoice(*values))
    is_paid = invoice.state in PAID
    require(is_paid == (invoice.paid_at is not None) == (invoice.received_sats is not None), invoice.amount_sats > 0)
    return invoice


def _to_refund(row: Sequence[Any]) -> LedgerRefund:
    values = [*row[:_REFUND_COLUMNS], _to_invoice(row[_REFUND_COLUMNS:])]
    values[1] = RefundState(values[1])
    values[7] = None if values[7] is None else Closer(values[7])
    values[8] = RefundKind(values[8])
    refund = checked(LedgerRefund(*values))
    require(refund.amount_sats > 0)
    return refund
