"""The append-only history of refunds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select

from lnpay.domain.model import Refund, RefundAttempt
from lnpay.domain.states import RefundStep
from lnpay.repository.records.refunds import to_attempt
from lnpay.repository.sql import read_rows, to_moment
from lnpay.repository.tables import refund_attempts


class RefundHistory:
    """Queries about the history of refunds inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(
        self,
        refund: Refund,
        at: datetime,
        step: RefundStep,
        outcome: str,
        *,
        strike_code: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Add a row to a refund's history."""
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
            "state": refund.state,
        }
        self._connection.execute(insert(refund_attempts).values(values))

    def addresses_given(self, refund: Refund, limit: int) -> list[datetime]:
        """When the customer entered addresses for a refund, newest first."""
        a = refund_attempts
        statement = (
            select(a.c.at.label("moment"))
            .where(a.c.refund_id == refund.id, a.c.step == RefundStep.CUSTOMER)
            .order_by(a.c.id.desc())
            .limit(limit)
        )
        return read_rows(self._connection, a, statement, to_moment)

    def history(self, refund: Refund) -> list[RefundAttempt]:
        """A refund's history, in order."""
        a = refund_attempts
        statement = select(a).where(a.c.refund_id == refund.id).order_by(a.c.id)
        return read_rows(self._connection, a, statement, to_attempt)
