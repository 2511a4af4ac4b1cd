"""The archive of old invoices: rarely read columns, compressed."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Table

from lnpay.repository.schema.base import BigId, metadata
from lnpay.repository.schema.column_types import UtcDateTime

invoice_archive = Table(
    "invoice_archive",
    metadata,
    Column("invoice_id", BigId, ForeignKey("invoices.id"), primary_key=True, autoincrement=False),
    # The format of the body; see `lnpay.repository.records.archive`.
    Column("form", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # SHA-256 of what was compressed.
    Column("digest", LargeBinary, nullable=False),
    Column("archived_at", UtcDateTime, nullable=False),
)

# Counting millions of archived invoices would take minutes.
archive_totals = Table(
    "archive_totals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("invoices", BigInteger, nullable=False),
    Column("source_bytes", BigInteger, nullable=False),
    Column("kept_bytes", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="ck_archive_totals_is_one"),
)
