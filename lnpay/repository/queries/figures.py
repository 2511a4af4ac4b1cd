"""Row counts for monitoring: by index, so that no row of history is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, Table, case, func, select, text

from lnpay.domain.events import EventType
from lnpay.domain.states import PAID, DeliveryState, InvoiceState, RefundState
from lnpay.repository.sql import FirstMoment
from lnpay.repository.tables import (
    deliveries,
    invoices,
    refunds,
)

_State = TypeVar("_State", bound=StrEnum)

MOVING_REFUNDS = (RefundState.REQUESTED, RefundState.QUOTED, RefundState.IN_FLIGHT, RefundState.FAILED)
"""The states that LNPay should leave by itself; the others wait for the operator or the customer."""


@dataclass(frozen=True)
class Waiting:
    """How many rows wait for the same thing, and since when the oldest has waited."""

    count: int
    since: datetime


class Figures:
    """Counts inside one transaction. States without any row are missing from the results."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def invoices(self, states: Collection[InvoiceState]) -> dict[InvoiceState, int]:
        """How many issued invoices are in each of `states`."""
        # opened_at is set once Strike has issued it, and one index covers it together with the state.
        return self._by_state(invoices.c.state, func.count(invoices.c.opened_at), states)

    def unsettled(self) -> int:
        """How many invoices are listed as paid by Strike but not settled."""
        listed = invoices.c.listed_paid_at.is_not(None)
        statement = select(func.count()).where(listed, invoices.c.state.not_in(PAID))
        return int(self._connection.execute(statement).scalar_one())

    def refunds(self, states: Collection[RefundState]) -> dict[RefundState, int]:
        """How many refunds are in each of `states`."""
        return self._by_state(refunds.c.state, func.count(), states)

    def deliveries(self, states: Collection[DeliveryState]) -> dict[DeliveryState, int]:
        """How many messages are in each of `states`."""
        return self._by_state(deliveries.c.state, func.count(), states)

    def _by_state(
        self, column: ColumnElement[str], count: ColumnElement[int], states: Collection[_State]
    ) -> dict[_State, int]:
        statement = select(column, count).where(column.in_(states)).group_by(column)
        found = dict(self._connection.execute(statement).all())
        return {state: found[state] for state in states if state in found}

    def waiting_refunds(self, states: Collection[RefundState]) -> dict[RefundState, Waiting]:
        """Refunds waiting in each of `states`: since they are owed or, for those in flight, since they were started.

        Reads every such row, so use it only for states that refunds leave again.
        """
        r = refunds.c
        since = {state: r.started_at if state is RefundState.IN_FLIGHT else r.created_at for state in states}
        waiting = {
            state: self._waiting(refunds, func.coalesce(column, r.created_at), r.state == state)
            for state, column in since.items()
        }
        return {state: one for state, one in waiting.items() if one is not None}

    def pending_deliveries(self) -> dict[str, Waiting]:
        """Messages that the shop has not accepted yet, by event type, since they are owed. Reads every such row."""
        d = deliveries.c
        is_pending = d.state == DeliveryState.PENDING
        waiting = {
            str(one): self._waiting(deliveries, d.created_at, is_pending & (d.event_type == one)) for one in EventType
        }
        return {event_type: one for event_type, one in waiting.items() if one is not None}

    def unread_unpaid(self, before: datetime) -> Waiting | None:
        """Unpaid invoices whose deadline was before `before`, unless Strike has seen money for them."""
        i = invoices.c
        is_unread = (i.state == InvoiceState.UNPAID) & (i.expires_at < before) & i.seen_at.is_(None)
        return self._waiting(invoices, i.expires_at, is_unread)

    def unread_expired(self, before: datetime) -> Waiting | None:
        """Expired invoices whose payment request ended before `before`, unless Strike has seen money for them."""
        i = invoices.c
        is_unread = (i.state == InvoiceState.EXPIRED) & (i.payable_until < before) & i.seen_at.is_(None)
        return self._waiting(invoices, i.payable_until, is_unread)

    def stalled_refunds(self, before: datetime) -> Waiting | None:
        """Refunds owed or in flight since before `before` that have failed, or that no worker has tried."""
        r = refunds.c
        since = case((r.state == RefundState.IN_FLIGHT, r.started_at), else_=r.created_at)
        is_in_vain = (r.failures + r.looks > 0) | (r.next_attempt_at < before)
        return self._waiting(refunds, since, r.state.in_(MOVING_REFUNDS) & (since < before) & is_in_vain)

    def stalled_deliveries(self, before: datetime) -> Waiting | None:
        """Messages owed since before `before` that the shop has refused, or that were never sent."""
        d = deliveries.c
        is_in_vain = (d.attempts > 0) | (d.next_attempt_at < before)
        condition = (d.state == DeliveryState.PENDING) & (d.created_at < before) & is_in_vain
        return self._waiting(deliveries, d.created_at, condition)

    def _waiting(self, table: Table, since: ColumnElement[datetime], condition: ColumnElement[bool]) -> Waiting | None:
        count = int(self._connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())
        oldest = FirstMoment(table, since, condition).find(self._connection) if count else None
        # If no row has a readable time, all of them are reported as unreadable.
        return None if oldest is None else Waiting(count, oldest)

    def schema_version(self) -> str:
        """The newest migration that this database has."""
        return str(self._connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
