"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table of the first version."""
    op.create_table(
        "invoices",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("correlation_id", sa.String(length=40), nullable=False),
        sa.Column("strike_correlation_id", sa.String(length=40), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("amount_fiat", sa.Text(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("ln_address", sa.Text(), nullable=True),
        sa.Column("return_url", sa.Text(), nullable=True),
        sa.Column("retry_url", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("amount_sats", sa.BigInteger(), nullable=False),
        sa.Column("rate_price", sa.Text(), nullable=False),
        sa.Column("rate_source", sa.String(length=20), nullable=False),
        sa.Column("rate_as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("strike_invoice_id", sa.String(length=64), nullable=True),
        sa.Column("bolt11", sa.Text(), nullable=True),
        sa.Column("payment_hash", sa.String(length=64), nullable=True),
        sa.Column("strike_invoice", sa.Text(), nullable=True),
        sa.Column("strike_quote", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payable_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_sats", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(paid_at IS NULL) = (received_sats IS NULL) AND (state = 'settled') = (settled_at IS NOT NULL)",
            name="ck_invoices_paid_has_amount",
        ),
        sa.CheckConstraint(
            "(state IN ('settled', 'paid_late')) = (paid_at IS NOT NULL)", name="ck_invoices_paid_has_time"
        ),
        sa.CheckConstraint(
            "state IN ('unpaid', 'settled', 'expired', 'paid_late', 'lapsed')", name="ck_invoices_state_known"
        ),
        sa.CheckConstraint("strike_invoice_id IS NOT NULL OR state = 'unpaid'", name="ck_invoices_draft_unpaid"),
        sa.CheckConstraint(
            "((bolt11 IS NULL) = (strike_invoice_id IS NULL)) AND ((payment_hash IS NULL) = (strike_invoice_id IS NULL)) AND ((strike_invoice IS NULL) = (strike_invoice_id IS NULL)) AND ((strike_quote IS NULL) = (strike_invoice_id IS NULL)) AND ((opened_at IS NULL) = (strike_invoice_id IS NULL)) AND ((expires_at IS NULL) = (strike_invoice_id IS NULL)) AND ((payable_until IS NULL) = (strike_invoice_id IS NULL))",
            name="ck_invoices_issued_at_once",
        ),
        sa.CheckConstraint("amount_sats > 0", name="ck_invoices_amount_positive"),
        sa.CheckConstraint("received_sats > 0", name="ck_invoices_received_positive"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("correlation_id"),
        sa.UniqueConstraint("strike_invoice_id"),
        sa.UniqueConstraint("token"),
    )
    op.create_index("ix_invoices_state_checked_at", "invoices", ["state", "checked_at"], unique=False)
    op.create_index("ix_invoices_state_expires_at", "invoices", ["state", "expires_at"], unique=False)
    op.create_index("ix_invoices_state_opened_at", "invoices", ["state", "opened_at"], unique=False)
    op.create_index("ix_invoices_state_payable_until", "invoices", ["state", "payable_until"], unique=False)
    op.create_table(
        "milestones",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "provider_blocks",
        sa.Column("bucket", sa.String(length=30), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )
    op.create_table(
        "provider_calls",
        sa.Column("bucket", sa.String(length=30), nullable=False),
        sa.Column("slot_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "slot_at"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("webhook_id", sa.String(length=64), nullable=False),
        sa.Column("invoice_id", BIG_ID, nullable=False),
        sa.Column("event_type", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="ck_deliveries_delivered_at"),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'abandoned')", name="ck_deliveries_state_known"),
        sa.ForeignKeyConstraint(
            ["invoice_id"],
            ["invoices.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("webhook_id"),
    )
    op.create_index("ix_deliveries_state_next_attempt_at", "deliveries", ["state", "next_attempt_at"], unique=False)
    op.create_index("uq_deliveries_invoice_id_event_type", "deliveries", ["invoice_id", "event_type"], unique=True)
    op.create_table(
        "refunds",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("invoice_id", BIG_ID, nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=15), nullable=False),
        sa.Column("amount_sats", sa.BigInteger(), nullable=False),
        sa.Column("received_sats", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=36), nullable=False),
        sa.Column("payment_quote_id", sa.String(length=64), nullable=True),
        sa.Column("fee_sats", sa.BigInteger(), nullable=True),
        sa.Column("is_in_doubt", sa.Boolean(), nullable=False),
        sa.Column("payment_id", sa.String(length=64), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="ck_refunds_sent_at"),
        sa.CheckConstraint("address IS NOT NULL OR state IN ('needs_address', 'sent')", name="ck_refunds_has_address"),
        sa.CheckConstraint(
            "state IN ('requested', 'quoted', 'in_flight', 'sent', 'failed', 'needs_address', 'held')",
            name="ck_refunds_state_known",
        ),
        sa.CheckConstraint(
            "state NOT IN ('quoted', 'in_flight') OR (payment_quote_id IS NOT NULL AND fee_sats IS NOT NULL)",
            name="ck_refunds_quote_before_execute",
        ),
        sa.CheckConstraint("amount_sats <= received_sats", name="ck_refunds_never_more_than_received"),
        sa.CheckConstraint("amount_sats > 0", name="ck_refunds_amount_positive"),
        sa.CheckConstraint("fee_sats >= 0", name="ck_refunds_fee_not_negative"),
        sa.ForeignKeyConstraint(
            ["invoice_id"],
            ["invoices.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key"),
        sa.UniqueConstraint("invoice_id"),
        sa.UniqueConstraint("payment_id"),
        sa.UniqueConstraint("payment_quote_id"),
        sa.UniqueConstraint("token"),
    )
    op.create_index("ix_refunds_started_at", "refunds", ["started_at"], unique=False)
    op.create_index("ix_refunds_state_next_attempt_at", "refunds", ["state", "next_attempt_at"], unique=False)
    op.create_table(
        "refund_attempts",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("refund_id", BIG_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=36), nullable=False),
        sa.Column("payment_quote_id", sa.String(length=64), nullable=True),
        sa.Column("fee_sats", sa.BigInteger(), nullable=True),
        sa.Column("payment_id", sa.String(length=64), nullable=True),
        sa.Column("strike_code", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["refund_id"],
            ["refunds.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_refund_attempts_refund_id"), "refund_attempts", ["refund_id"], unique=False)
