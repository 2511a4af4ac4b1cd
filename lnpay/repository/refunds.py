"""Rows of refunds and their append-only history. `refund_requests` adds and cancels them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, text, update

from lnpay.domain.model import Hold, Refund, RefundKey
from lnpay.domain.states import OPEN_REFUNDS, Closer, RefundKind, RefundState, check_refund_move
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.queries.refund_history import RefundHistory
from lnpay.repository.queries.refund_requests import add_refund, late_refund
from lnpay.repository.records.refunds import NOTHING_SENT, key_values, request_values, to_attempt, to_refund
from lnpay.repository.sql import FirstMoment, read_one, read_rows, sum_of, unless_locked
from lnpay.repository.tables import UtcDateTime, refund_attempts
from lnpay.repository.tables import refunds as t

DAILY_LIMIT_LOCK = 7_305_012_119
"""On PostgreSQL, workers take turns to check the day's total and start a payment, so that two cannot both fit in."""


_IS_IN_STATES = t.c.state.in_(bindparam("states", expanding=True))

_NEXT_DUE_AT = FirstMoment(t, func.coalesce(t.c.claimed_until, t.c.next_attempt_at, type_=UtcDateTime), _IS_IN_STATES)

_IN_STATES = select(t).where(_IS_IN_STATES).order_by(t.c.id).limit(bindparam("most"))

_COUNT_STUCK = select(func.count()).select_from(t).where(t.c.state == RefundState.IN_FLIGHT, t.c.stuck_at.is_not(None))

# A comparison with NULL is never true, so None ignores no claim and no next attempt.
_IS_FREE = or_(
    t.c.claimed_until.is_(None),
    t.c.claimed_until <= bindparam("now"),
    t.c.claimed_until > bindparam("claims_end_by"),
)

_IS_TIME = or_(
    t.c.next_attempt_at <= bindparam("now"),
    (t.c.next_attempt_at > bindparam("rests_end_by"))
    & ((t.c.state != RefundState.IN_FLIGHT) | t.c.payment_id.is_not(None)),
)

_DUE = select(t).where(_IS_IN_STATES, _IS_TIME, _IS_FREE).order_by(t.c.next_attempt_at, t.c.id).limit(bindparam("most"))


