"""A message may be sent to an endpoint again as another one, and the status that answered it is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and let redeliveries be as many as are asked for. No message so far is one."""
    op.add_column("deliveries", sa.Column("last_status", sa.Integer()))
    op.add_column("deliveries", sa.Column("original_id", sa.BigInteger()))
    op.add_column("deliveries", sa.Column("place", sa.BigInteger()))
    op.drop_index("uq_deliveries_invoice_id_endpoint_id_event_type", "deliveries")
    where = sa.text("original_id IS NULL")
    op.create_index(
        "uq_deliveries_invoice_id_endpoint_id_event_type", "deliveries",
        ["invoice_id", "endpoint_id", "event_type", "refund_id"], unique=True,
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    # The unique index no longer serves a question about every message of an invoice.
    op.create_index("ix_deliveries_invoice_id_endpoint_id", "deliveries", ["invoice_id", "endpoint_id"])
    where = sa.text("endpoint_id IS NOT NULL")
    op.create_index(
        "ix_deliveries_endpoint_id", "deliveries", ["endpoint_id", "id"],
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
