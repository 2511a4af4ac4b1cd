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
    """The latest times that a correct clock can have written by now.

    next_attempt_at: after no attempt, after one, ...; the last entry also for more.
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
        """Record a message owed to the shop, due at `due_at` (None: now). False if this event is recorded already."""
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
        """Due and unclaimed messages: those with the fewest attempts first, then the oldest.

        A claim or next attempt later than `credible` is ignored: only a clock that ran ahead can have written it.
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
        """When the next pending message is due, or the next claim expires; None if nothing is owed."""
        due_at = func.coalesce(t.c.claimed_until, t.c.next_attempt_at, type_=UtcDateTime)
        statement = select(func.min(due_at)).where(t.c.state == DeliveryState.PENDING)
        return self._connection.execute(statement).scalar()

    def is_any_claimed(self) -> bool:
        """Whether a process is sending a message now, or was killed while doing so."""
        statement = select(t.c.id).where(t.c.state == DeliveryState.PENDING, t.c.claimed_until.is_not(None)).limit(1)
        return self._connection.execute(statement).first() is not None

    def claim(self, delivery: Delivery, until: datetime) -> bool:
        """Claim a due message until `until`. False if another process was faster."""
        statement = (
            update(t)
            .where(t.c.id == delivery.id, t.c.state == DeliveryState.PENDING, t.c.claims == delivery.claims)
            .values(claims=delivery.claims + 1, claimed_until=until)
        )
        return self._connection.execute(statement).rowcount == 1

    def withdraw(self, invoice_id: int, event_type: str) -> datetime | None:
        """Withdraw a pending message. If it is being sent right now, returns when that is over at the latest."""
        check_delivery_move(DeliveryState.PENDING, DeliveryState.WITHDRAWN)
        is_it = (t.c.invoice_id == invoice_id) & (t.c.event_type == event_type) & (t.c.state == DeliveryState.PENDING)
        statement = update(t).where(is_it).values(state=DeliveryState.WITHDRAWN).returning(t.c.claimed_until)
        return self._connection.execute(statement).scalar()

    def mark_delivered(self, delivery: Delivery, at: datetime) -> bool:
        """The shop answered 2xx: it has the message, even if the claim was lost or the message withdrawn since."""
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
        """The shop did not accept it: retry at `until`. False if the claim is no longer ours."""
        values = {"next_attempt_at": until, "attempts": t.c.attempts + 1, "last_error": reason}
        return self._finish(delivery, values, is_claim_needed=True)

    def abandon(self, delivery: Delivery, reason: str) -> bool:
        """Give up on a message. False if the claim is no longer ours."""
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
        """Make a message due now, with its full number of attempts, for the operator. False if it has changed since."""
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
        """Messages in `state` recorded from `since` (None: ever) to `until`, oldest first."""
        statement = select(t).where(t.c.state == state, t.c.created_at <= until)
        if since is not None:
            statement = statement.where(t.c.created_at >= since)
        # By time, not by id: otherwise a database may scan all rows in order of their ids to avoid sorting a few.
        statement = statement.order_by(t.c.created_at, t.c.id).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def newest(self, state: DeliveryState, limit: int) -> list[Delivery]:
        """The newest messages in `state`, newest first."""
        statement = select(t).where(t.c.state == state).order_by(t.c.id.desc()).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def of_invoice(self, invoice_id: int) -> list[Delivery]:
        """All messages about an invoice, oldest first."""
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(t.c.id)
        return read_rows(self._connection, t, statement, _to_delivery)


def _latest(of_attempts: Sequence[datetime]) -> ColumnElement[datetime]:
    """The latest credible next attempt of a row, by its number of attempts."""
    *known, of_more = (literal(moment, UtcDateTime) for moment in of_attempts)
    return case(dict(enumerate(known)), value=t.c.attempts, else_=of_more) if known else of_more


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{**row._mapping, "state": DeliveryState(row.state)})
