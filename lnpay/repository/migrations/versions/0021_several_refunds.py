"""An invoice may have several refunds; together they never exceed what was received, and the database sees to it."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

WITHIN_RECEIVED = (
    "refund_reserved_sats = 0 OR (refund_reserved_sats > 0 AND refund_reserved_sats <= COALESCE(received_sats, 0))"
)

NEW_CHECKS = {
    "ck_refunds_kind_known": "kind IN ('late', 'merchant', 'overpaid')",
    "ck_refunds_canceled_at": "(state = 'canceled') = (canceled_at IS NOT NULL) "
    "AND (canceled_at IS NULL) = (cancel_cause IS NULL)",
    "ck_refunds_request_has_hash": "(request_key IS NULL) = (request_hash IS NULL)",
}

RESERVE = """
UPDATE invoices SET refund_reserved_sats = (
    SELECT CASE
        WHEN SUM(r.amount_sats) > COALESCE(invoices.received_sats, 0) THEN COALESCE(invoices.received_sats, 0)
        ELSE SUM(r.amount_sats) END
    FROM refunds r WHERE r.invoice_id = invoices.id AND r.state <> 'canceled')
WHERE id IN (SELECT invoice_id FROM refunds WHERE state <> 'canceled')
"""
"""Until now every refund was of a late payment. A canceled one is of a payment that the operator accepted."""

CANCELED = "UPDATE refunds SET canceled_at = next_attempt_at, cancel_cause = 'accepted' WHERE state = 'canceled'"
"""The history has the exact time."""

OLD_COLUMNS = (
    "id, invoice_id, token, state, amount_sats, received_sats, address, idempotency_key, payment_quote_id, fee_sats, "
    "is_in_doubt, payment_id, failures, looks, claims, claimed_until, next_attempt_at, reason, approved_at, "
    "started_at, sent_at, created_at, executed_at, stuck_at, held_because, closed_by, key_number, asked_at, wanted_at, "
    "unanswered_quotes"
)

SQLITE_TABLE = f"""
CREATE TABLE refunds (
    id INTEGER NOT NULL,
    invoice_id INTEGER NOT NULL,
    token VARCHAR(64) NOT NULL,
    state VARCHAR(15) NOT NULL,
    amount_sats BIGINT NOT NULL,
    received_sats BIGINT NOT NULL,
    address TEXT,
    idempotency_key VARCHAR(36) NOT NULL,
    payment_quote_id VARCHAR(64),
    fee_sats BIGINT,
    is_in_doubt BOOLEAN NOT NULL,
    payment_id VARCHAR(64),
    failures INTEGER NOT NULL,
    looks INTEGER NOT NULL,
    claims INTEGER NOT NULL,
    claimed_until DATETIME,
    next_attempt_at DATETIME NOT NULL,
    reason TEXT,
    approved_at DATETIME,
    started_at DATETIME,
    sent_at DATETIME,
    created_at DATETIME NOT NULL,
    executed_at DATETIME,
    stuck_at DATETIME,
    held_because VARCHAR(20),
    closed_by VARCHAR(10),
    key_number INTEGER DEFAULT '0' NOT NULL,
    asked_at DATETIME,
    wanted_at DATETIME,
    unanswered_quotes INTEGER DEFAULT '0' NOT NULL,
    kind VARCHAR(10) DEFAULT 'late' NOT NULL,
    sequence INTEGER DEFAULT '1' NOT NULL,
    basis VARCHAR(15) DEFAULT 'whole' NOT NULL,
    amount_fiat TEXT,
    price TEXT,
    price_as_of DATETIME,
    asked_by VARCHAR(10) DEFAULT 'rule' NOT NULL,
    api_key_id BIGINT,
    request_key VARCHAR(255),
    request_hash VARCHAR(64),
    claim_expires_at DATETIME,
    canceled_at DATETIME,
    cancel_cause VARCHAR(15),
    PRIMARY KEY (id),
    CONSTRAINT ck_refunds_sent_at CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
    CONSTRAINT ck_refunds_has_address CHECK (
        address IS NOT NULL OR state IN ('needs_address', 'sent', 'held', 'canceled')),
    CONSTRAINT ck_refunds_state_known CHECK (
        state IN ('requested', 'quoted', 'in_flight', 'sent', 'failed', 'needs_address', 'held', 'canceled')),
    CONSTRAINT ck_refunds_quote_before_execute CHECK (
        state NOT IN ('quoted', 'in_flight') OR (payment_quote_id IS NOT NULL AND fee_sats IS NOT NULL)),
    CONSTRAINT ck_refunds_never_more_than_received CHECK (amount_sats <= received_sats),
    CONSTRAINT ck_refunds_amount_positive CHECK (amount_sats > 0),
    CONSTRAINT ck_refunds_fee_not_negative CHECK (fee_sats >= 0),
    {", ".join(f"CONSTRAINT {name} CHECK ({condition})" for name, condition in NEW_CHECKS.items())},
    FOREIGN KEY(invoice_id) REFERENCES invoices (id),
    UNIQUE (token),
    UNIQUE (idempotency_key),
    UNIQUE (payment_quote_id),
    UNIQUE (payment_id)
)
"""


def upgrade() -> None:
    """Let an invoice have several refunds, add what is known of each, and reserve what they already ask for."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if is_sqlite:
        _rebuild_on_sqlite()
    else:
        _extend_on_postgres()
    _add_indexes()
    if is_sqlite:
        # SQLite checks every row, and leaves each where it is.
        op.execute(
            "ALTER TABLE invoices ADD COLUMN refund_reserved_sats BIGINT DEFAULT '0' NOT NULL "
            f"CONSTRAINT ck_invoices_refunds_within_received CHECK ({WITHIN_RECEIVED})"
        )
        op.execute(RESERVE)
        return
    op.add_column("invoices", sa.Column("refund_reserved_sats", sa.BigInteger(), nullable=False, server_default="0"))
    name = "ck_invoices_refunds_within_received"
    op.execute(f"ALTER TABLE invoices ADD CONSTRAINT {name} CHECK ({WITHIN_RECEIVED}) NOT VALID")
    op.execute(RESERVE)
    op.execute(f"ALTER TABLE invoices VALIDATE CONSTRAINT {name}")


