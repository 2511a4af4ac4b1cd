"""Invoices may be paid by a receive request of Strike's, whose payments are rows of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

oldest_code = "0024"
"""Earlier code would end an invoice without asking whether its receive request was paid."""


def upgrade() -> None:
    """Add the columns and the table. Every invoice so far is paid by an invoice of Strike's."""
    moment = sa.DateTime(timezone=True)
    way = sa.Column("receive_with", sa.String(length=20), nullable=False, server_default="invoice")
    texts = {"target_currency": sa.String(length=10), "credited_amount": sa.Text()}
    texts |= {"credited_currency": sa.String(length=20), "conversion_rate": sa.Text()}
    for column in (way, *(sa.Column(name, kind) for name, kind in texts.items())):
        op.add_column("invoices", column)
    op.create_table(
        "receives",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("invoice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("receive_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("amount_sats", sa.BigInteger(), nullable=False),
        sa.Column("owed_sats", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("received_amount", sa.Text(), nullable=False),
        sa.Column("received_currency", sa.String(length=20), nullable=False),
        sa.Column("credited_amount", sa.Text()),
        sa.Column("credited_currency", sa.String(length=20)),
        sa.Column("conversion_rate", sa.Text()),
        sa.Column("payment_hash", sa.String(length=64)),
        sa.Column("paid_at", moment, nullable=False),
        sa.Column("noticed_at", moment, nullable=False),
        sa.CheckConstraint("amount_sats > 0", name="ck_receives_amount_positive"),
        sa.CheckConstraint(
            "owed_sats >= 0 AND owed_sats <= amount_sats", name="ck_receives_never_more_owed_than_received"
        ),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("receive_id"),
    )
    op.create_index("ix_receives_invoice_id", "receives", ["invoice_id"])
