"""What is kept of old unpaid invoices after they are deleted, and their totals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, exists, insert, select, update

from lnpay.domain.states import UNWATCHED, DeliveryState, InvoiceState
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.sql import checked, read_rows, sum_of
from lnpay.repository.tables import (
    SHOWN_CORRELATION_ID,
    deliveries,
    invoices,
    pruned_invoices,
    pruned_totals,
    receives,
    refunds,
)

i, p = invoices.c, pruned_invoices.c

DRAFT = "draft"
"""In the totals, in addition to the invoice states: an order for which Strike never issued an invoice."""


@dataclass(frozen=True)
class PrunedInvoice:
    """The record that remains of a deleted invoice. found_paid_at: when Strike reported that it was paid after all."""

    strike_invoice_id: str
    correlation_id: str
    order_id: str | None
    amount_sats: int
    currency: str
    amount_fiat: Decimal
    opened_at: datetime
    pruned_at: datetime
    found_paid_at: datetime | None
    received_sats: int | None


@dataclass(frozen=True)
class PrunedTotal:
    """Deleted invoices of one day (UTC), currency and final state, added up."""

    day: date
    currency: str
    state: str
    invoices: int
    amount_sats: int
    amount_fiat: Decimal


class Pruned:
    """Queries about deleted invoices inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def prune(self, before: datetime, at: datetime, limit: int) -> int:
        """Delete up to `limit` invoices and drafts that ended before `before`, and note what they were.

        Keeps any that was paid, for which money was seen or a refund is owed, or about which a message is still owed
        to the shop. Returns how many were deleted. Rows that another transaction is changing wait for the next time.
        """
        found = [row for way, order in _over(before) for row in self._lock(way, order, limit)][:limit]
        ids = [row.id for row in found]
        if not ids:
            return 0
        self._connection.execute(delete(deliveries).where(deliveries.c.invoice_id.in_(ids)))
        self._connection.execute(delete(invoices).where(i.id.in_(ids)))
        self._keep([row for row in found if row.strike_invoice_id is not None], at)
        self._add_up(found, at)
        return len(ids)

    def _lock(self, way: ColumnElement[bool], order: Column[datetime], limit: int) -> list[Row[Any]]:
        columns = (
            i.id, i.strike_invoice_id, SHOWN_CORRELATION_ID, i.order_id, i.amount_sats, i.currency, i.amount_fiat,
            i.opened_at, i.created_at, i.state,
        )  # fmt: skip
        statement = select(*columns).where(way, *_is_nothing_owed()).order_by(order).limit(limit)
        # One that cannot be read stays, and does not keep the others.
        locking = statement.with_for_update(skip_locked=True, of=invoices)
        return read_rows(self._connection, invoices, locking, lambda row: row)

    def _keep(self, rows: list[Row[Any]], at: datetime) -> None:
        kept = [
            {
                "strike_invoice_id": row.strike_invoice_id,
                "correlation_id": row.correlation_id,
                "order_id": row.order_id,
                "amount_sats": row.amount_sats,
                "currency": row.currency,
                "amount_fiat": row.amount_fiat,
                "opened_at": row.opened_at,
                "pruned_at": at,
            }
            for row in rows
        ]
        if kept:
            self._connection.execute(insert(pruned_invoices), kept)

    def _add_up(self, rows: list[Row[Any]], at: datetime) -> None:
        totals: dict[tuple[str, str, str], list[Row[Any]]] = {}
        for row in rows:
            is_draft = row.strike_invoice_id is None
            day = (row.created_at if is_draft else row.opened_at).astimezone(UTC).date().isoformat()
            totals.setdefault((day, row.currency, DRAFT if is_draft else row.state), []).append(row)
        # Each call adds new rows, so that no two workers change the same one.
        added = [
            {
                "day": day,
                "currency": currency,
                "state": state,
                "invoices": len(these),
                "amount_sats": Decimal(sum(row.amount_sats for row in these)),
                "amount_fiat": sum((row.amount_fiat for row in these), Decimal(0)),
                "pruned_at": at,
            }
            for (day, currency, state), these in totals.items()
        ]
        self._connection.execute(insert(pruned_totals), added)

    def totals(self, first: date, last: date) -> list[PrunedTotal]:
        """The totals of what was deleted from the days `first` to `last`, by day, currency and final state."""
        t = pruned_totals.c
        statement = select(pruned_totals).where(t.day >= first.isoformat(), t.day <= last.isoformat())
        sums: dict[tuple[date, str, str], PrunedTotal] = {}
        for one in read_rows(self._connection, pruned_totals, statement, _to_total):
            key = (one.day, one.currency, one.state)
            known = sums.get(key)
            sums[key] = (
                one
                if known is None
                else replace(
                    known,
                    invoices=known.invoices + one.invoices,
                    amount_sats=known.amount_sats + one.amount_sats,
                    amount_fiat=known.amount_fiat + one.amount_fiat,
                )
            )
        return [sums[key] for key in sorted(sums)]

    def count(self, state: str) -> int:
        """How many invoices of a final state were deleted so far."""
        statement = select(sum_of(pruned_totals.c.invoices)).where(pruned_totals.c.state == state)
        return int(self._connection.execute(statement).scalar_one())

    def unpaid_among(self, strike_invoice_ids: Iterable[str]) -> list[str]:
        """Those of these Strike ids that are deleted invoices of ours without a known payment."""
        # The ids come from outside, and PostgreSQL raises an error for a NUL. No id of ours has one.
        ids = [one for one in strike_invoice_ids if is_printable_ascii(one)]
        statement = select(p.strike_invoice_id).where(p.strike_invoice_id.in_(ids), p.found_paid_at.is_(None))
        return list(self._connection.execute(statement).scalars())

    def mark_paid(self, strike_invoice_id: str, *, received_sats: int | None, at: datetime) -> bool:
        """Record that Strike reports a deleted invoice as paid. False if it is not one, or was recorded before."""
        statement = (
            update(pruned_invoices)
            .where(p.strike_invoice_id == strike_invoice_id, p.found_paid_at.is_(None))
            .values(found_paid_at=at, received_sats=p.amount_sats if received_sats is None else received_sats)
        )
        return self._connection.execute(statement).rowcount == 1

    def found_paid(self, since: datetime, limit: int) -> list[PrunedInvoice]:
        """Deleted invoices that were found to be paid since `since`, oldest first."""
        statement = (
            select(pruned_invoices)
            .where(p.found_paid_at >= since)
            .order_by(p.found_paid_at, p.strike_invoice_id)
            .limit(limit)
        )
        return read_rows(self._connection, pruned_invoices, statement, _to_pruned)

    def read_through(self, newest: int) -> None:
        """Read the newest records of deleted invoices, to find unreadable ones."""
        newest_first = select(pruned_invoices).order_by(p.pruned_at.desc()).limit(newest)
        read_rows(self._connection, pruned_invoices, newest_first, _to_pruned)
        totals = select(pruned_totals).order_by(pruned_totals.c.id.desc()).limit(newest)
        read_rows(self._connection, pruned_totals, totals, _to_total)


def _to_pruned(row: Row[Any]) -> PrunedInvoice:
    return checked(PrunedInvoice(**row._mapping))


def _to_total(row: Row[Any]) -> PrunedTotal:
    day, sats = date.fromisoformat(row.day), int(row.amount_sats)
    return checked(PrunedTotal(day, row.currency, row.state, row.invoices, sats, row.amount_fiat))


def _over(before: datetime) -> list[tuple[ColumnElement[bool], Column[datetime]]]:
    """The conditions for what could last be paid before `before`, each with the sort column of its index."""
    return [
        *(((i.state == state) & (i.payable_until < before), i.payable_until) for state in UNWATCHED),
        # No customer has seen a draft.
        ((i.state == InvoiceState.UNPAID) & i.opened_at.is_(None) & (i.created_at < before), i.opened_at),
    ]


def _is_nothing_owed() -> list[ColumnElement[bool]]:
    d = deliveries.c
    return [
        i.paid_at.is_(None),
        i.seen_at.is_(None),
        i.listed_paid_at.is_(None),
        ~exists().where(refunds.c.invoice_id == i.id),
        ~exists().where(receives.c.invoice_id == i.id),
        ~exists().where(d.invoice_id == i.id, d.state == DeliveryState.PENDING),
    ]
