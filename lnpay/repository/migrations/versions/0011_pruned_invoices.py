"""Add tables for what remains of unpaid invoices that are deleted after a long time."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables."""
    moment = sa.DateTime(timezone=True)
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "pruned_invoices",
        sa.Column("strike_invoice_id", sa.String(length=64), nullable=False),
        sa.Column("correlation_id", sa.String(length=40), nullable=False),
        sa.Column("order_id", sa.String(length=40), nullable=True),
        sa.Column("amount_sats", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount_fiat", sa.Text(), nullable=False),
        sa.Column("opened_at", moment, nullable=False),
        sa.Column("pruned_at", moment, nullable=False),
        sa.Column("found_paid_at", moment, nullable=True),
        sa.Column("received_sats", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("strike_invoice_id"),
    )
    where = sa.text("found_paid_at IS NOT NULL")
    op.create_index(
        "ix_pruned_invoices_found_paid_at", "pruned_invoices", ["found_paid_at"],
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    op.create_table(
        "pruned_totals",
        sa.Column("id", number, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("invoices", sa.Integer(), nullable=False),
        sa.Column("amount_sats", sa.Text(), nullable=False),
        sa.Column("amount_fiat", sa.Text(), nullable=False),
        sa.Column("pruned_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("invoices > 0", name="ck_pruned_totals_some"),
    )
    op.create_index("ix_pruned_totals_day", "pruned_totals", ["day"])
