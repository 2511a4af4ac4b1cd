"""Rows of deliveries: the outbox."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, exists, func, literal, select, update

from lnpay.domain.model import Delivery, Invoice
from lnpay.domain.states import DeliveryState, check_delivery_move
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.records.invoices import read_invoice
from lnpay.repository.sql import (
    FirstMoment,
    checked,
    insert_unless_there,
    read_one,
    read_rows,
    require,
    unless_locked,
)
from lnpay.repository.tables import UtcDateTime, invoices, webhook_endpoints
from lnpay.repository.tables import deliveries as t

HOOK_LANE = 0
"""Stands for the delivery hook among endpoint ids, which begin at 1."""

_earlier = t.alias("earlier")

_CLAIMED = select(t.c.id).where(
    t.c.id == bindparam("sought"), t.c.state == DeliveryState.PENDING, t.c.claims == bindparam("claims")
)


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
        self,
        invoice_id: int,
        event_type: str,
        webhook_id: str,
        body: str,
        at: datetime,
        due_at: datetime | None = None,
        endpoint_id: int | None = None,
        refund_id: int = 0,
        original_id: int | None = None,
        place: int | None = None,
    ) -> bool:
        """Record a message owed to the shop, due at `due_at` (None: now). False if this event is recorded already.

        endpoint_id: the webhook endpoint that it is for; None: the delivery hook. The others: see `Delivery`.
        """
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
            "endpoint_id": endpoint_id,
            "refund_id": refund_id,
            "original_id": original_id,
            "place": place,
        }
        return insert_unless_there(self._connection, t, values) is not None

    def lock_invoice(self, invoice_id: int) -> Invoice | None:
        """The invoice that a message is about. Until the commit no other transaction settles it."""
        statement = select(invoices).where(invoices.c.id == invoice_id).with_for_update()
        return read_invoice(self._connection, statement)

    def is_owed(self, invoice_id: int, event_type: str, endpoint_id: int) -> bool:
        """Whether a message of this type about an invoice is recorded for an endpoint, in any state."""
        which = (t.c.invoice_id == invoice_id) & (t.c.event_type == event_type) & (t.c.endpoint_id == endpoint_id)
        return self._connection.execute(select(t.c.id).where(which)).first() is not None

    def due(
        self, now: datetime, limit: int, credible: Credible | None = None, lane: int | None = None
    ) -> list[Delivery]:
        """Due and unclaimed messages: those with the fewest attempts first, then the oldest.

        lane: only messages for that endpoint, or for the delivery hook (HOOK_LANE).
        A claim or next attempt later than `credible` is ignored: only a clock that ran ahead can have written it.
        """
        statement = (
            select(t).where(*_is_due(now, credible)).order_by(t.c.attempts, t.c.next_attempt_at, t.c.id).limit(limit)
        )
        if lane is not None:
            statement = statement.where(t.c.endpoint_id.is_(None) if lane == HOOK_LANE else t.c.endpoint_id == lane)
        return read_rows(self._connection, t, statement, _to_delivery)

    def lanes_due(self, now: datetime, credible: Credible | None = None) -> list[int]:
        """The endpoints for which messages are due, and HOOK_LANE if any is due for the delivery hook."""
        lane = func.coalesce(t.c.endpoint_id, HOOK_LANE)
        return list(self._connection.execute(select(lane).where(*_is_due(now, credible)).distinct()).scalars())

    def next_due_at(self) -> datetime | None:
        """When the next message may be sent, or the next claim expires; None if nothing waits for a time."""
        return _NEXT_DUE_AT.find(self._connection)

    def is_any_claimed(self) -> bool:
        """Whether a process is sending a message now, or was killed while doing so."""
        # No one sends a claimed message left behind for a disabled endpoint.
        which = (t.c.state == DeliveryState.PENDING, t.c.claimed_until.is_not(None), *_is_its_turn())
        statement = select(t.c.id).where(*which).limit(1)
        return self._connection.execute(statement).first() is not None

    def claim(self, delivery: Delivery, until: datetime) -> bool:
        """Claim a due message until `until`. False if another process was faster, or is changing it just now."""
        is_free = and_(t.c.id == delivery.id, t.c.state == DeliveryState.PENDING, t.c.claims == delivery.claims)
        statement = (
            update(t)
            .where(unless_locked(self._connection, t, is_free))
            .values(claims=delivery.claims + 1, claimed_until=until)
        )
        return self._connection.execute(statement).rowcount == 1

    def is_held(self, delivery: Delivery) -> bool:
        """Whether the claim of the caller, who has read `delivery` before claiming it, still holds."""
        ours = {"sought": delivery.id, "claims": delivery.claims + 1}
        return self._connection.execute(_CLAIMED, ours).first() is not None

    def withdraw(self, invoice_id: int, event_types: Collection[str]) -> dict[int | None, datetime]:
        """Withdraw pending messages of these types, to the delivery hook and to every endpoint.

        Returns, by endpoint (None: the hook), when one that is being sent right now is over at the latest.
        """
        is_it = (t.c.invoice_id == invoice_id) & t.c.event_type.in_(event_types)
        sending = [row for row in self._withdraw(is_it) if row.claimed_until is not None]
        return {row.endpoint_id: row.claimed_until for row in sorted(sending, key=lambda row: row.claimed_until)}

    def replace(self, delivery: Delivery) -> datetime | None:
        """Withdraw one message, in whose stead another is sent. Returns until when it may be sent right now, if so."""
        check_delivery_move(delivery.state, DeliveryState.WITHDRAWN)
        statement = update(t).where(t.c.id == delivery.id, t.c.state == delivery.state)
        withdrawn = statement.values(state=DeliveryState.WITHDRAWN).returning(t.c.claimed_until)
        return self._connection.execute(withdrawn).scalar()

    def withdraw_of_endpoint(self, endpoint_id: int) -> int:
        """Withdraw every pending message to an endpoint. Returns how many there were."""
        return len(self._withdraw(t.c.endpoint_id == endpoint_id))

    def _withdraw(self, which: ColumnElement[bool]) -> Sequence[Row[Any]]:
        check_delivery_move(DeliveryState.PENDING, DeliveryState.WITHDRAWN)
        statement = update(t).where(which, t.c.state == DeliveryState.PENDING).values(state=DeliveryState.WITHDRAWN)
        return self._connection.execute(statement.returning(t.c.endpoint_id, t.c.claimed_until)).all()

    def mark_delivered(self, delivery: Delivery, at: datetime, status: int | None = None) -> bool:
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
                "last_status": status,
            },
            taken_from,
        )

    def put_off(self, delivery: Delivery, until: datetime, reason: str, status: int | None = None) -> bool:
        """The shop did not accept it: retry at `until`. False if the claim is no longer ours."""
        values = {
            "next_attempt_at": until,
            "attempts": t.c.attempts + 1,
            "last_error": reason,
            "last_status": status,
        }
        return self._finish(delivery, values, is_claim_needed=True)

    def abandon(self, delivery: Delivery, reason: str, status: int | None = None) -> bool:
        """Give up on a message. False if the claim is no longer ours."""
        check_delivery_move(DeliveryState.PENDING, DeliveryState.ABANDONED)
        values = {
            "state": DeliveryState.ABANDONED,
            "attempts": t.c.attempts + 1,
            "last_error": reason,
            "last_status": status,
        }
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
        # By time, not by id: otherwise a database may scan all rows by id to avoid sorting a few.
        statement = statement.order_by(t.c.created_at, t.c.id).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def newest(self, state: DeliveryState, limit: int) -> list[Delivery]:
        """The newest messages in `state`, newest first."""
        statement = select(t).where(t.c.state == state).order_by(t.c.id.desc()).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def read_through(self, newest: int) -> None:
        """Read the newest messages, and every one that is to be sent, to learn which cannot be read."""
        read_rows(self._connection, t, select(t).order_by(t.c.id.desc()).limit(newest), _to_delivery)
        read_rows(self._connection, t, select(t).where(t.c.state == DeliveryState.PENDING), _to_delivery)

    def of_invoice(self, invoice_id: int) -> list[Delivery]:
        """All messages about an invoice, oldest first."""
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(t.c.id)
        return read_rows(self._connection, t, statement, _to_delivery)

    def newest_of_endpoint(self, endpoint_id: int, limit: int) -> list[Delivery]:
        """The newest messages to an endpoint, newest first."""
        statement = select(t).where(t.c.endpoint_id == endpoint_id).order_by(t.c.id.desc()).limit(limit)
        return read_rows(self._connection, t, statement, _to_delivery)

    def find_of_endpoint(self, endpoint_id: int, webhook_id: str) -> Delivery | None:
        """The message of that name to an endpoint."""
        # The name comes from a URL, and PostgreSQL raises an error for a NUL. No name of ours has one.
        if not is_printable_ascii(webhook_id):
            return None
        statement = select(t).where(t.c.webhook_id == webhook_id, t.c.endpoint_id == endpoint_id)
        return read_one(self._connection, t, statement, _to_delivery)

    def same_as(self, delivery: Delivery) -> list[Delivery]:
        """A message to an endpoint with its original and every redelivery of it, oldest first."""
        which = (
            t.c.invoice_id == delivery.invoice_id,
            t.c.endpoint_id == delivery.endpoint_id,
            t.c.event_type == delivery.event_type,
            t.c.refund_id == delivery.refund_id,
        )
        return read_rows(self._connection, t, select(t).where(*which).order_by(t.c.id), _to_delivery)


def _is_due(now: datetime, credible: Credible | None) -> list[ColumnElement[bool]]:
    is_free = t.c.claimed_until.is_(None) | (t.c.claimed_until <= now)
    is_time = t.c.next_attempt_at <= now
    if credible is not None:
        is_free |= t.c.claimed_until > credible.claimed_until
        is_time |= t.c.next_attempt_at > _latest(credible.next_attempt_at)
    return [t.c.state == DeliveryState.PENDING, is_time, is_free, *_is_its_turn()]


def _is_its_turn() -> list[ColumnElement[bool]]:
    """Messages to the delivery hook are unordered. One to an endpoint waits while the endpoint is disabled, and until
    earlier ones about the same invoice are accepted, withdrawn or abandoned.
    """
    place, earlier_place = (func.coalesce(one.c.place, one.c.id) for one in (t, _earlier))
    is_former_pending = exists().where(
        _earlier.c.invoice_id == t.c.invoice_id,
        _earlier.c.endpoint_id == t.c.endpoint_id,
        (earlier_place < place) | ((earlier_place == place) & (_earlier.c.id < t.c.id)),
        _earlier.c.state == DeliveryState.PENDING,
    )
    is_enabled = exists().where(webhook_endpoints.c.id == t.c.endpoint_id, webhook_endpoints.c.is_enabled)
    return [t.c.endpoint_id.is_(None) | (is_enabled & ~is_former_pending)]


_NEXT_DUE_AT = FirstMoment(
    t,
    func.coalesce(t.c.claimed_until, t.c.next_attempt_at, type_=UtcDateTime),
    and_(t.c.state == DeliveryState.PENDING, *_is_its_turn()),
)


def _latest(of_attempts: Sequence[datetime]) -> ColumnElement[datetime]:
    """The latest credible next attempt of a row, by its number of attempts."""
    *known, of_more = (literal(moment, UtcDateTime) for moment in of_attempts)
    return case(dict(enumerate(known)), value=t.c.attempts, else_=of_more) if known else of_more


def _to_delivery(row: Row[Any]) -> Delivery:
    delivery = checked(Delivery(**{**row._mapping, "state": DeliveryState(row.state)}))
    # The shop receives exactly this text, so it is checked before it is sent.
    require(isinstance(json.loads(delivery.body), dict))
    require((delivery.state is DeliveryState.DELIVERED) == (delivery.delivered_at is not None))
    return delivery
