"""Since when each worker has been in trouble, and how many rows its last pass could not read."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they are filled by the next pass."""
    op.add_column("heartbeats", sa.Column("troubled_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("heartbeats", sa.Column("unreadable", sa.Integer(), nullable=False, server_default="0"))
