"""Rows of refunds: one per invoice, ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from lnpay.model import Refund
from lnpay.repository.rows import insert_unless_there
from lnpay.repository.tables import refunds as t
from lnpay.states import RefundState


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

    def find_by_invoice(self, invoice_id: int) -> Refund | None:
        """The refund of an invoice, if one is owed."""
        row = self._connection.execute(select(t).where(t.c.invoice_id == invoice_id)).one_or_none()
        if row is None:
            return None
        return Refund(
            row.id,
            row.invoice_id,
            row.token,
            RefundState(row.state),
            row.amount_sats,
            row.address,
            row.idempotency_key,
            row.created_at,
        )
