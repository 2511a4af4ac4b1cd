"""A cancelled invoice gives its correlation_id to the next one, and keeps it for display."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep what the shop calls an invoice that has given its correlation_id away."""
    op.add_column("invoices", sa.Column("former_correlation_id", sa.String(40)))
