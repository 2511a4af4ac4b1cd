"""The operator's list and search of invoices: newest first, page by page, filtered, or found by an id.

A page starts after the last row of the previous one (not at a row number), and every query uses an index, so the
ten-thousandth page of a million invoices is as fast as the first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    TextClause,
    bindparam,
    exists,
    func,
    select,
    text,
    tuple_,
)

from lnpay.domain.bolt11 import Bolt11Error, decode
from lnpay.domain.states import PAID, DeliveryState, InvoiceState, RefundState
from lnpay.repository.sql import checked, read_rows, sum_of
from lnpay.repository.tables import (
    IS_ADDRESS_INDEXED,
    SHOWN_CORRELATION_ID,
    deliveries,
    invoices,
    refunds,
)

_State = TypeVar("_State", bound=StrEnum)

i, r, d = invoices.c, refunds.c, deliveries.c

MAX_TEXT_CHARACTERS = 2_000
"""The longest searchable name is a payment request."""

USUAL_STATES: frozenset[str] = frozenset({RefundState.SENT, RefundState.CANCELED, DeliveryState.DELIVERED})
"""The states in which most refunds and messages end; the others have few rows."""

_PAID_BETWEEN = (
    select(i.state, func.count(), sum_of(i.received_sats))
    .where(i.paid_at >= bindparam("start"), i.paid_at < bindparam("end"), i.state.in_(PAID))
    .group_by(i.state)
)

_REFUNDED_BETWEEN = select(func.count(), sum_of(r.amount_sats)).where(
    r.sent_at >= bindparam("start"), r.sent_at < bindparam("end")
)

_BEST_FIRST = (DeliveryState.WITHDRAWN, DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.ABANDONED)


@dataclass(frozen=True)
class InvoiceFilter:
    """Which invoices to list: those that match every given field.

    text: the whole name of something: an invoice, an order, a payment, a message, an address, a payment request.
    opened_from, opened_before: when the invoice was made at Strike.
    """

    text: str = ""
    state: InvoiceState | None = None
    refund_state: RefundState | None = None
    delivery_state: DeliveryState | None = None
    opened_from: datetime | None = None
    opened_before: datetime | None = None


@dataclass(frozen=True, order=True)
class ListPosition:
    """A place in the list: where a row stands."""

    opened_at: datetime
    id: int


@dataclass(frozen=True)
class InvoiceRow:
    """A row of the list. delivery_state: the worst state among its messages; None if there are none."""

    place: ListPosition
    strike_invoice_id: str
    correlation_id: str
    description: str | None
    amount_fiat: Decimal
    currency: str
    amount_sats: int
    expires_at: datetime
    state: InvoiceState
    refund_state: RefundState | None = None
    delivery_state: DeliveryState | None = None


@dataclass(frozen=True)
class InvoiceTotal:
    """How many, and how much."""

    count: int = 0
    sats: int = 0


class Searches:
    """The operator's queries, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, wanted: InvoiceFilter, limit: int, *, before: ListPosition | None = None) -> list[InvoiceRow]:
        """The newest matching invoices that come after the position `before` in the list."""
        return self._list(wanted, limit, None if before is None else _place_of_row() < _tuple_of(before))

    def oldest(self, wanted: InvoiceFilter, limit: int, *, after: ListPosition) -> list[InvoiceRow]:
        """The same upwards: the closest matching invoices that are newer than the position `after`, newest first."""
        return self._list(wanted, limit, _place_of_row() > _tuple_of(after), is_upward=True)

    def _list(
        self, wanted: InvoiceFilter, limit: int, beyond: ColumnElement[bool] | None, *, is_upward: bool = False
    ) -> list[InvoiceRow]:
        found: dict[ListPosition, InvoiceRow] = {}
        for name in _names_in(wanted.text):
            statement = _list_of(wanted, limit, is_upward=is_upward).where(*name)
            statement = statement if beyond is None else statement.where(beyond)
            found.update({row.place: row for row in read_rows(self._connection, invoices, statement, _to_row)})
        places = sorted(found, reverse=not is_upward)[:limit]
        return self._completed([found[place] for place in sorted(places, reverse=True)])

    def _completed(self, rows: list[InvoiceRow]) -> list[InvoiceRow]:
        ids = [row.place.id for row in rows]
        refund_states = dict(self._states_of(refunds, RefundState, ids))
        # The worst state comes last, so that it remains.
        told = self._states_of(deliveries, DeliveryState, ids)
        worst = dict(sorted(told, key=lambda one: _BEST_FIRST.index(one[1])))
        return [
            replace(row, refund_state=refund_states.get(row.place.id), delivery_state=worst.get(row.place.id))
            for row in rows
        ]

    def _states_of(self, table: Table, kind: type[_State], invoice_ids: list[int]) -> list[tuple[int, _State]]:
        statement = select(table.c.invoice_id, table.c.state).where(table.c.invoice_id.in_(invoice_ids))
        return read_rows(self._connection, table, statement, lambda row: (row.invoice_id, kind(row.state)))

    def paid_between(self, start: datetime, end: datetime) -> dict[InvoiceState, InvoiceTotal]:
        """What was received from `start` until before `end`, by state: SETTLED or PAID_LATE."""
        found = self._connection.execute(_PAID_BETWEEN, {"start": start, "end": end})
        return {InvoiceState(state): InvoiceTotal(count, int(sats)) for state, count, sats in found}

    def refunded_between(self, start: datetime, end: datetime) -> InvoiceTotal:
        """What was sent back from `start` on and before `end`."""
        count, sats = self._connection.execute(_REFUNDED_BETWEEN, {"start": start, "end": end}).one()
        return InvoiceTotal(count, int(sats))


