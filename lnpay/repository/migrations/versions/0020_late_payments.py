"""A late payment can be accepted, by a rule or by the operator, who may decide before there is an address."""

import sqlalchemy as sa
from alembic import op

from lnpay.repository.maintenance.widen_check import widen_check

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_STATES = "state IN ('requested', 'quoted', 'in_flight', 'sent', 'failed', 'needs_address', 'held'"


def upgrade() -> None:
    """Add the columns, and let a refund be canceled, or be held without an address."""
    # With its condition, which SQLite cannot add to a table later.
    op.execute(
        "ALTER TABLE invoices ADD COLUMN accepted_by VARCHAR(10) "
        "CONSTRAINT ck_invoices_accepted_is_settled CHECK (accepted_by IS NULL OR state = 'settled')"
    )
    op.add_column("invoices", sa.Column("accepted_price", sa.Text()))
    where = sa.text("accepted_by IS NOT NULL")
    op.create_index("ix_invoices_accepted", "invoices", ["opened_at"], sqlite_where=where, postgresql_where=where)
    widen_check("refunds", "ck_refunds_state_known", f"{_STATES})", f"{_STATES}, 'canceled')")
    widen_check(
        "refunds",
        "ck_refunds_has_address",
        "address IS NOT NULL OR state IN ('needs_address', 'sent')",
        "address IS NOT NULL OR state IN ('needs_address', 'sent', 'held', 'canceled')",
    )
