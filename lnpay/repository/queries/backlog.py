"""Rows that have waited too long and need the operator; `figures` counts the rest."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from lnpay.domain.states import DeliveryState, RefundState
from lnpay.repository.sql import read_rows, sum_of, to_moment
from lnpay.repository.tables import deliveries as d
from lnpay.repository.tables import refunds as r


class Backlog:
    """Queries about overdue work, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def abandoned_since(self, since: datetime) -> int:
        """Abandoned messages about events after `since`."""
        statement = select(func.count()).where(d.c.state == DeliveryState.ABANDONED, d.c.created_at >= since)
        return int(self._connection.execute(statement).scalar_one())

    def last_refusal(self) -> str | None:
        """Why the shop did not accept the newest pending or abandoned message."""
        statement = (
            select(d.c.last_error)
            .where(d.c.state.in_((DeliveryState.PENDING, DeliveryState.ABANDONED)), d.c.last_error.is_not(None))
            .order_by(d.c.id.desc())
            .limit(1)
        )
        found = read_rows(self._connection, d, statement, _to_text)
        return found[0] if found else None

    def last_delivered_at(self) -> datetime | None:
        """When the shop last accepted a message."""
        statement = (
            select(d.c.delivered_at.label("moment"))
            .where(d.c.state == DeliveryState.DELIVERED)
            .order_by(d.c.id.desc())
            .limit(1)
        )
        found = read_rows(self._connection, d, statement, to_moment)
        return found[0] if found else None

    def owed_sats(self, states: Collection[RefundState]) -> int:
        """The sum of the refunds in any of `states`."""
        statement = select(sum_of(r.c.amount_sats)).where(r.c.state.in_(states))
        return int(self._connection.execute(statement).scalar_one())


def _to_text(row: Row[Any]) -> str:
    if not isinstance(row[0], str):
        raise TypeError("not a text")
    return row[0]
