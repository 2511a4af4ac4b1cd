"""Rows of invoices as Greenfield clients list and change them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextClause, select, text, union, union_all, update

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState, check_invoice_move
from lnpay.domain.text import is_storable
from lnpay.repository.records.invoices import read_invoices
from lnpay.repository.sql import read_rows
from lnpay.repository.tables import IS_ACCEPTED, IS_MARKED_INVALID, IS_SEEN_UNPAID, IS_SETTLED_IN_TIME
from lnpay.repository.tables import invoices as t

_MOST_IN_ONE_QUERY = 12
"""More than the queries needed for all statuses together. SQLite permits 500 in one statement."""

_ENDED = (InvoiceState.EXPIRED, InvoiceState.LAPSED, InvoiceState.CANCELLED)


Conditions = list[ColumnElement[bool] | TextClause]


@dataclass(frozen=True)
class ListFilter:
    """Which invoices to list: those that match every given field.

    order_ids: any of these. statuses: any of these Greenfield statuses, in lower case; an unknown one matches nothing.
    text: the whole id of an invoice or order. opened_from, opened_until: when it was created, both inclusive.
    """

    order_ids: frozenset[str] | None = None
    statuses: frozenset[str] | None = None
    text: str | None = None
    opened_from: datetime | None = None
    opened_until: datetime | None = None


class GreenfieldInvoices:
    """Queries of the Greenfield API inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, wanted: ListFilter, now: datetime, skip: int, limit: int) -> list[Invoice]:
        """The matching invoices, newest first: at most `limit`, after the first `skip`."""
        # One query for each way to match, so that each can use its index.
        queries = [
            select(t.c.id, t.c.opened_at).where(t.c.opened_at.is_not(None), *way, *_dates(wanted))
            for way in _ways(wanted, now)
        ]
        if not queries:
            return []
        if len(queries) <= _MOST_IN_ONE_QUERY:
            ids = self._page(queries, skip, limit, may_overlap=bool(wanted.text))
        else:
            ids = self._merged_page(queries, skip, limit)
        rows = read_invoices(self._connection, select(t).where(t.c.id.in_(ids)))
        return sorted(rows, key=lambda one: (one.issue.opened_at, one.id), reverse=True)

    def _page(self, queries: list[Select[Any]], skip: int, limit: int, *, may_overlap: bool) -> list[int]:
        """The ids of a page, selected by the database, so that skipped rows are never read into this process.

        may_overlap: an invoice may match more than one query, so duplicates must be removed.
        """
        newest = [one.order_by(t.c.opened_at.desc(), t.c.id.desc()) for one in queries]
        if len(queries) == 1:
            page = newest[0].offset(skip).limit(limit)
        else:
            # SQLite reads the indexes side by side, in their order, up to the page. PostgreSQL would read and sort all
            # of each part, unless each has its own limit, which SQLite would put between the index and the merge.
            if self._connection.dialect.name == "postgresql":
                queries = [select(one.limit(skip + limit).subquery()) for one in newest]
            every = (union if may_overlap else union_all)(*queries)
            found = every.selected_columns
            merged = every.order_by(found.opened_at.desc(), found.id.desc()).offset(skip).limit(limit)
            page = select(merged.subquery().c.id)
        return read_rows(self._connection, t, page, lambda row: int(row.id))

    def _merged_page(self, queries: list[Select[Any]], skip: int, limit: int) -> list[int]:
        """The same for more queries than fit into one statement. Each is about one order, so it finds few rows."""
        found: dict[int, datetime] = {}
        for one in queries:
            statement = one.order_by(t.c.opened_at.desc(), t.c.id.desc()).limit(skip + limit)
            found.update(read_rows(self._connection, t, statement, lambda row: (row.id, row.opened_at)))
        places = sorted(((opened_at, row_id) for row_id, opened_at in found.items()), reverse=True)
        return [row_id for _, row_id in places[skip : skip + limit]]

    def mark_invalid(self, invoice: Invoice, at: datetime) -> bool:
        """End an open invoice at `at`: a later payment is late. False when it is not open any more.

        Its deadline moves to `at`, so every judgement of a payment agrees, in this process and in any other.
        """
        check_invoice_move(InvoiceState.UNPAID, InvoiceState.EXPIRED)
        statement = (
            update(t)
            .where(t.c.id == invoice.id, t.c.state == InvoiceState.UNPAID, t.c.expires_at >= at)
            .values(state=InvoiceState.EXPIRED, expires_at=max(at, invoice.issue.opened_at), marked_invalid_at=at)
        )
        return self._connection.execute(statement).rowcount == 1

    def change_metadata(self, invoice: Invoice, metadata: dict[str, Any], order_id: str | None) -> None:
        """Replace the metadata and the order id."""
        values = {"metadata": metadata, "order_id": order_id}
        self._connection.execute(update(t).where(t.c.id == invoice.id).values(values))


def _ways(wanted: ListFilter, now: datetime) -> Iterable[Conditions]:
    """The conditions of each way to match. An index can answer each."""
    for name in _names(wanted):
        if wanted.statuses is None:
            yield name
            continue
        for status in sorted(wanted.statuses):
            for way in _ways_of_status(status, now):
                yield [*name, *way]


def _names(wanted: ListFilter) -> Iterable[Conditions]:
    orders: list[Conditions] = [[]]
    if wanted.order_ids is not None:
        orders = [[t.c.order_id == one] for one in _storable(wanted.order_ids)]
    if not wanted.text:
        yield from orders
        return
    for name in _storable([wanted.text.strip()]):
        for order in orders:
            for column in (t.c.order_id, t.c.correlation_id):
                yield [*order, column == name]
            yield [*order, t.c.strike_invoice_id == name.lower()]


def _storable(names: Iterable[str]) -> list[str]:
    return [one for one in names if is_storable(one)]


def _ways_of_status(status: str, now: datetime) -> Iterable[Conditions]:
    """The conditions of `lnpay.web.greenfield.status.derive_status`, in SQL. A test compares the two."""
    is_not_processing = t.c.seen_at.is_(None) | (t.c.seen_at > t.c.expires_at)
    is_unmarked = t.c.marked_invalid_at.is_(None)
    if status == "settled":
        yield [text(IS_SETTLED_IN_TIME)]
    elif status == "invalid":
        yield [text(IS_MARKED_INVALID), t.c.state != InvoiceState.SETTLED]
    elif status == "processing":
        yield [text(IS_SEEN_UNPAID), t.c.seen_at <= t.c.expires_at, is_unmarked]
    elif status == "new":
        yield [t.c.state == InvoiceState.UNPAID, t.c.expires_at >= now, is_not_processing, is_unmarked]
    elif status == "expired":
        yield [text(IS_ACCEPTED)]
        yield [t.c.state == InvoiceState.PAID_LATE, is_unmarked]
        yield [t.c.state == InvoiceState.UNPAID, t.c.expires_at < now, is_not_processing, is_unmarked]
        for state in _ENDED:
            yield [t.c.state == state, is_not_processing, is_unmarked]


def _dates(wanted: ListFilter) -> list[ColumnElement[bool]]:
    dates = []
    if wanted.opened_from is not None:
        dates.append(t.c.opened_at >= wanted.opened_from)
    if wanted.opened_until is not None:
        dates.append(t.c.opened_at <= wanted.opened_until)
    return dates