def _to_row(row: Row[Any]) -> InvoiceRow:
    return checked(
        InvoiceRow(
            checked(ListPosition(row.opened_at, row.id)),
            row.strike_invoice_id,
            row.correlation_id,
            row.description,
            row.amount_fiat,
            row.currency,
            row.amount_sats,
            row.expires_at,
            InvoiceState(row.state),
        )
    )


def _place_of_row() -> Any:  # noqa: ANN401 - a row value of SQL
    return tuple_(i.opened_at, i.id)


def _tuple_of(place: ListPosition) -> Any:  # noqa: ANN401
    return tuple_(place.opened_at, place.id)


def _list_of(wanted: InvoiceFilter, limit: int, *, is_upward: bool) -> Select[Any]:
    columns = (
        i.id, i.opened_at, i.strike_invoice_id, SHOWN_CORRELATION_ID, i.description, i.amount_fiat, i.currency,
        i.amount_sats, i.expires_at, i.state,
    )  # fmt: skip
    order = (i.opened_at, i.id) if is_upward else (i.opened_at.desc(), i.id.desc())
    # A draft has no opened_at; it is no invoice yet.
    return select(*columns).where(i.opened_at.is_not(None), *_filters(wanted)).order_by(*order).limit(limit)


def _filters(wanted: InvoiceFilter) -> list[ColumnElement[bool]]:
    filters = []
    if wanted.state is not None:
        # Few messages are in an unusual state, so starting with them is faster than with the invoices of one state.
        has_few = wanted.delivery_state is not None and wanted.delivery_state not in USUAL_STATES
        filters.append((without_index(i.state) if has_few else i.state) == wanted.state)
    if wanted.refund_state is not None:
        # This filter is about the refunds of late payments, whose invoices are adjacent in an index.
        filters += [i.state == InvoiceState.PAID_LATE, _has_one_in(refunds, wanted.refund_state)]
    if wanted.delivery_state is not None:
        filters.append(_has_one_in(deliveries, wanted.delivery_state))
    if wanted.opened_from is not None:
        filters.append(i.opened_at >= wanted.opened_from)
    if wanted.opened_before is not None:
        filters.append(i.opened_at < wanted.opened_before)
    return filters


def _has_one_in(table: Table, state: str) -> ColumnElement[bool]:
    """Whether an invoice has a row of `table` in that state, in a form that starts with whichever rows are few."""
    if state in USUAL_STATES:
        return exists().where(table.c.invoice_id == i.id, without_index(table.c.state) == state)
    return i.id.in_(select(table.c.invoice_id).where(table.c.state == state))


def without_index(column: ColumnElement[str]) -> ColumnElement[str]:
    """The same column in a form that stops the database from using its index, which would be slow here."""
    return func.coalesce(column, "")


def _names_in(words: str) -> list[list[ColumnElement[bool] | TextClause]]:
    """The conditions of each way to read a text as a name. Each becomes a separate query, so each can use an index.

    Without a text there is one query without a condition.
    """
    words = words.strip()
    if not words:
        return [[]]
    # PostgreSQL raises an error for a NUL, and no name has one.
    if len(words) > MAX_TEXT_CHARACTERS or not words.isprintable():
        return []
    name = words.removeprefix("lightning:").lower()
    return [
        [i.strike_invoice_id == name],
        [i.correlation_id == words],
        [i.order_id == words],
        [i.payment_hash == _hash_in(words)],
        [i.ln_address == words, text(IS_ADDRESS_INDEXED)],
        [i.ln_address == name, text(IS_ADDRESS_INDEXED)],
        [i.id.in_(select(r.invoice_id).where((r.address == name) | (r.payment_id == name)))],
        [i.id.in_(select(d.invoice_id).where(d.webhook_id == name))],
    ]


def _hash_in(words: str) -> str:
    """The payment hash that a payment request has, or that a text may be."""
    try:
        return decode(words).payment_hash
    except Bolt11Error:
        return words.lower()
