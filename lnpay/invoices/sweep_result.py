"""The result of one sweep, and the loop that settles single invoices or receive requests."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lnpay.domain.errors import Stopping, StrikeAmbiguous, StrikeError, StrikeUnanswered, StrikeUnavailable
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.invoices.settle import Outcome, SettlementContext

log = logging.getLogger(__name__)

LAPSED_FOR = timedelta(hours=3)
"""How long after its last chance to be paid an unwatched invoice is still swept. Its webhook always counts."""

MAX_CONSECUTIVE_FAILURES = 3
"""After this many failed reads in a row that are not the fault of the invoices, the sweep stops until the next pass."""


@dataclass
class Sweep:
    """The result of one sweep.

    since: every invoice made at Strike since then was checked, as of `started_at`; None if the list was unavailable.
    looked_at: invoices whose payments were read, one by one or as receive requests. unclear: those whose payment is not
    decided yet.
    asked_at: this process's monotonic seconds at `started_at`, which tell afterwards what Strike's time was.
    lapsed_since: it also looks for payments of lapsed and cancelled invoices that were payable after this time.
    is_any_lapsed_unread: more of those may be left to read one by one than this sweep had calls for.
    is_pending_known: whether `unclear` contains every payment that Strike has seen and not yet counted.
    unreadable: rows of Strike's list that could not be read. is_blind: there were invoices to check, and none was
    checked.
    why_none_lapses: why no invoice may lapse: it is not known which of them have a pending payment.
    stopped_by: why it left payments unread, if it did; the other results are kept.
    """

    started_at: datetime
    asked_at: float
    since: datetime | None = None
    lapsed_since: datetime | None = None
    is_any_lapsed_unread: bool = False
    looked_at: set[str] = field(default_factory=set)
    unclear: set[str] = field(default_factory=set)
    is_pending_known: bool = False
    settled: int = 0
    paid_late: int = 0
    failed: int = 0
    unreadable: int = 0
    is_blind: bool = False
    why_none_lapses: str | None = None
    stopped_by: StrikeError | None = None

    def clears(self, invoice: Invoice) -> bool:
        """Whether this sweep proves that `invoice` was not paid."""
        is_listed = invoice.issue.receive_with is ReceiveWith.INVOICE
        was_seen = invoice.strike_invoice_id in self.looked_at or (
            is_listed and self.since is not None and invoice.issue.opened_at >= self.since
        )
        return was_seen and invoice.strike_invoice_id not in self.unclear


def settle_each(
    context: SettlementContext,
    found: Sweep,
    ids: list[str],
    settle_one: Callable[[str], Outcome],
    failed_in_a_row: int = 0,
) -> None:
    """Settle invoices one after the other, and record the outcomes in `found`.

    failed_in_a_row: how many calls have just failed.
    Raises StrikeError if the next one would fail too; Stopping.
    """
    for strike_invoice_id in ids:
        if context.stop.is_set():
            raise Stopping("shutdown requested")
        found.looked_at.add(strike_invoice_id)
        try:
            _count(found, strike_invoice_id, settle_one(strike_invoice_id))
            failed_in_a_row = 0
        except Exception as error:  # one faulty invoice must not block the others
            log.exception("invoice could not be reconciled invoice_id=%s", strike_invoice_id)
            found.failed += 1
            found.unclear.add(strike_invoice_id)
            if _is_about_the_invoice(error):
                continue
            failed_in_a_row += 1
            if failed_in_a_row == MAX_CONSECUTIVE_FAILURES or is_about_all_calls(error):
                raise


def _is_about_the_invoice(error: Exception) -> bool:
    """Whether other reads may succeed: this invoice is invalid, unknown at Strike, or hits a bug of ours."""
    return not isinstance(error, StrikeError) or isinstance(error, StrikeAmbiguous) or error.status == 404


def is_about_all_calls(error: Exception) -> bool:
    """Whether the next call would fail too: the key is rejected, or Strike asks to wait."""
    return isinstance(error, StrikeError) and (error.status == 401 or error.retry_after_seconds is not None)


def is_unreached(error: StrikeError) -> bool:
    """Whether no call reaches Strike at the moment, or none may be made."""
    is_unavailable = isinstance(error, StrikeUnavailable) and error.status is None
    return is_unavailable and not isinstance(error, StrikeUnanswered)


def _count(found: Sweep, strike_invoice_id: str, outcome: Outcome) -> None:
    found.settled += outcome is Outcome.SETTLED
    found.paid_late += outcome is Outcome.PAID_LATE
    if outcome is Outcome.NOT_FINAL:
        found.unclear.add(strike_invoice_id)
