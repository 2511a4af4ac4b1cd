"""Refunds of a state and kind are listed from an index, however many there are."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_refunds_state_kind_id", "refunds", ["state", "kind", "id"])
