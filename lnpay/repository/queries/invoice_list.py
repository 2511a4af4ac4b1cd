"""Invoices as the shop's API lists them: newest first, filtered, each page after the last row of the previous one.

Each filter has an index, so a page is as fast with a million invoices as with a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select, tuple_

from lnpay.domain.model import Invoice
from lnpay.domain.states import InvoiceState
from lnpay.domain.text import is_storable
from lnpay.repository.queries.searches import ListPosition, without_index
from lnpay.repository.records.invoices import read_invoices
from lnpay.repository.tables import invoices

i = invoices.c


@dataclass(frozen=True)
class ListFilter:
    """Which invoices to list: those that match every given field.

    opened_from, opened_before: when the invoice was made at Strike.
    """

    correlation_id: str | None = None
    order_id: str | None = None
    state: InvoiceState | None = None
    opened_from: datetime | None = None
    opened_before: datetime | None = None


class InvoiceList:
    """Queries of the shop's list inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, wanted: ListFilter, limit: int, before: ListPosition | None) -> list[Invoice]:
        """The newest matching invoices that come after the position `before` in the list."""
        if not all(is_storable(name or "") for name in (wanted.correlation_id, wanted.order_id)):
            return []
        conditions = _conditions(wanted, before)
        found: dict[int, Invoice] = {}
        for way in _ways(wanted):
            statement = (
                select(invoices)
                .where(i.opened_at.is_not(None), *way, *conditions)
                .order_by(i.opened_at.desc(), i.id.desc())
                .limit(limit)
            )
            found.update({one.id: one for one in read_invoices(self._connection, statement)})
        return sorted(found.values(), key=place_of, reverse=True)[:limit]


def place_of(invoice: Invoice) -> ListPosition:
    """Where an invoice stands in the list."""
    return ListPosition(invoice.issue.opened_at, invoice.id)


def _ways(wanted: ListFilter) -> list[list[ColumnElement[bool]]]:
    """The conditions of the queries that together find the given ids. Each has its own index."""
    names = [] if wanted.correlation_id is None else [i.correlation_id == wanted.correlation_id]
    if wanted.order_id is None:
        return [names]
    return [
        [*names, i.order_id == wanted.order_id],
        [*names, i.correlation_id == wanted.order_id, i.order_id.is_(None)],
    ]


def _conditions(wanted: ListFilter, before: ListPosition | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        # An id matches few invoices, a state very many: starting with the state's index would take seconds.
        is_named = wanted.correlation_id is not None or wanted.order_id is not None
        conditions.append((without_index(i.state) if is_named else i.state) == wanted.state)
    if wanted.opened_from is not None:
        conditions.append(i.opened_at >= wanted.opened_from)
    if wanted.opened_before is not None:
        conditions.append(i.opened_at < wanted.opened_before)
    if before is not None:
        conditions.append(tuple_(i.opened_at, i.id) < tuple_(before.opened_at, before.id))
    return conditions
