"""The price that one server has read serves all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "shared_prices",
        sa.Column("currency", sa.String(length=10), nullable=False),
        sa.Column("price", sa.Text()),
        sa.Column("source", sa.String(length=20)),
        sa.Column("as_of", moment),
        sa.Column("spread", sa.Text()),
        sa.Column("is_usable", sa.Boolean(), nullable=False),
        sa.Column("true_at", moment),
        sa.Column("read_at", moment),
        sa.Column("machine_read_at", moment),
        sa.Column("claimed_until", moment),
        sa.PrimaryKeyConstraint("currency"),
    )
