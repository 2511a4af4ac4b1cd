"""What this database calls itself in the names of its invoices at Strike."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; its row is written with the first order."""
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=10), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_installation_is_one"),
        sa.PrimaryKeyConstraint("id"),
    )
