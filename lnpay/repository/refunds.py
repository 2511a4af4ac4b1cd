"""Rows of refunds, one per invoice, ever; and their history, which is only added to."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, text, update

from lnpay.model import Refund, RefundAttempt
from lnpay.repository.rows import insert_unless_there
from lnpay.repository.tables import UtcDateTime, refund_attempts
from lnpay.repository.tables import refunds as t
from lnpay.states import RefundState, check_refund_move

DAILY_LIMIT_LOCK = 7_305_012_119
"""On PostgreSQL two workers take turns with looking at the day's sum and starting a payment."""


class Refunds:
    """Queries about refunds inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self,
        invoice_id: int,
        *,
        received_sats: int,
        address: str | None,
        token: str,
        idempotency_key: str,
        created_at: datetime,
    ) -> bool:
        """Owe back all that was received for an invoice. False when it is owed already."""
        values = {
            "invoice_id": invoice_id,
            "token": token,
            "state": RefundState.REQUESTED if address else RefundState.NEEDS_ADDRESS,
            "amount_sats": received_sats,
            "received_sats": received_sats,
            "address": address,
            "idempotency_key": idempotency_key,
            "created_at": created_at,
            "next_attempt_at": created_at,
        }
        return insert_unless_there(self._connection, t, values) is not None

    def find(self, refund_id: int) -> Refund | None:
        """The refund with our own number `refund_id`."""
        return self._one(t.c.id == refund_id)

    def find_by_invoice(self, invoice_id: int) -> Refund | None:
        """The refund of an invoice, if one is owed."""
        return self._one(t.c.invoice_id == invoice_id)

    def find_by_token(self, token: str) -> Refund | None:
        """The refund behind a customer's link."""
        return self._one(t.c.token == token) if token.isascii() and token.isprintable() else None

    def find_by_payment(self, payment_id: str) -> Refund | None:
        """The refund that Strike sends as `payment_id`."""
        return self._one(t.c.payment_id == payment_id) if payment_id.isascii() and payment_id.isprintable() else None

    def _one(self, condition: ColumnElement[bool]) -> Refund | None:
        row = self._connection.execute(select(t).where(condition)).one_or_none()
        return None if row is None else _to_refund(row)

    def in_states(self, states: Collection[RefundState], limit: int) -> list[Refund]:
        """Refunds in any of `states`, the oldest first."""
        statement = select(t).where(t.c.state.in_(states)).order_by(t.c.id).limit(limit)
        return [_to_refund(row) for row in self._connection.execute(statement)]

    def due(self, states: Collection[RefundState], now: datetime, limit: int) -> list[Refund]:
        """Refunds in any of `states` whose time has come and that nobody works on, the longest due first."""
        is_free = t.c.claimed_until.is_(None) | (t.c.claimed_until <= now)
        statement = (
            select(t)
            .where(t.c.state.in_(states), t.c.next_attempt_at <= now, is_free)
            .order_by(t.c.next_attempt_at, t.c.id)
            .limit(limit)
        )
        return [_to_refund(row) for row in self._connection.execute(statement)]

    def next_due_at(self, states: Collection[RefundState]) -> datetime | None:
        """When the next refund in any of `states` is due, or its claim runs out; None when there is none."""
        due_at = func.coalesce(t.c.claimed_until, t.c.next_attempt_at, type_=UtcDateTime)
        return self._connection.execute(select(func.min(due_at)).where(t.c.state.in_(states))).scalar()

    def claim(self, refund: Refund, until: datetime) -> Refund | None:
        """Take a refund for ourselves until `until`. None when it changed, or another process was quicker."""
        return self._change(refund, {"claims": refund.claims + 1, "claimed_until": until})

    def change(self, refund: Refund, **values: object) -> Refund | None:
        """Change columns of a refund that we hold. None when it is not as we know it any more."""
        return self._change(refund, values)

    def move(self, refund: Refund, new: RefundState, **values: object) -> Refund | None:
        """Move a refund that we hold to another state. None when it is not as we know it any more."""
        check_refund_move(refund.state, new)
        return self._change(refund, {**values, "state": new})

    def _change(self, refund: Refund, values: dict[str, Any]) -> Refund | None:
        statement = (
            update(t).where(t.c.id == refund.id, t.c.state == refund.state, t.c.claims == refund.claims).values(values)
        )
        if self._connection.execute(statement).rowcount != 1:
            return None
        return dataclasses.replace(refund, **values)

    def see_payment(self, refund: Refund, payment_id: str) -> None:
        """Remember which payment a quote became, whoever holds the refund by now: it is evidence."""
        statement = update(t).where(t.c.id == refund.id, t.c.payment_quote_id == refund.payment_quote_id)
        self._connection.execute(statement.values(payment_id=payment_id))

    def mark_sent(self, refund: Refund, at: datetime, payment_id: str | None) -> bool:
        """Strike says it is paid: true whoever holds the refund by now. False when it was known."""
        check_refund_move(RefundState.IN_FLIGHT, RefundState.SENT)
        statement = (
            update(t)
            .where(
                t.c.id == refund.id,
                t.c.state == RefundState.IN_FLIGHT,
                t.c.payment_quote_id == refund.payment_quote_id,
            )
            .values(
                state=RefundState.SENT,
                sent_at=at,
                reason=None,
                claimed_until=None,
                payment_id=func.coalesce(payment_id, t.c.payment_id),
            )
        )
        return self._connection.execute(statement).rowcount == 1

    def started_sats(self, since: datetime) -> int:
        """What was sent, or may have been, since `since`. Nobody else can start a refund before our commit."""
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DAILY_LIMIT_LOCK})
        statement = select(func.coalesce(func.sum(t.c.amount_sats), 0)).where(
            t.c.started_at >= since, t.c.state.in_((RefundState.IN_FLIGHT, RefundState.SENT))
        )
        return int(self._connection.execute(statement).scalar_one())

    def note(
        self,
        refund: Refund,
        at: datetime,
        step: str,
        outcome: str,
        *,
        strike_code: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Add a line to a refund's history."""
        values = {
            "refund_id": refund.id,
            "at": at,
            "step": step,
            "outcome": outcome,
            "address": refund.address,
            "idempotency_key": refund.idempotency_key,
            "payment_quote_id": refund.payment_quote_id,
            "fee_sats": refund.fee_sats,
            "payment_id": refund.payment_id,
            "strike_code": strike_code,
            "trace_id": trace_id,
        }
        self._connection.execute(insert(refund_attempts).values(values))

    def history(self, refund: Refund) -> list[RefundAttempt]:
        """Every line of a refund's history, in order."""
        a = refund_attempts
        statement = select(a).where(a.c.refund_id == refund.id).order_by(a.c.id)
        names = [one.name for one in dataclasses.fields(RefundAttempt)]
        return [
            RefundAttempt(**{name: row._mapping[name] for name in names}) for row in self._connection.execute(statement)
        ]


def _to_refund(row: Row[Any]) -> Refund:
    return Refund(**{**row._mapping, "state": RefundState(row.state)})
