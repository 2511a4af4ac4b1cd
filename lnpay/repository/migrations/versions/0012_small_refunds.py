"""Since when a refund is asked for: small ones wait for that."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("refunds", sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=True))
