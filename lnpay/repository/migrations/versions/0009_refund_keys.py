"""Which keys of a refund were used, and since when a copy, or a backup, has been the database."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KNOWN_RESTORE = """
INSERT INTO restores (noticed_at, cause, copied_at, last_invoice_id)
SELECT m.reached_at, 'restored', (SELECT c.reached_at FROM milestones c WHERE c.name = 'copied'),
    (SELECT COALESCE(MAX(i.id), 0) FROM invoices i WHERE i.created_at <= m.reached_at)
FROM milestones m WHERE m.name = 'restored'
"""
"""A restore that an older version has noticed: it covers the orders from before it."""


def upgrade() -> None:
    """Add the columns and the table. Refunds that are owed keep the keys they have, as number 0."""
    moment = sa.DateTime(timezone=True)
    op.add_column("refunds", sa.Column("key_number", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("refunds", sa.Column("asked_at", moment, nullable=True))
    # What is not sent may have been asked about: versions before this one did not store it.
    op.get_bind().execute(
        sa.text(
            "UPDATE refunds SET asked_at = next_attempt_at WHERE state IN ('requested', 'failed', 'needs_address', 'held')"
        )
    )
    op.create_table(
        "restores",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("noticed_at", moment, nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("copied_at", moment, nullable=True),
        sa.Column("last_invoice_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_invoices_strike_correlation_id", "invoices", ["strike_correlation_id"])
    op.get_bind().execute(sa.text(KNOWN_RESTORE))
