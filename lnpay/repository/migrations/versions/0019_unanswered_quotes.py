"""How many requests for a quote of a refund have no known answer."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. A request that an older version made may be unanswered."""
    column = sa.Column("unanswered_quotes", sa.Integer(), nullable=False, server_default="0")
    op.add_column("refunds", column)
    op.get_bind().execute(sa.text("UPDATE refunds SET unanswered_quotes = 1 WHERE asked_at IS NOT NULL"))
