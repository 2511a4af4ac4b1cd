"""Messages that are no longer true are withdrawn, which is a state of its own."""

from lnpay.repository.maintenance.widen_check import widen_check

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the state of a message be 'withdrawn'."""
    old = "state IN ('pending', 'delivered', 'abandoned')"
    new = "state IN ('pending', 'delivered', 'abandoned', 'withdrawn')"
    widen_check("deliveries", "ck_deliveries_state_known", old, new)
