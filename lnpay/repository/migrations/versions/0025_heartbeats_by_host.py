"""When each worker last made a pass on each host."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. `heartbeats` stays as it is, for workers and servers of an earlier version."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "host_heartbeats",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("worker", sa.String(length=20), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("ended_at", moment, nullable=False),
        sa.Column("trouble", sa.Text()),
        sa.Column("troubled_since", moment),
        sa.Column("unreadable", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("worker", "host"),
    )
