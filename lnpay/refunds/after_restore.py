"""Use cases: a restored database does not know which refunds were sent after its backup. None may be sent again.

A backup carries a mark (COPIED). The first process that starts on a database with a new mark notices it. From then on:
1. A refund of an order older than that moment may have been sent after the backup.
   `why_doubted` is checked before such a refund is quoted; it is held until the operator has checked with Strike and
   approves it again. It does not matter whether the backup contained the refund, or a sweep found its late payment
   again. The same applies when Strike's answers reveal another copy of the database (`hold_if_forked`, `forks`).
2. A stored quote is executed again only once it is too old to send anything: Strike then says what happened to it.
   Between backup and restore it may have been refused, and another quote executed in its place.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import OPEN_REFUNDS, HoldCause, RefundState, RefundStep
from lnpay.domain.text import utc_minute
from lnpay.repository import Repository, Transaction
from lnpay.repository.limits import COPIED, RESTORED
from lnpay.repository.restores import Restore

log = logging.getLogger(__name__)


QUOTES_LAST = timedelta(hours=1)
"""Longer than any payment quote is valid."""

MOST_REFUNDS = 1_000_000


def notice_restore(repository: Repository, now: datetime) -> None:
    """Detect that this database was restored from a backup, and act on it. Every process calls this at startup."""
    with repository.reading() as tx:
        is_new = tx.limits.is_new_copy()
    if is_new:
        with repository.transaction() as tx:
            doubt_refunds(tx, now)


def doubt_refunds(tx: Transaction, now: datetime, cause: HoldCause = HoldCause.RESTORED) -> None:
    """From now on, assume that refunds of earlier orders may have been sent, until the operator checks each.

    cause: RESTORED, or FORKED if Strike's answers revealed another copy of this database.
    """
    copied_at = tx.limits.milestone(COPIED) if tx.limits.is_new_copy() else None
    # A fork is noticed right after an answer of Strike's, by its time.
    noticed_at = now if cause is HoldCause.FORKED else _end_of_the_old(tx, now)
    if cause is HoldCause.RESTORED:
        tx.limits.reach_milestone(RESTORED, noticed_at)
    hold = _hold(tx.restores.add(noticed_at, cause, copied_at))
    # An earlier approval does not mean that the refund has not been sent since.
    for refund in tx.refunds.in_states(OPEN_REFUNDS, MOST_REFUNDS):
        _doubt(tx, refund, hold, now)
    log.warning("refunds may have been sent already and need approval cause=%s", cause)


def _doubt(tx: Transaction, refund: Refund, hold: Hold, now: datetime) -> None:
    """Hold the refund. If a worker changes it at the same time, leave it alone: `why_doubted` is checked later."""
    if refund.state in (RefundState.REQUESTED, RefundState.QUOTED, RefundState.HELD):
        if refund.held_because is HoldCause.LATE_PAYMENT:
            hold = replace(hold, reason=f"{hold.reason}, unless the late payment was accepted and the order delivered")
        held = tx.refunds.hold_after_restore(refund, hold)
        if held is not None and refund.state is not RefundState.HELD:
            tx.refunds.note(held, now, RefundStep.RESTORE, hold.reason)
    elif refund.state is RefundState.IN_FLIGHT and refund.payment_id is None:
        # By when the quote was made, which Strike's time dates: this machine's clock may be wrong.
        tx.refunds.rest_until(refund, (refund.started_at or now) + QUOTES_LAST)
    else:
        tx.refunds.withdraw_approval(refund)


def _end_of_the_old(tx: Transaction, now: datetime) -> datetime:
    """Now, or the latest time in the database if that is later, because this machine's clock may be behind."""
    known = (now, tx.limits.milestone(COPIED), tx.invoices.newest_created_at())
    return max(moment for moment in known if moment is not None)


def why_doubted(tx: Transaction, refund: Refund) -> Hold | None:
    """Why this refund may already have been sent, by another copy or before a restore. None if it cannot have been, or
    if the operator has approved it.

    An order that is new in this database is new at Strike too: its invoice has a unique name there (`strike_names`).
    The order's row number therefore decides, not a clock.
    """
    if refund.approved_at is not None:
        return None
    restore = tx.restores.covering(refund.invoice_id)
    return None if restore is None else _hold(restore)


def _hold(restore: Restore) -> Hold:
    if restore.cause is HoldCause.FORKED:
        what = f"another copy of this database was detected on {utc_minute(restore.noticed_at)}"
    elif restore.copied_at is None:
        what = "the database was restored from a backup"
    else:
        what = f"the database was restored from a backup of {utc_minute(restore.copied_at)}"
    return Hold(
        restore.cause,
        f"{what}, so this refund may have been sent already. Look for it in Strike's dashboard: if it is there, use "
        "python main.py refunds settle; if not, refunds approve",
    )
