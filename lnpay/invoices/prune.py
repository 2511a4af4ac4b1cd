"""Use case: delete old unpaid invoices. Their totals are kept, and a later payment is still detected."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from lnpay.domain.errors import Stopping
from lnpay.invoices.settle import SettlementContext

log = logging.getLogger(__name__)

EVERY = timedelta(hours=6)
"""How often to look for invoices to delete, or to archive."""

PRUNED = "pruned"
"""Milestone: when a process last found nothing left to delete."""

BATCH = 200
"""Rows deleted per transaction: few enough not to delay a sale."""

MOST_PRUNED = 5_000
"""Invoices deleted per pass; the next pass continues."""


def prune(context: SettlementContext, asked_at: float, after_days: int) -> int:
    """Delete unpaid invoices, and drafts, whose last chance to be paid was `after_days` ago. Returns how many.

    asked_at: the monotonic seconds when Strike was last called. If Strike's time has been unknown since then, nothing
    is deleted. after_days: 0 keeps everything.
    """
    before = certain_boundary(context, asked_at, after_days, PRUNED)
    if before is None:
        return 0
    pruned = 0
    while pruned < MOST_PRUNED:
        if context.stop.is_set():
            raise Stopping("shutdown requested")
        now = context.clock()
        with context.repository.transaction() as tx:
            done = tx.pruned.prune(before, now, BATCH)
            if done == 0:
                tx.limits.reach_milestone(PRUNED, now)
                break
        pruned += done
    if pruned:
        log.info("unpaid invoices deleted count=%d before=%s", pruned, before.isoformat())
    return pruned


def certain_boundary(context: SettlementContext, asked_at: float, days: int, milestone: str) -> datetime | None:
    """The time `days` ago, by Strike's time or by this machine's clock, whichever is earlier.

    None if there is nothing to do, because `days` is 0, Strike's time is not known since `asked_at`, or the
    `milestone` was reached less than EVERY ago.
    """
    now = context.clock()
    strikes_time = context.strike.time.certain(asked_at)
    if days == 0 or strikes_time is None:
        return None
    with context.repository.reading() as tx:
        last = tx.limits.milestone(milestone)
    # A milestone in the future was written by a wrong clock.
    if last is not None and timedelta() <= now - last < EVERY:
        return None
    return min(strikes_time, now) - timedelta(days=days)
