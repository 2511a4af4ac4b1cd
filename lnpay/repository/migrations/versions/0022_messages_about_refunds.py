"""An invoice may have several refunds, each with messages of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the refund that a message is about, and make messages unique for each."""
    op.add_column("deliveries", sa.Column("refund_id", sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_index("uq_deliveries_invoice_id_event_type", "deliveries")
    op.drop_index("uq_deliveries_invoice_id_endpoint_id_event_type", "deliveries")
    where = sa.text("endpoint_id IS NULL")
    op.create_index(
        "uq_deliveries_invoice_id_event_type", "deliveries", ["invoice_id", "event_type", "refund_id"], unique=True,
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    op.create_index(
        "uq_deliveries_invoice_id_endpoint_id_event_type", "deliveries",
        ["invoice_id", "endpoint_id", "event_type", "refund_id"], unique=True,
    )  # fmt: skip
