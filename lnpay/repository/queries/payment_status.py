"""The status of many payments at once: the few columns that open payment pages poll for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from lnpay.domain.model import Invoice
from lnpay.domain.money import MSATS_PER_SAT, sats_to_msats
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import PAYABLE, HoldCause, InvoiceState, RefundKind, RefundState
from lnpay.domain.text import is_printable_ascii
from lnpay.repository.records.invoices import to_amount
from lnpay.repository.sql import checked, read_rows
from lnpay.repository.tables import invoices, receives, refunds

BATCH = 500
"""Tokens in one query; every database takes so many."""


@dataclass(frozen=True)
class PaymentStatus:
    """The status of one payment. seen_at: when Strike saw money that is not final. held_because: why its refund waits.

    amount_sats: the price. partial_sats: what a receive request received in time, if less than the price; else 0.
    """

    state: InvoiceState
    seen_at: datetime | None
    expires_at: datetime
    refund_state: RefundState | None
    held_because: HoldCause | None = None
    amount_sats: int = 0
    partial_sats: int = 0


class PaymentStatuses:
    """Queries about many payments inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def by_token(self, tokens: Iterable[str]) -> dict[str, PaymentStatus]:
        """The status for each of these checkout tokens that exists."""
        # The tokens come from URLs, and PostgreSQL raises an error for a NUL. No token of ours has one.
        wanted = [token for token in tokens if is_printable_ascii(token)]
        found: dict[str, PaymentStatus] = {}
        for start in range(0, len(wanted), BATCH):
            found.update(self._batch(wanted[start : start + BATCH]))
        return found

    def partial_sats(self, invoice: Invoice) -> int:
        """The part of its price that an unpaid invoice has received in time."""
        is_request = invoice.issue.receive_with is ReceiveWith.RECEIVE_REQUEST
        return self._partial([invoice.id]).get(invoice.id, 0) if is_request and invoice.state in PAYABLE else 0

    def _batch(self, tokens: list[str]) -> dict[str, PaymentStatus]:
        i, r = invoices.c, refunds.c
        columns = (i.id, i.token, i.state, i.seen_at, i.expires_at, i.amount_sats, i.receive_with)
        statement = (
            select(*columns, r.state.label("refund_state"), r.held_because)
            .select_from(invoices.outerjoin(refunds, (r.invoice_id == i.id) & (r.kind == RefundKind.LATE)))
            .where(i.token.in_(tokens), i.strike_invoice_id.is_not(None))
        )
        found = read_rows(self._connection, invoices, statement, _to_status)
        # Only these can be paid in part; no other poll costs a second query.
        open_requests = [one.invoice_id for one in found if one.is_request and one.status.state in PAYABLE]
        partial = self._partial(open_requests) if open_requests else {}
        return {one.token: replace(one.status, partial_sats=partial.get(one.invoice_id, 0)) for one in found}

    def _partial(self, invoice_ids: list[int]) -> dict[int, int]:
        r, i = receives.c, invoices.c
        statement = (
            select(r.invoice_id, r.amount_sats, r.received_amount, r.received_currency)
            .select_from(receives.join(invoices, r.invoice_id == i.id))
            .where(r.invoice_id.in_(invoice_ids), r.paid_at <= i.expires_at)
        )
        sums: dict[int, int] = {}
        # Added up here: SQLite would also add values that are not numbers, and PostgreSQL could overflow.
        for part in read_rows(self._connection, receives, statement, _to_part):
            sums[part.invoice_id] = sums.get(part.invoice_id, 0) + part.msats
        # Whole sats, as they count: the customer pays what the page says is missing.
        return {invoice_id: msats // MSATS_PER_SAT for invoice_id, msats in sums.items()}


@dataclass(frozen=True)
class _Part:
    invoice_id: int
    msats: int


@dataclass(frozen=True)
class _Found:
    invoice_id: int
    token: str
    is_request: bool
    status: PaymentStatus


def _to_part(row: Row[Any]) -> _Part:
    received = to_amount(row.received_amount, row.received_currency)
    msats = None if received is None else received.msats
    return checked(_Part(row.invoice_id, sats_to_msats(row.amount_sats) if msats is None else msats))


def _to_status(row: Row[Any]) -> _Found:
    refund_state = None if row.refund_state is None else RefundState(row.refund_state)
    held_because = None if row.held_because is None else HoldCause(row.held_because)
    status = PaymentStatus(
        InvoiceState(row.state), row.seen_at, row.expires_at, refund_state, held_because, row.amount_sats
    )
    return checked(_Found(row.id, row.token, row.receive_with == ReceiveWith.RECEIVE_REQUEST, checked(status)))