class Refunds(RefundHistory):
    """Queries about refunds inside one transaction."""

    def add(
        self,
        invoice_id: int,
        *,
        received_sats: int,
        address: str | None,
        token: str,
        key: RefundKey,
        created_at: datetime,
        hold: Hold | None = None,
    ) -> bool:
        """Record that a late payment, everything received for an invoice, is owed back. False if that is recorded.

        hold: why the operator decides about it first. Raises RefundExceedsReceived.
        """
        new = late_refund(invoice_id, received_sats, address, token, key, created_at, hold)
        return add_refund(self._connection, new)

    def find(self, refund_id: int) -> Refund | None:
        """The refund with the row number `refund_id`."""
        return self._one(t.c.id == refund_id)

    def find_by_invoice(self, invoice_id: int) -> Refund | None:
        """The newest refund of an invoice that is not canceled; the newest one if all are."""
        is_canceled = t.c.state == RefundState.CANCELED
        statement = select(t).where(t.c.invoice_id == invoice_id).order_by(is_canceled, t.c.id.desc()).limit(1)
        return read_one(self._connection, t, statement, to_refund)

    def find_late(self, invoice_id: int) -> Refund | None:
        """The refund of a late payment, if one is owed for this invoice."""
        return self._one((t.c.invoice_id == invoice_id) & (t.c.kind == RefundKind.LATE))

    def find_by_token(self, token: str) -> Refund | None:
        """The refund behind a customer's link."""
        return self._one(t.c.token == token) if is_printable_ascii(token) else None

    def find_by_payment(self, payment_id: str) -> Refund | None:
        """The refund that Strike sends as payment `payment_id`."""
        return self._one(t.c.payment_id == payment_id) if is_printable_ascii(payment_id) else None

    def is_payment_known(self, payment_id: str) -> bool:
        """Whether a refund was sent as payment `payment_id`, also one that cannot be read. Accepts any text."""
        statement = select(t.c.id).where(t.c.payment_id == payment_id)
        return is_printable_ascii(payment_id) and self._connection.execute(statement).first() is not None

    def without_payment_id(self, refund: Refund) -> list[RefundState]:
        """The states of other refunds of the same amount that Strike may have sent, as a payment that it has not named.

        IN_FLIGHT ones that are stuck are left out: what became of them may never be known.
        """
        is_resolving = (t.c.state == RefundState.IN_FLIGHT) & t.c.stuck_at.is_(None)
        is_inferred = (t.c.state == RefundState.SENT) & (t.c.closed_by == Closer.INFERRED)
        statement = select(t.c.state).where(
            t.c.id != refund.id, t.c.amount_sats == refund.amount_sats, t.c.payment_id.is_(None),
            is_resolving | is_inferred,
        )  # fmt: skip
        return [RefundState(state) for state in self._connection.execute(statement).scalars()]

    def _one(self, condition: ColumnElement[bool]) -> Refund | None:
        return read_one(self._connection, t, select(t).where(condition), to_refund)

    def in_states(self, states: Collection[RefundState], limit: int) -> list[Refund]:
        """Refunds in any of `states`, oldest first."""
        return read_rows(self._connection, t, _IN_STATES, to_refund, {"states": list(states), "most": limit})

    def due(
        self,
        states: Collection[RefundState],
        now: datetime,
        limit: int,
        *,
        claims_end_by: datetime | None = None,
        rests_end_by: datetime | None = None,
    ) -> list[Refund]:
        """Due and unclaimed refunds in any of `states`, longest due first.

        claims_end_by, rests_end_by: a later claim or next attempt is ignored, because only a clock that ran ahead can
        have written it. None: ignore none. The next attempt of a quote to be executed again is never ignored: after
        a restore the quote must first be too old to send anything.
        """
        sought = {
            "states": list(states),
            "now": now,
            "claims_end_by": claims_end_by,
            "rests_end_by": rests_end_by,
            "most": limit,
        }
        return read_rows(self._connection, t, _DUE, to_refund, sought)

    def next_due_at(self, states: Collection[RefundState]) -> datetime | None:
        """When the next refund in any of `states` is due, or its claim expires; None if there is none."""
        return _NEXT_DUE_AT.find(self._connection, {"states": list(states)})

    def unclear(self, started_before: datetime, limit: int) -> list[Refund]:
        """Refunds in flight whose outcome the operator must decide, oldest first.

        Either Strike's answers can no longer resolve them, or they were last executed before `started_before`.
        """
        executed_at = func.coalesce(t.c.executed_at, t.c.started_at, type_=UtcDateTime)
        is_unclear = t.c.stuck_at.is_not(None) | (executed_at <= started_before)
        statement = select(t).where(t.c.state == RefundState.IN_FLIGHT, is_unclear).order_by(t.c.id).limit(limit)
        return read_rows(self._connection, t, statement, to_refund)

    def count_stuck(self) -> int:
        """How many refunds in flight Strike's answers can no longer resolve."""
        return int(self._connection.execute(_COUNT_STUCK).scalar_one())

    # Verbs of the claim's holder. Each returns None if the row has changed since the caller read it.
    # Those that end an attempt restore the caller's requests: a definite refusal leaves no quote under the key.

    def claim(self, refund: Refund, until: datetime) -> Refund | None:
        """Claim a refund until `until`. None also if another process was faster, or is changing it just now."""
        return self._change(refund, {"claims": refund.claims + 1, "claimed_until": until}, is_waiting=False)

    def release(self, refund: Refund) -> Refund | None:
        """Release a claim and change nothing else."""
        return self._change(refund, {"claimed_until": None})

    def start_over(self, refund: Refund, key: RefundKey) -> Refund | None:
        """Move to REQUESTED, under `key` and without a quote. Only if it is certain that nothing was sent."""
        return self._move(refund, RefundState.REQUESTED, {**NOTHING_SENT, **key_values(key)})

    def ask(self, refund: Refund, at: datetime) -> Refund | None:
        """Call before asking Strike for a quote: from this commit on, one may exist under the refund's key."""
        return self._change(refund, {"asked_at": at, "unanswered_quotes": refund.unanswered_quotes + 1})

    def store_quote(self, refund: Refund, payment_quote_id: str, fee_sats: int) -> Refund | None:
        """Move to QUOTED: store the fee, and the id under which the refund can be sent."""
        return self._move(refund, RefundState.QUOTED, {"payment_quote_id": payment_quote_id, "fee_sats": fee_sats})

    def start(self, refund: Refund, at: datetime) -> Refund | None:
        """Move to IN_FLIGHT: from this commit on, the money may have been sent."""
        values = {"is_in_doubt": True, "started_at": at, "executed_at": at, "looks": 0}
        return self._move(refund, RefundState.IN_FLIGHT, values)

    def doubt(self, refund: Refund, executed_at: datetime | None) -> Refund | None:
        """Call before executing a quote again: from this commit on, this execution may have reached Strike too."""
        return self._change(refund, {"is_in_doubt": True, "executed_at": executed_at})

    def put_off(
        self,
        refund: Refund,
        next_attempt_at: datetime,
        *,
        looks: int,
        reason: str,
        is_in_doubt: bool,
        stuck_at: datetime | None,
    ) -> Refund | None:
        """Keep the state, check again at `next_attempt_at`, and release the claim."""
        return self._change(
            refund,
            {
                "next_attempt_at": next_attempt_at,
                "looks": looks,
                "reason": reason,
                "is_in_doubt": is_in_doubt,
                "stuck_at": stuck_at,
                **request_values(refund),
                "claimed_until": None,
            },
        )

    def fail(self, refund: Refund, next_attempt_at: datetime, reason: str) -> Refund | None:
        """Move to FAILED: it was definitely not sent. Retried at `next_attempt_at`."""
        values = {
            "reason": reason,
            "failures": refund.failures + 1,
            **request_values(refund),
            "next_attempt_at": next_attempt_at,
            "stuck_at": None,
            "claimed_until": None,
        }
        return self._move(refund, RefundState.FAILED, values)

    def hold(self, refund: Refund, hold: Hold) -> Refund | None:
        """Move to HELD: it needs the operator's approval."""
        values = {"held_because": hold.cause, "reason": hold.reason, "claimed_until": None}
        return self._move(refund, RefundState.HELD, values)

    def ask_for_address(self, refund: Refund, reason: str, claim_expires_at: datetime | None = None) -> Refund | None:
        """Move to NEEDS_ADDRESS: it is sent once it has one.

        claim_expires_at: when it is withdrawn if it has none by then; None: never. A time that it has already stays.
        """
        values = {
            "reason": reason,
            **request_values(refund),
            "claimed_until": None,
            "claim_expires_at": refund.claim_expires_at or claim_expires_at,
        }
        return self._move(refund, RefundState.NEEDS_ADDRESS, values)

    # Verbs of operator and customer. They increment `claims`, so that a worker with the old claim can change nothing.

    def fail_by_hand(self, refund: Refund) -> Refund | None:
        """Move IN_FLIGHT to FAILED, because the operator has confirmed that it was not sent."""
        return self._move(refund, RefundState.FAILED, {"claims": refund.claims + 1, "stuck_at": None})

    def restart(
        self, refund: Refund, key: RefundKey, at: datetime, *, address: str | None, approved_at: datetime | None
    ) -> Refund | None:
        """Move to REQUESTED, due now, for `address`. This counts as a request, so it is sent however small it is."""
        values = {
            **NOTHING_SENT,
            **key_values(key),
            "address": address,
            "approved_at": approved_at,
            "wanted_at": at,
            "failures": 0,
            "claims": refund.claims + 1,
            "claimed_until": None,
            "next_attempt_at": at,
            "reason": None,
        }
        return self._move(refund, RefundState.REQUESTED, values)

    def close_by_hand(self, refund: Refund, at: datetime, reason: str) -> Refund | None:
        """Move to SENT, because the operator has confirmed that the customer has the money."""
        values = {
            "sent_at": at,
            "reason": reason,
            "closed_by": Closer.OPERATOR,
            "claims": refund.claims + 1,
            "claimed_until": None,
            "stuck_at": None,
            "held_because": None,
        }
        return self._move(refund, RefundState.SENT, values)

    # Verbs of a restore, which invalidates earlier approvals and claims.

    def hold_after_restore(self, refund: Refund, hold: Hold) -> Refund | None:
        """Move to HELD, or replace the reason if it is held already."""
        values = {"held_because": hold.cause, "reason": hold.reason, "claimed_until": None, "approved_at": None}
        return (
            self._change(refund, values)
            if refund.state is RefundState.HELD
            else self._move(refund, RefundState.HELD, values)
        )

    def withdraw_approval(self, refund: Refund) -> Refund | None:
        """Require a new approval before it is sent."""
        return self._change(refund, {"approved_at": None})

    def rest_until(self, refund: Refund, next_attempt_at: datetime) -> Refund | None:
        """Require a new approval, and do nothing before `next_attempt_at`."""
        values = {"next_attempt_at": next_attempt_at, "claimed_until": None, "approved_at": None}
        return self._change(refund, values)

    def _move(self, refund: Refund, new: RefundState, values: dict[str, Any]) -> Refund | None:
        check_refund_move(refund.state, new)
        return self._change(refund, {**values, "state": new})

    def _change(self, refund: Refund, values: dict[str, Any], *, is_waiting: bool = True) -> Refund | None:
        """is_waiting: while another transaction changes the row; otherwise None then."""
        is_as_read = and_(t.c.id == refund.id, t.c.state == refund.state, t.c.claims == refund.claims)
        which = is_as_read if is_waiting else unless_locked(self._connection, t, is_as_read)
        if self._connection.execute(update(t).where(which).values(values)).rowcount != 1:
            return None
        return dataclasses.replace(refund, **values)

    # Evidence from Strike, which counts no matter who holds the claim.

    def quote_not_ours(self, refund: Refund) -> Refund | None:
        """Strike answered one request under the refund's key with DUPLICATE, so that request created no quote.

        Returns the refund as it is now; None if it has moved on: another key, or a quote.
        """
        is_same = (t.c.id == refund.id) & (t.c.idempotency_key == refund.idempotency_key)
        statement = update(t).where(is_same, t.c.payment_quote_id.is_(None), t.c.unanswered_quotes > 0)
        if self._connection.execute(statement.values(unanswered_quotes=t.c.unanswered_quotes - 1)).rowcount != 1:
            return None
        return self.find(refund.id)

    def see_payment(self, refund: Refund, payment_id: str) -> None:
        """Store which payment a quote became, no matter who holds the claim: it is evidence."""
        statement = update(t).where(t.c.id == refund.id, t.c.payment_quote_id == refund.payment_quote_id)
        self._connection.execute(statement.values(payment_id=payment_id, stuck_at=None))

    def mark_sent(
        self, refund: Refund, at: datetime, payment_id: str | None, closed_by: Closer = Closer.STRIKE
    ) -> bool:
        """Move to SENT, as Strike confirmed, no matter who holds the claim. False if that was known."""
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
                closed_by=closed_by,
                stuck_at=None,
                claimed_until=None,
                payment_id=func.coalesce(payment_id, t.c.payment_id),
            )
        )
        return self._connection.execute(statement).rowcount == 1

    def started_sats(self, since: datetime) -> int:
        """The sats that were sent, or may have been, since `since`, fees included.

        No other process can start a refund before our commit, so the daily limit holds across processes.
        """
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DAILY_LIMIT_LOCK})
        is_counted = (t.c.started_at >= since) & t.c.state.in_((RefundState.IN_FLIGHT, RefundState.SENT))
        statement = select(sum_of(t.c.amount_sats) + sum_of(t.c.fee_sats)).where(is_counted)
        return int(self._connection.execute(statement).scalar_one())

    def read_through(self, newest: int) -> None:
        """Read the newest refunds, every one that is not sent, and their history, to learn which cannot be read."""
        a = refund_attempts
        read_rows(self._connection, t, select(t).order_by(t.c.id.desc()).limit(newest), to_refund)
        read_rows(self._connection, t, select(t).where(t.c.state.in_(OPEN_REFUNDS)), to_refund)
        read_rows(self._connection, a, select(a).order_by(a.c.id.desc()).limit(newest), to_attempt)
