"""Where payments stand, many at once: the little that a customer's open page wants to know again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from lnpay.domain.states import HoldCause, InvoiceState, RefundKind, RefundState
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.sql import checked, read_rows
from lnpay.repository.tables import invoices, refunds

BATCH = 500
"""Tokens in one query; every database takes so many."""


@dataclass(frozen=True)
class PaymentStatus:
    """Where one payment stands. seen_at: Strike saw money that is not final yet. held_because: why its refund waits."""

    state: InvoiceState
    seen_at: datetime | None
    expires_at: datetime
    refund_state: RefundState | None
    held_because: HoldCause | None = None


class PaymentStatuses:
    """Queries about many payments inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def by_token(self, tokens: Iterable[str]) -> dict[str, PaymentStatus]:
        """The status behind each checkout token that is one."""
        # The tokens come from URLs, and PostgreSQL raises an error for a NUL. No token of ours has one.
        wanted = [token for token in tokens if is_printable_ascii(token)]
        found: dict[str, PaymentStatus] = {}
        for start in range(0, len(wanted), BATCH):
            found.update(self._batch(wanted[start : start + BATCH]))
        return found

    def _batch(self, tokens: list[str]) -> dict[str, PaymentStatus]:
        i, r = invoices.c, refunds.c
        statement = (
            select(i.token, i.state, i.seen_at, i.expires_at, r.state.label("refund_state"), r.held_because)
            .select_from(invoices.outerjoin(refunds, (r.invoice_id == i.id) & (r.kind == RefundKind.LATE)))
            .where(i.token.in_(tokens), i.strike_invoice_id.is_not(None))
        )
        return dict(read_rows(self._connection, invoices, statement, _to_status))


def _to_status(row: Row[Any]) -> tuple[str, PaymentStatus]:
    refund_state = None if row.refund_state is None else RefundState(row.refund_state)
    held_because = None if row.held_because is None else HoldCause(row.held_because)
    status = PaymentStatus(InvoiceState(row.state), row.seen_at, row.expires_at, refund_state, held_because)
    return row.token, checked(status)