def _rebuild_on_sqlite() -> None:
    """SQLite cannot drop UNIQUE (invoice_id). The rows of the history point at the table by its name, which is there
    again, with the same rows, when their foreign keys are checked: at the commit.
    """
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute(f"CREATE TABLE old_refunds AS SELECT {OLD_COLUMNS} FROM refunds")  # noqa: S608 - no input
    op.execute("DROP TABLE refunds")
    op.execute(SQLITE_TABLE)
    # A row that came past the old guards stays as it is: it is reported as unreadable, and stops nothing else.
    op.execute("PRAGMA ignore_check_constraints = ON")
    op.execute(f"INSERT INTO refunds ({OLD_COLUMNS}) SELECT {OLD_COLUMNS} FROM old_refunds")  # noqa: S608
    op.execute(CANCELED)
    op.execute("PRAGMA ignore_check_constraints = OFF")
    op.execute("DROP TABLE old_refunds")
    op.create_index("ix_refunds_started_at", "refunds", ["started_at"])
    op.create_index("ix_refunds_state_next_attempt_at", "refunds", ["state", "next_attempt_at"])
    op.create_index("ix_refunds_address", "refunds", ["address"])
    where = sa.text("sent_at IS NOT NULL")
    op.create_index("ix_refunds_sent_at", "refunds", ["sent_at", "id", "amount_sats"], sqlite_where=where)


def _extend_on_postgres() -> None:
    op.drop_constraint("refunds_invoice_id_key", "refunds", type_="unique")
    moment = sa.DateTime(timezone=True)
    columns: list[sa.Column[object]] = [
        sa.Column("kind", sa.String(length=10), nullable=False, server_default="late"),
        sa.Column("sequence", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("basis", sa.String(length=15), nullable=False, server_default="whole"),
        sa.Column("amount_fiat", sa.Text()),
        sa.Column("price", sa.Text()),
        sa.Column("price_as_of", moment),
        sa.Column("asked_by", sa.String(length=10), nullable=False, server_default="rule"),
        sa.Column("api_key_id", sa.BigInteger()),
        sa.Column("request_key", sa.String(length=255)),
        sa.Column("request_hash", sa.String(length=64)),
        sa.Column("claim_expires_at", moment),
        sa.Column("canceled_at", moment),
        sa.Column("cancel_cause", sa.String(length=15)),
    ]
    for column in columns:
        op.add_column("refunds", column)
    op.execute(CANCELED)
    for name, condition in NEW_CHECKS.items():
        op.create_check_constraint(name, "refunds", sa.text(condition))


def _add_indexes() -> None:
    late, has_end = sa.text("kind = 'late'"), sa.text("claim_expires_at IS NOT NULL")
    op.create_index("uq_refunds_late", "refunds", ["invoice_id"], unique=True, sqlite_where=late, postgresql_where=late)
    op.create_index("uq_refunds_invoice_id_sequence", "refunds", ["invoice_id", "sequence"], unique=True)
    op.create_index("uq_refunds_invoice_id_request_key", "refunds", ["invoice_id", "request_key"], unique=True)
    op.create_index(
        "ix_refunds_claim_expires_at", "refunds", ["claim_expires_at"],
        sqlite_where=has_end, postgresql_where=has_end,
    )  # fmt: skip
