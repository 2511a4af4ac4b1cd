"""Invoices of the Greenfield API: options of the payment page, and when the shop marked one as invalid."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_MARKED = "marked_invalid_at IS NOT NULL"
_SEEN = "seen_at IS NOT NULL AND state NOT IN ('settled', 'paid_late')"


def upgrade() -> None:
    """Add what Greenfield clients send with an invoice, and when one was given up."""
    op.add_column("invoices", sa.Column("checkout_options", sa.Text))
    op.add_column("invoices", sa.Column("marked_invalid_at", sa.DateTime(timezone=True)))
    for name, condition in (("ix_invoices_marked_invalid", _MARKED), ("ix_invoices_seen", _SEEN)):
        where = sa.text(condition)
        op.create_index(name, "invoices", ["opened_at"], sqlite_where=where, postgresql_where=where)
