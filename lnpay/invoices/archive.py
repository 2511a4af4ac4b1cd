"""Use case: move the bulk of old invoices into a compressed archive in the same database. Nothing is deleted."""

from __future__ import annotations

import logging

from lnpay.domain.errors import Stopping
from lnpay.invoices.prune import certain_boundary
from lnpay.invoices.settle import SettlementContext

log = logging.getLogger(__name__)

ARCHIVED = "archived"
"""Milestone: when a process last found nothing left to archive."""

BATCH = 25
"""Invoices per transaction: SQLite's only write lock is held for 20 to 46 ms."""

PAUSE_SECONDS = 0.02
"""Pause between two transactions, so that a sale in another process gets the lock: SQLite has no fair queue."""

MOST_ARCHIVED = 2_000
"""Invoices archived per pass; the next pass continues."""


def archive(context: SettlementContext, asked_at: float, after_days: int) -> int:
    """Archive invoices on which nothing is left to do since `after_days` ago: paid, delivered, refunded. Returns how
    many.

    asked_at, after_days: as of `prune`. 0: nothing is archived.
    Raises StorageUnavailable if a batch does not read back as it was written; that batch is then left in place.
    """
    before = certain_boundary(context, asked_at, after_days, ARCHIVED)
    if before is None:
        return 0
    archived, is_over = 0, False
    while archived < MOST_ARCHIVED and not is_over:
        if context.stop.wait(PAUSE_SECONDS if archived else 0):
            raise Stopping("shutdown requested")
        now = context.clock()
        with context.repository.transaction() as tx:
            done = tx.archive.move(before, now, min(BATCH, MOST_ARCHIVED - archived))
            is_over = done == 0
            if is_over:
                tx.limits.reach_milestone(ARCHIVED, now)
        archived += done
    if archived:
        log.info("invoices archived count=%d before=%s", archived, before.isoformat())
    return archived
