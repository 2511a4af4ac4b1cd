"""Indexes for the operator's lists, searches and reports; and who has tried to log in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indexes and the table."""
    op.create_index("ix_invoices_opened_at", "invoices", ["opened_at"])
    op.create_index("ix_invoices_payment_hash", "invoices", ["payment_hash"])
    _create_index_where("length(ln_address) <= 320", "ix_invoices_ln_address", "invoices", ["ln_address", "opened_at"])
    _create_index_where(
        "paid_at IS NOT NULL", "ix_invoices_paid_at", "invoices", ["paid_at", "id", "state", "received_sats"]
    )
    op.create_index("ix_refunds_address", "refunds", ["address"])
    _create_index_where("sent_at IS NOT NULL", "ix_refunds_sent_at", "refunds", ["sent_at", "id", "amount_sats"])
    op.create_table(
        "login_tries",
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("wrong", sa.Integer(), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("who"),
    )


def _create_index_where(condition: str, name: str, table: str, columns: list[str]) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
