"""Refunds of every kind as the operator looks for them: the newest first, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from lnpay.domain.states import RefundAsker, RefundKind, RefundState
from lnpay.repository.queries.searches import MAX_TEXT_CHARACTERS
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


class RefundList:
    """Lists refunds inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self, wanted: RefundFilter, limit: int, before: int | None = None) -> list[RefundRow]:
        """The newest refunds that are wanted, of those with an id below `before`. Walks the primary key."""
        statement = (
            select(
                r.id, i.strike_invoice_id, SHOWN_CORRELATION_ID, i.currency, r.state, r.kind, r.amount_sats,
                r.amount_fiat, r.asked_by, r.created_at,
            )
            .select_from(refunds.join(invoices, r.invoice_id == i.id))
            .order_by(r.id.desc())
            .limit(limit)
        )  # fmt: skip
        for column, value in ((r.state, wanted.state), (r.kind, wanted.kind)):
            statement = statement if value is None else statement.where(column == value)
        if before is not None:
            statement = statement.where(r.id < before)
        if not wanted.text:
            return read_rows(self._connection, refunds, statement, _to_row)
        # PostgreSQL raises an error for a NUL, and no name has one.
        if len(wanted.text) > MAX_TEXT_CHARACTERS or not wanted.text.isprintable():
            return []
        found: dict[int, RefundRow] = {}
        # A query for each way to read the text, so that each has an index.
        for column in (i.strike_invoice_id, i.correlation_id, i.order_id):
            named = statement.where(r.invoice_id.in_(select(i.id).where(column == wanted.text)))
            found.update({one.id: one for one in read_rows(self._connection, refunds, named, _to_row)})
        return [found[id] for id in sorted(found, reverse=True)[:limit]]


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
