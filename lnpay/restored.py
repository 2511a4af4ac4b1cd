"""Use cases: a database that came out of a backup has missed what was sent since; none of it may be sent again.

A backup carries a mark (COPIED). Whoever starts first on a database with a new mark notices it, and from then on:
1. A refund of an order, or of a payment, from before that moment may have been sent by the history that is lost.
   Wherever a refund is priced, `why_doubted` is asked, and such a refund is held until a person has looked at Strike
   and approves it anew. Whether the backup knew of it, or a sweep has found its late payment again, is all the same.
2. A quote that was stored before is executed again only when it is too old to send anything: Strike then says what
   became of it. Between backup and restore it may have been refused, and another one sent in its place.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from lnpay.model import Hold, Refund
from lnpay.repository import Repository, Transaction
from lnpay.repository.limits import COPIED, RESTORED
from lnpay.states import HoldCause, RefundState, RefundStep

log = logging.getLogger(__name__)

S = RefundState

CLOCKS_DIFFER = timedelta(minutes=15)
"""So much may Strike's clock, which dates payments, be ahead of ours."""

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


def doubt_refunds(tx: Transaction, now: datetime) -> None:
    """From now on believe of no refund that it was not sent, unless a person says so."""
    tx.limits.reach_milestone(RESTORED, _end_of_the_old(tx, now))
    hold = _hold(tx)
    # An approval of before is no word on what was sent since.
    for refund in tx.refunds.in_states(set(S) - {S.SENT}, MOST_REFUNDS):
        if refund.state in (S.REQUESTED, S.QUOTED, S.HELD):
            held = tx.refunds.hold_after_restore(refund, hold)
            assert held is not None  # noqa: S101 - read in this transaction
            if refund.state is not S.HELD:
                tx.refunds.note(held, now, RefundStep.RESTORE, hold.reason)
        elif refund.state is S.IN_FLIGHT and refund.payment_id is None:
            tx.refunds.rest_until(refund, now + QUOTES_LAST)
        else:
            tx.refunds.withdraw_approval(refund)
    log.warning("the database came out of a backup: refunds that may have been sent already wait for a person")


def _end_of_the_old(tx: Transaction, now: datetime) -> datetime:
    """Now; but never before anything that the database knows, whatever the clock of this machine says."""
    known = (now, tx.limits.milestone(COPIED), tx.invoices.newest_created_at())
    return max(moment for moment in known if moment is not None)


def why_doubted(tx: Transaction, refund: Refund) -> Hold | None:
    """Why this refund may have been sent by a history that is lost; None when it was not, or a person says so."""
    restored_at = tx.limits.milestone(RESTORED)
    if restored_at is None or refund.approved_at is not None:
        return None
    invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    assert invoice.paid_at is not None  # noqa: S101 - a refund is owed for a payment
    # An order that is new here need not be new: a shop repeats it, and Strike leads back to the invoice of then.
    is_new = invoice.created_at > restored_at and invoice.paid_at > restored_at + CLOCKS_DIFFER
    return None if is_new else _hold(tx)


def _hold(tx: Transaction) -> Hold:
    copied_at = tx.limits.milestone(COPIED)
    backup = "a backup" if copied_at is None else f"a backup of {copied_at:%Y-%m-%d %H:%M} UTC"
    return Hold(
        HoldCause.RESTORED,
        f"the database was restored from {backup}, so it may have been sent already. Look for it in Strike's "
        "dashboard: if it is there, python main.py refunds settle; if it is not, refunds approve",
    )
