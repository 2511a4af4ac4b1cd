"""Use cases: a database that came out of a backup has missed what was sent since; none of it may be sent again.

A backup carries a mark (COPIED). Whoever starts first on a database with a new mark notices it, and from then on:
1. A refund of an order from before that moment may have been sent by the history that is lost.
   Wherever a refund is priced, `why_doubted` is asked, and such a refund is held until a person has looked at Strike
   and approves it anew. Whether the backup knew of it, or a sweep has found its late payment again, is all the same.
   The same goes for another copy of the database that is noticed by what Strike says (`hold_forked`, `forks`).
2. A quote that was stored before is executed again only when it is too old to send anything: Strike then says what
   became of it. Between backup and restore it may have been refused, and another one sent in its place.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import HoldCause, RefundState, RefundStep
from lnpay.repository import Repository, Transaction
from lnpay.repository.limits import COPIED, RESTORED
from lnpay.repository.restores import Restore

log = logging.getLogger(__name__)

S = RefundState

QUOTES_LAST = timedelta(hours=1)
"""Longer than any payment quote is valid."""

MOST_REFUNDS = 1_000_000


def notice_restore(repository: Repository, now: datetime) -> None:
    """Take over a database that came out of a backup. Each process asks at its start; it may be repeated."""
    with repository.reading() as tx:
        is_new = tx.limits.is_new_copy()
    if is_new:
        with repository.transaction() as tx:
            doubt_refunds(tx, now)


def doubt_refunds(tx: Transaction, now: datetime, cause: HoldCause = HoldCause.RESTORED) -> None:
    """From now on believe of no refund of an order of before that it was not sent, unless a person says so.

    cause: RESTORED, or FORKED where another copy of this database was noticed by what Strike says.
    """
    copied_at = tx.limits.milestone(COPIED) if tx.limits.is_new_copy() else None
    noticed_at = _end_of_the_old(tx, now)
    if cause is HoldCause.RESTORED:
        tx.limits.reach_milestone(RESTORED, noticed_at)
    hold = _hold(tx.restores.add(noticed_at, cause, copied_at))
    # An approval of before is no word on what was sent since.
    for refund in tx.refunds.in_states(set(S) - {S.SENT}, MOST_REFUNDS):
        _doubt(tx, refund, hold, now)
    log.warning("refunds that may have been sent already wait for a person cause=%s", cause)


def _doubt(tx: Transaction, refund: Refund, hold: Hold, now: datetime) -> None:
    """Where a worker changes the refund at this moment it stays as it is: before it is sent, `why_doubted` is asked."""
    if refund.state in (S.REQUESTED, S.QUOTED, S.HELD):
        held = tx.refunds.hold_after_restore(refund, hold)
        if held is not None and refund.state is not S.HELD:
            tx.refunds.note(held, now, RefundStep.RESTORE, hold.reason)
    elif refund.state is S.IN_FLIGHT and refund.payment_id is None:
        tx.refunds.rest_until(refund, now + QUOTES_LAST)
    else:
        tx.refunds.withdraw_approval(refund)


def _end_of_the_old(tx: Transaction, now: datetime) -> datetime:
    """Now; but never before anything that the database knows, whatever the clock of this machine says."""
    known = (now, tx.limits.milestone(COPIED), tx.invoices.newest_created_at())
    return max(moment for moment in known if moment is not None)


def why_doubted(tx: Transaction, refund: Refund) -> Hold | None:
    """Why this refund may have been sent by another history; None when it was not, or a person says so.

    An order that is new in this database is new at Strike too: its invoice there has a name of its own
    (`strike_names`). So the number of the order decides, and no clock.
    """
    if refund.approved_at is not None:
        return None
    restore = tx.restores.covering(refund.invoice_id)
    return None if restore is None else _hold(restore)


def _hold(restore: Restore) -> Hold:
    if restore.cause is HoldCause.FORKED:
        what = f"another copy of this database was noticed on {restore.noticed_at:%Y-%m-%d %H:%M} UTC"
    elif restore.copied_at is None:
        what = "the database was restored from a backup"
    else:
        what = f"the database was restored from a backup of {restore.copied_at:%Y-%m-%d %H:%M} UTC"
    return Hold(
        restore.cause,
        f"{what}, so it may have been sent already. Look for it in Strike's dashboard: if it is there, "
        "python main.py refunds settle; if it is not, refunds approve",
    )
