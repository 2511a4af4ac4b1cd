"""Settled invoices are listed from an index alone, however many stand before the page."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    where = sa.text("state = 'settled' AND accepted_by IS NULL")
    op.create_index(
        "ix_invoices_settled_in_time",
        "invoices",
        ["state", "opened_at", "id"],
        sqlite_where=where,
        postgresql_where=where,
    )
