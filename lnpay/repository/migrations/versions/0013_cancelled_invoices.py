"""Invoices that are called off at Strike are cancelled, which is a state of its own."""

from lnpay.repository.maintenance.widen_check import widen_check

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the state of an invoice be 'cancelled'."""
    old = "state IN ('unpaid', 'settled', 'expired', 'paid_late', 'lapsed')"
    new = "state IN ('unpaid', 'settled', 'expired', 'paid_late', 'lapsed', 'cancelled')"
    widen_check("invoices", "ck_invoices_state_known", old, new)
