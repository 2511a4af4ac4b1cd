"""An invoice may have a currency of its own, SATS among them, and its own time to pay."""

import sqlalchemy as sa
from alembic import op

from lnpay.repository.maintenance.widen_check import widen_text

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make room for longer codes, add the column, and index the last sale in each currency."""
    for table in ("invoices", "pruned_invoices", "pruned_totals"):
        widen_text(table, "currency", 3, 10)
    op.add_column("invoices", sa.Column("expires_in", sa.Integer()))
    op.create_index("ix_invoices_currency", "invoices", ["currency", "id"])
