"""API keys, and the store id that Greenfield clients know this installation by."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the column. The store id is written when the first key is created."""
    op.add_column("installation", sa.Column("store_id", sa.String(40)))
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("made_for", sa.String(length=20), nullable=False),
        sa.Column("application_id", sa.String(length=200)),
        sa.Column("redirect_host", sa.String(length=260)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "made_for IN ('woocommerce', 'prestashop', 'magento', 'custom')", name="ck_api_keys_made_for_known"
        ),
        sa.CheckConstraint("length(key_hash) = 64", name="ck_api_keys_key_hash_is_sha256"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
