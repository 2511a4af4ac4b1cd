"""The database says from which version on code may use its tables, for servers of two versions side by side."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep it beside the version. What is NULL permits nothing."""
    op.add_column("alembic_version", sa.Column("oldest_code", sa.String(32)))
    op.add_column("alembic_version", sa.Column("oldest_code_of", sa.String(32)))
