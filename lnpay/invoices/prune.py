"""Use case: delete unpaid invoices after a long time. Their totals are kept, and a later payment is still detected."""

from __future__ import annotations

import logging
from datetime import timedelta

from lnpay.domain.errors import Stopping
from lnpay.invoices.settle import SettlementContext

log = logging.getLogger(__name__)

EVERY = timedelta(hours=6)
"""How often to look for invoices to delete."""

PRUNED = "pruned"
"""Milestone: when a process last found nothing left to delete."""

BATCH = 200
"""Rows deleted per transaction: few enough not to delay a sale."""

MOST_PRUNED = 5_000
"""Invoices deleted per pass; the next pass continues."""


def prune(context: SettlementContext, asked_at: float, after_days: int) -> int:
    """Delete unpaid invoices, and drafts, whose last chance to be paid was `after_days` ago. Returns how many.

    asked_at: the monotonic seconds at which Strike was last asked. If Strike's time is not known since then, nothing is
    deleted. after_days: 0 keeps everything.
    """
    now = context.clock()
    strikes_time = context.strike.time.certain(asked_at)
    if after_days == 0 or strikes_time is None:
        return 0
    with context.repository.reading() as tx:
        last = tx.limits.milestone(PRUNED)
    # A milestone in the future was written by a wrong clock.
    if last is not None and timedelta() <= now - last < EVERY:
        return 0
    before = min(strikes_time, now) - timedelta(days=after_days)
    pruned = 0
    while pruned < MOST_PRUNED:
        if context.stop.is_set():
            raise Stopping("shutdown requested")
        with context.repository.transaction() as tx:
            done = tx.pruned.prune(before, now, BATCH)
            if done == 0:
                tx.limits.reach_milestone(PRUNED, now)
                break
        pruned += done
    if pruned:
        log.info("unpaid invoices deleted count=%d before=%s", pruned, before.isoformat())
    return pruned
