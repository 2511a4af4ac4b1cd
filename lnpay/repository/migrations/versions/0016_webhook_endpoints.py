"""Webhook endpoints: addresses that are notified beside the delivery hook, each with messages of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and let a message be for one of its rows. Every message so far is for the delivery hook."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("public_id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("form", sa.String(length=10), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("wants_everything", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("automatic_redelivery", sa.Boolean(), nullable=False),
        sa.Column("set_by", sa.String(length=10), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("deleted_at", moment),
        sa.Column("last_answer_at", moment),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.CheckConstraint("form IN ('standard', 'btcpay')", name="ck_webhook_endpoints_form_known"),
        sa.CheckConstraint("set_by IN ('operator', 'key')", name="ck_webhook_endpoints_set_by_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("public_id"),
    )
    # Alembic adds a foreign key in a statement of its own, which SQLite does not know.
    kind = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(f"ALTER TABLE deliveries ADD COLUMN endpoint_id {kind} REFERENCES webhook_endpoints (id)")
    op.drop_index("uq_deliveries_invoice_id_event_type", "deliveries")
    where = sa.text("endpoint_id IS NULL")
    op.create_index(
        "uq_deliveries_invoice_id_event_type", "deliveries", ["invoice_id", "event_type"], unique=True,
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    op.create_index(
        "uq_deliveries_invoice_id_endpoint_id_event_type", "deliveries", ["invoice_id", "endpoint_id", "event_type"],
        unique=True,
    )  # fmt: skip
