"""What was known of a refund only from sentences becomes columns; what the old sentences say is carried over."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STUCK = (
    "Strike was told to send it and cannot say any more whether it did. Look for the payment in Strike's dashboard, "
    "then say so with: python main.py refunds settle, or refunds retry"
)
"""The sentence by which versions before this one knew such a refund; frozen here."""

HOLDS = {
    "refunds_off": "REFUNDS_ENABLED is off%",
    "max_sats": "%sats are above REFUND_MAX_SATS%",
    "daily_max_sats": "REFUND_DAILY_MAX_SATS is reached%",
    "restored": "the database was restored from%",
}


def upgrade() -> None:
    """Add the columns, and fill them where an old sentence says what belongs there."""
    moment = sa.DateTime(timezone=True)
    op.add_column("refunds", sa.Column("executed_at", moment, nullable=True))
    op.add_column("refunds", sa.Column("stuck_at", moment, nullable=True))
    op.add_column("refunds", sa.Column("held_because", sa.String(length=20), nullable=True))
    op.add_column("refunds", sa.Column("closed_by", sa.String(length=10), nullable=True))
    op.add_column("refund_attempts", sa.Column("state", sa.String(length=15), nullable=True))
    _fill_stuck()
    _fill_held()
    # Strike's word left no reason behind; a person's did.
    _run("UPDATE refunds SET closed_by = 'strike' WHERE state = 'sent' AND reason IS NULL")
    _run("UPDATE refunds SET closed_by = 'operator' WHERE state = 'sent' AND reason IS NOT NULL")
    _run("UPDATE refund_attempts SET state = 'sent' WHERE outcome = 'sent'")


def _fill_stuck() -> None:
    """Also where a later pass, with Strike away, has overwritten the sentence: the history still has it."""
    _run(
        "UPDATE refunds SET stuck_at = (SELECT MIN(a.at) FROM refund_attempts a WHERE a.refund_id = refunds.id "
        "AND a.payment_quote_id = refunds.payment_quote_id AND a.outcome = :stuck) "
        "WHERE state = 'in_flight' AND payment_id IS NULL",
        stuck=STUCK,
    )
    _run(
        "UPDATE refunds SET stuck_at = COALESCE(started_at, created_at) "
        "WHERE state = 'in_flight' AND stuck_at IS NULL AND reason = :stuck",
        stuck=STUCK,
    )


def _fill_held() -> None:
    for cause, pattern in HOLDS.items():
        _run(
            "UPDATE refunds SET held_because = :cause WHERE state = 'held' AND reason LIKE :pattern",
            cause=cause,
            pattern=pattern,
        )


def _run(statement: str, **values: str) -> None:
    op.get_bind().execute(sa.text(statement), values)
