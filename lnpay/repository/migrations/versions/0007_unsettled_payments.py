"""Payments that Strike lists and that could not be settled."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index."""
    op.add_column("invoices", sa.Column("listed_paid_at", sa.DateTime(timezone=True)))
    where = sa.text("listed_paid_at IS NOT NULL")
    op.create_index(
        "ix_invoices_listed_paid_at", "invoices", ["listed_paid_at"], sqlite_where=where, postgresql_where=where
    )
