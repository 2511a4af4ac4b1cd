"""The bulk of old invoices moves into an archive."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the time of moving. Nothing is archived so far.

    Code of earlier versions can use the tables until the first invoice is archived.
    """
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "invoice_archive",
        sa.Column("invoice_id", big, sa.ForeignKey("invoices.id"), nullable=False, autoincrement=False),
        sa.Column("form", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("archived_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("invoice_id"),
    )
    op.create_table(
        "archive_totals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("invoices", sa.BigInteger(), nullable=False),
        sa.Column("source_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kept_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id = 1", name="ck_archive_totals_is_one"),
    )
    op.add_column("invoices", sa.Column("archived_at", moment))
    where = sa.text("paid_at IS NOT NULL AND archived_at IS NULL")
    op.create_index("ix_invoices_to_archive", "invoices", ["paid_at"], sqlite_where=where, postgresql_where=where)
