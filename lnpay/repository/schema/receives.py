"""Receives: single payments of receive requests."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, String, Table

from lnpay.repository.schema.base import BigId, metadata
from lnpay.repository.schema.column_types import ExactDecimal, UtcDateTime, WholeSats

receives = Table(
    "receives",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("invoice_id", ForeignKey("invoices.id"), nullable=False, index=True),
    # Strike's id of the payment, so that one that is reported twice counts once.
    Column("receive_id", String(64), nullable=False, unique=True),
    Column("kind", String(20), nullable=False),
    Column("amount_sats", WholeSats, nullable=False),
    # The part that does not pay for the order and is owed back.
    Column("owed_sats", WholeSats, nullable=False, default=0, server_default="0"),
    # As reported by Strike.
    Column("received_amount", ExactDecimal, nullable=False),
    Column("received_currency", String(20), nullable=False),
    Column("credited_amount", ExactDecimal),
    Column("credited_currency", String(20)),
    Column("conversion_rate", ExactDecimal),
    Column("payment_hash", String(64)),
    Column("paid_at", UtcDateTime, nullable=False),
    Column("noticed_at", UtcDateTime, nullable=False),
    CheckConstraint("amount_sats > 0", name="ck_receives_amount_positive"),
    CheckConstraint("owed_sats >= 0 AND owed_sats <= amount_sats", name="ck_receives_never_more_owed_than_received"),
)
