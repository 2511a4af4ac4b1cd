"""The price of bitcoin that servers share."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, String, Table

from lnpay.repository.schema.base import metadata
from lnpay.repository.schema.column_types import ExactDecimal, UtcDateTime

shared_prices = Table(
    "shared_prices",
    metadata,
    Column("currency", String(10), primary_key=True),
    # The last accepted price; it is kept for comparison when the sources disagree later.
    Column("price", ExactDecimal),
    Column("source", String(20)),
    # Its time by the clock of the server that read it.
    Column("as_of", UtcDateTime),
    # How far apart two sources were, as a part of the lower price; NULL: one answered alone.
    Column("spread", ExactDecimal),
    Column("is_usable", Boolean, nullable=False, default=False),
    # The same by the database's time (`Limits.now`), never later than it was; and when the sources were last asked.
    Column("true_at", UtcDateTime),
    Column("read_at", UtcDateTime),
    # The same moment by the machine's clock: on SQLite the database's time begins again with the machine.
    Column("machine_read_at", UtcDateTime),
    # Until then, one server asks the sources on behalf of all.
    Column("claimed_until", UtcDateTime),
)
