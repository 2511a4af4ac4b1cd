"""Row counts for monitoring: by index, so that no row of history is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import BindParameter, ColumnElement, Connection, Table, bindparam, case, func, select, text

from lnpay.domain.events import EventType
from lnpay.domain.states import PAID, DeliveryState, InvoiceState, RefundState
from lnpay.repository.sql import FirstMoment, Sought
from lnpay.repository.tables import UtcDateTime, deliveries, invoices, refunds

_State = TypeVar("_State", bound=StrEnum)

MOVING_REFUNDS = (RefundState.REQUESTED, RefundState.QUOTED, RefundState.IN_FLIGHT, RefundState.FAILED)
"""The states that LNPay should leave by itself; the others wait for the operator or the customer."""


@dataclass(frozen=True)
class Waiting:
    """How many rows wait for the same thing, and since when the oldest has waited."""

    count: int
    since: datetime


class _WaitingRows:
    """The rows for which a condition holds: how many there are, and the earliest time in a column."""

    def __init__(self, table: Table, since: ColumnElement[datetime], condition: ColumnElement[bool]) -> None:
        self._count = select(func.count()).select_from(table).where(condition)
        self._oldest = FirstMoment(table, since, condition)

    def find(self, connection: Connection, sought: Sought) -> Waiting | None:
        count = int(connection.execute(self._count, sought).scalar_one())
        oldest = self._oldest.find(connection, sought) if count else None
        # If no row has a readable time, all of them are reported as unreadable.
        return None if oldest is None else Waiting(count, oldest)


_i, _r, _d = invoices.c, refunds.c, deliveries.c

_BEFORE: BindParameter[datetime] = bindparam("before", type_=UtcDateTime)

_UNREAD_UNPAID = _WaitingRows(
    invoices,
    _i.expires_at,
    (_i.state == InvoiceState.UNPAID) & (_i.expires_at < _BEFORE) & _i.seen_at.is_(None),
)

_UNREAD_EXPIRED = _WaitingRows(
    invoices,
    _i.payable_until,
    (_i.state == InvoiceState.EXPIRED) & (_i.payable_until < _BEFORE) & _i.seen_at.is_(None),
)

_OWED_REFUNDS = _WaitingRows(refunds, _r.created_at, _r.state == bindparam("sought"))

_STARTED_REFUNDS = _WaitingRows(refunds, func.coalesce(_r.started_at, _r.created_at), _r.state == bindparam("sought"))

_IN_STATE_SINCE = case((_r.state == RefundState.IN_FLIGHT, _r.started_at), else_=_r.created_at)

_STALLED_REFUNDS = _WaitingRows(
    refunds,
    _IN_STATE_SINCE,
    _r.state.in_(MOVING_REFUNDS)
    & (_IN_STATE_SINCE < _BEFORE)
    & ((_r.failures + _r.looks > 0) | (_r.next_attempt_at < _BEFORE)),
)

_PENDING_DELIVERIES = _WaitingRows(
    deliveries, _d.created_at, (_d.state == DeliveryState.PENDING) & (_d.event_type == bindparam("sought"))
)

_STALLED_DELIVERIES = _WaitingRows(
    deliveries,
    _d.created_at,
    (_d.state == DeliveryState.PENDING)
    & (_d.created_at < _BEFORE)
    & ((_d.attempts > 0) | (_d.next_attempt_at < _BEFORE)),
)


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
        waiting = {
            state: (_STARTED_REFUNDS if state is RefundState.IN_FLIGHT else _OWED_REFUNDS).find(
                self._connection, {"sought": state}
            )
            for state in states
        }
        return {state: one for state, one in waiting.items() if one is not None}

    def pending_deliveries(self) -> dict[str, Waiting]:
        """Messages that the shop has not accepted yet, by event type, since they are owed. Reads every such row."""
        waiting = {str(one): _PENDING_DELIVERIES.find(self._connection, {"sought": one}) for one in EventType}
        return {event_type: one for event_type, one in waiting.items() if one is not None}

    def unread_unpaid(self, before: datetime) -> Waiting | None:
        """Unpaid invoices whose deadline was before `before`, unless Strike has seen money for them."""
        return _UNREAD_UNPAID.find(self._connection, {"before": before})

    def unread_expired(self, before: datetime) -> Waiting | None:
        """Expired invoices whose payment request ended before `before`, unless Strike has seen money for them."""
        return _UNREAD_EXPIRED.find(self._connection, {"before": before})

    def stalled_refunds(self, before: datetime) -> Waiting | None:
        """Refunds owed or in flight since before `before` that have failed, or that no worker has tried."""
        return _STALLED_REFUNDS.find(self._connection, {"before": before})

    def stalled_deliveries(self, before: datetime) -> Waiting | None:
        """Messages owed since before `before` that the shop has refused, or that were never sent."""
        return _STALLED_DELIVERIES.find(self._connection, {"before": before})

    def schema_version(self) -> str:
        """The newest migration that this database has."""
        return str(self._connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
