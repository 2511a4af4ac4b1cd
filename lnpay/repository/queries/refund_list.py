"""The operator's list of refunds of every kind: newest first, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Row, select, union_all

from lnpay.domain.states import RefundAsker, RefundKind, RefundState
from lnpay.repository.queries.searches import MAX_TEXT_CHARACTERS, without_index
from lnpay.repository.sql import checked, read_rows
from lnpay.repository.tables import SHOWN_CORRELATION_ID, invoices, refunds

i, r = invoices.c, refunds.c


@dataclass(frozen=True)
class RefundFilter:
    """Which refunds to list. text: the whole id of an order or invoice."""

    text: str = ""
    state: RefundState | None = None
    kind: RefundKind | None = None


@dataclass(frozen=True)
class RefundRow:
    """A row of the list. amount_fiat: as it was asked for in the invoice's currency; None if it was not."""

    id: int
    strike_invoice_id: str
    correlation_id: str
    currency: str
    state: RefundState
    kind: RefundKind
    amount_sats: int
    amount_fiat: Decimal | None
    asked_by: RefundAsker
    created_at: datetime


_NEWEST = (
    select(
        r.id, i.strike_invoice_id, SHOWN_CORRELATION_ID, i.currency, r.state, r.kind, r.amount_sats,
        r.amount_fiat, r.asked_by, r.created_at,
    )
    .select_from(refunds.join(invoices, r.invoice_id == i.id))
    .order_by(r.id.desc())
)  # fmt: skip


class RefundList:
    """Lists refunds inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, wanted: RefundFilter, limit: int, before: int | None = None) -> list[RefundRow]:
        """The newest matching refunds with an id below `before`."""
        is_before = [] if before is None else [r.id < before]
        if wanted.text:
            ways = [[*way, *is_before] for way in _named(wanted)]
        elif wanted.state is None and wanted.kind is None:
            ways = [is_before]
        else:
            # First their ids, which the index alone can supply.
            ids = sorted(self._connection.execute(_ids_of(wanted, is_before, limit)).scalars(), reverse=True)
            ways = [[r.id.in_(ids[:limit])]]
        found: dict[int, RefundRow] = {}
        for way in ways:
            statement = _NEWEST.where(*way).limit(limit)
            found.update({one.id: one for one in read_rows(self._connection, refunds, statement, _to_row)})
        return [found[id] for id in sorted(found, reverse=True)[:limit]]


def _named(wanted: RefundFilter) -> list[list[ColumnElement[bool]]]:
    """A query for each way to read the text as a name, so that each has an index."""
    # PostgreSQL raises an error for a NUL, and no name has one.
    if len(wanted.text) > MAX_TEXT_CHARACTERS or not wanted.text.isprintable():
        return []
    # A name matches few refunds: starting with the many of one state would take seconds.
    filters = ((r.state, wanted.state), (r.kind, wanted.kind))
    rest = [without_index(column) == word for column, word in filters if word is not None]
    names = [column == wanted.text for column in (i.strike_invoice_id, i.correlation_id, i.order_id)]
    return [[r.invoice_id.in_(select(i.id).where(name)), *rest] for name in names]


def _ids_of(wanted: RefundFilter, is_before: list[ColumnElement[bool]], limit: int) -> CompoundSelect[tuple[int]]:
    """The newest ids of each requested state and kind: the index holds each of these in order."""
    states = list(RefundState) if wanted.state is None else [wanted.state]
    kinds = list(RefundKind) if wanted.kind is None else [wanted.kind]
    newest = [
        select(r.id).where(r.state == state, r.kind == kind, *is_before).order_by(r.id.desc()).limit(limit).subquery()
        for state in states
        for kind in kinds
    ]
    return union_all(*(select(one.c.id) for one in newest))


def _to_row(row: Row[Any]) -> RefundRow:
    return checked(
        RefundRow(
            **{
                **row._mapping,
                "state": RefundState(row.state),
                "kind": RefundKind(row.kind),
                "asked_by": RefundAsker(row.asked_by),
            }
        )
    )
