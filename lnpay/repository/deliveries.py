"""Rows of deliveries: the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, literal, select, update

from lnpay.domain.model import Delivery
from lnpay.domain.states import DeliveryState, check_delivery_move
from lnpay.repository.sql import insert_unless_there, read_rows
from lnpay.repository.tables import UtcDateTime
from lnpay.repository.tables import deliveries as t


@dataclass(frozen=True)
class Credible:
    """The latest times that a clock that is right can have written by now.

    next_attempt_at: after no attempt, after one, ...; the last also after more.
    """

    claimed_until: datetime
    next_attempt_at: Sequence[datetime]


class Deliveries:
    """Queries about deliveries inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self, invoice_id: int, event_type: str, webhook_id: str, body: str, at: datetime, due_at: datetime | None = None
    ) -> bool:
        """Owe the shop one message, due at `due_at` (None: at once). False when this event is owed already."""
        values = {
            "webhook_id": webhook_id,
            "invoice_id": invoice_id,
            "event_type": event_type,
            "body": body,
            "state": DeliveryState.PENDING,
            "attempts": 0,
            "claims": 0,
            "next_attempt_at": due_at or at,
            "created_at": at,
        }
        return insert_unless_there(self._connection, t, values) is not None

    def due(self, now: datetime, limit: int, credible: Credible | None = None) -> list[Delivery]:
        """Pending messages whose time has come and that no one is sending: the least tried first, then the oldest.

        A claim or a next attempt that is later than `credible` counts as over: a clock that was ahead wrote it.
        """
        is_free = t.c.claimed_until.is_(None) | (t.c.claimed_until <= now)
        is_time = t.c.next_attempt_at <= now
        if credible is not None:
            is_free |= t.c.claimed_until > credible.claimed_until
            is_time |= t.c.next_attempt_at > _latest(credible.next_attempt_at)
        statement = (
            select(t)
            .where(t.c.state == DeliveryState.PENDING, is_time, is_free)
            .order_by(t.c.attempts, t.c.next_attempt_at)
            .limit(limit)
        )
        return read_rows(self._connection, t, statement, _to_delivery)

    def next_due_at(self) -> datetime | None:
        """When the next pending message is due, or the next claim runs out; None when nothing is owed."""
        due_at = func.coalesce(t.c.claimed_until, t.c.next_attempt_at, type_=UtcDateTime)
        statement = select(func.min(due_at)).where(t.c.state == DeliveryState.PENDING)
        return self._connection.execute(statement).scalar()

    def is_any_claimed(self) -> bool:
        """Whether somebody is sending a message now, or was killed while doing so."""
        statement = select(t.c.id).where(t.c.state == DeliveryState.PENDING, t.c.claimed_until.is_not(None)).limit(1)
        return self._connection.execute(statement).first() is not None

    def claim(self, delivery: Delivery, until: datetime) -> bool:
        """Take a due message for ourselves until `until`. False when another process was quicker."""
        statement = (
            update(t)
            .where(t.c.id == delivery.id, t.c.state == DeliveryState.PENDING, t.c.claims == delivery.claims)
            .values(claims=delivery.claims + 1, claimed_until=until)
        )
        return self._connection.execute(statement).rowcount == 1

    def withdraw(self, invoice_id: int, event_type: str) -> datetime | None:
        """Send a pending message no more. Returns until when somebody may be sending it at this moment, if so."""
        check_delivery_move(DeliveryState.PENDING, DeliveryState.WITHDRAWN)
        is_it = (t.c.invoice_id == invoice_id) & (t.c.event_type == event_type) & (t.c.state == DeliveryState.PENDING)
        statement = update(t).where(is_it).values(state=DeliveryState.WITHDRAWN).returning(t.c.claimed_until)
        return self._connection.execute(statement).scalar()

    def mark_delivered(self, delivery: Delivery, at: datetime) -> bool:
        """The shop answered 2xx. That counts whoever holds the claim by now, also if it was withdrawn meanwhile."""
        taken_from = (DeliveryState.PENDING, DeliveryState.WITHDRAWN)
        for old in taken_from:
            check_delivery_move(old, DeliveryState.DELIVERED)
        return self._finish(
            delivery,
            {
                "state": DeliveryState.DELIVERED,
                "delivered_at": at,
                "attempts": t.c.attempts + 1,
                "last_error": None,
            },
            taken_from,
        )

    def put_off(self, delivery: Delivery, until: datetime, reason: str) -> bool:
        """The shop did not take it: again at `until`. False when the claim is no longer ours."""
        values = {"next_attempt_at": until, "attempts": t.c.attempts + 1, "last_error": reason}
        return self._finish(delivery, values, is_claim_needed=True)

    def abandon(self, delivery: Delivery, reason: str) -> bool:
        """Give up on a message. False when the claim is no longer ours."""
        check_delivery_move(DeliveryState.PENDING, DeliveryState.ABANDONED)
        values = {"state": DeliveryState.ABANDONED, "attempts": t.c.attempts + 1, "last_error": reason}
        return self._finish(delivery, values, is_claim_needed=True)

    def _finish(
        self,
        delivery: Delivery,
        values: dict[str, Any],
        old: tuple[DeliveryState, ...] = (DeliveryState.PENDING,),
        *,
        is_claim_needed: bool = False,
    ) -> bool:
        statement = update(t).where(t.c.id == delivery.id, t.c.state.in_(old)).values(claimed_until=None, **values)
        if is_claim_needed:
            statement = statement.where(t.c.claims == delivery.claims + 1)
        return self._connection.execute(statement).rowcount == 1

    def send_again(self, delivery: Delivery, at: datetime) -> bool:
        """Make a message due now, with all its attempts before it; for a person. False when it changed meanwhile."""
        if delivery.state is not DeliveryState.PENDING:
            check_delivery_move(delivery.state, DeliveryState.PENDING)
        statement = (
            update(t)
            .where(t.c.id == delivery.id, t.c.state == delivery.state, t.c.claims == delivery.claims)
            .values(
                state=DeliveryState.PENDING,
                delivered_at=None,
                attempts=0,
                claims=delivery.claims + 1,
                next_attempt_at=at,
            )
        )
        return self._connection.execute(statement).rowcount == 1

    def waiting(self, state: DeliveryState, since: datetime | None, until: datetime, limit: int) -> list[Delivery]:
        """Messages in `state` that are owed from `since` (None: ever) to `until`, the oldest first."""
        statement = select(t).where(t.c.state == state, t.c.created_at <= until)
        if since is not None:
            statement = statement.where(t.c.created_at >= since)
        # By time, not by id: a database might read all rows in the order of their ids otherwise, to save sorting a few.
        statement = statement.order_by(t.c.created_at, t.c.id).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def newest(self, state: DeliveryState, limit: int) -> list[Delivery]:
        """The messages in `state` that were owed last, the newest first."""
        statement = select(t).where(t.c.state == state).order_by(t.c.id.desc()).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def of_invoice(self, invoice_id: int) -> list[Delivery]:
        """Every message about an invoice, the oldest first."""
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(t.c.id)
        return read_rows(self._connection, t, statement, _to_delivery)


def _latest(of_attempts: Sequence[datetime]) -> ColumnElement[datetime]:
    """The latest credible next attempt of a row."""
    *known, of_more = (literal(moment, UtcDateTime) for moment in of_attempts)
    return case(dict(enumerate(known)), value=t.c.attempts, else_=of_more) if known else of_more


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})
