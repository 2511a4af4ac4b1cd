"""The shop's order, which may have several attempts: each is an invoice with a correlation id of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Invoices without it are the only attempt of their order."""
    op.add_column("invoices", sa.Column("order_id", sa.String(length=40), nullable=True))
    where = sa.text("order_id IS NOT NULL")
    op.create_index("ix_invoices_order_id", "invoices", ["order_id"], sqlite_where=where, postgresql_where=where)
