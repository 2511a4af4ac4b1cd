"""Use cases of the workers: find payments that no webhook reported, and end invoices that stay unpaid.

A sweep reads Strike's list of paid invoices, newest first, back to the oldest one still watched. Unreadable rows are
skipped. Invoices are read one by one only if the list is unavailable or may not show one of ours. No invoice expires or
lapses before Strike was asked about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from lnpay.deliveries.owe import owe_delivery
from lnpay.domain.errors import (
    Stopping,
    StrikeAmbiguous,
    StrikeError,
    StrikeUnanswered,
    UnreadableRow,
)
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.receives import ReceiveWith
from lnpay.domain.states import (
    EXPIRE_MARGIN,
    LAPSE_MARGIN,
    WATCHED,
    InvoiceState,
)
from lnpay.domain.text import counted
from lnpay.invoices.receive_sweep import sweep_requests
from lnpay.invoices.receives import end_underpaid
from lnpay.invoices.settle import (
    SettlementContext,
    call_off,
    reconcile_invoice,
)
from lnpay.invoices.sweep_result import LAPSED_FOR as LAPSED_FOR
from lnpay.invoices.sweep_result import MAX_CONSECUTIVE_FAILURES as MAX_CONSECUTIVE_FAILURES
from lnpay.invoices.sweep_result import Sweep as Sweep
from lnpay.invoices.sweep_result import is_about_all_calls, is_unreached, settle_each
from lnpay.refunds.forks import notice_fork
from lnpay.repository import Transaction
from lnpay.strike.invoices import InvoicePage, InvoiceStatus
from lnpay.strike.reading import READS_LAG

log = logging.getLogger(__name__)

MOST_PAGES = 200
"""The most pages read of one list: a longer one seems endless, and other work needs calls too."""

DEEP_SWEEP_EVERY = timedelta(seconds=60)
"""How often to look for late payments. They only need a refund; no customer waits."""

DEEP_SWEEP = "deep_sweep"
"""Milestone: when any process last did this."""

LAPSED_SWEEP_EVERY = timedelta(hours=1)
"""How often to look for payments of lapsed and cancelled invoices: they are missed only if a webhook was lost."""

LAPSED_SWEEP = "lapsed_sweep"
"""Milestone: when any process last did this."""

LONGEST_GAP = timedelta(days=7)
"""If no worker ran for longer, payments of lapsed and cancelled invoices in the time before are left to webhooks."""

CANCELLED_AFTER = timedelta(seconds=60)
"""Younger unpaid invoices are not checked for cancellations without a webhook, to save calls."""

BATCH = 200
"""Rows moved per transaction: enough to be fast, few enough not to delay a sale."""

MOST_ENDED = 5_000
"""Invoices that one pass expires or lapses; the next pass continues."""

SINGLE_READS_SHARE = 10
"""If the list is unavailable, a pass uses one in this many of the calls left, to leave some for the next passes."""


def sweep(context: SettlementContext, calls_left: Callable[[], int], *, is_deep: bool | None = None) -> Sweep:
    """Find payments of watched invoices and settle them.

    calls_left: how many calls may still be made; used only if the list is unavailable.
    is_deep: look back to the oldest expired invoice instead of the oldest unpaid one. None: if no process has done so
    for a minute.
    """
    found = Sweep(context.clock(), context.strike.time.steady())
    with context.repository.reading() as tx:
        if is_deep is None:
            is_deep = _is_due(tx, DEEP_SWEEP, DEEP_SWEEP_EVERY, found.started_at)
        since = tx.invoices.oldest_opened_at(WATCHED if is_deep else (InvoiceState.UNPAID,))
        is_for_lapsed = is_deep and _is_due(tx, LAPSED_SWEEP, LAPSED_SWEEP_EVERY, found.started_at)
        found.lapsed_since = _lapsed_since(tx, found.started_at) if is_for_lapsed else None
        unwatched = None
        if found.lapsed_since is not None:
            unwatched = tx.invoices.oldest_unwatched_opened_at(found.lapsed_since)
            since = min((one for one in (since, unwatched) if one is not None), default=None)
        is_any_to_lapse = bool(tx.invoices.to_lapse(found.started_at - LAPSE_MARGIN, 1))
    try:
        if since is not None:
            notes_pending = is_deep and (is_any_to_lapse or unwatched is not None)
            _sweep_invoices(context, found, since, calls_left, notes_pending=notes_pending)
        sweep_requests(context, found, calls_left, is_deep=is_deep, is_for_lapsed=is_for_lapsed)
        if is_deep and since is not None:
            _end_cancelled(context, found)
    except StrikeError as error:
        log.warning("sweep stopped error=%s", error.message)
        found.stopped_by = error
    found.is_blind = since is not None and found.since is None and not found.looked_at
    if is_deep and found.stopped_by is None:
        with context.repository.transaction() as tx:
            tx.limits.reach_milestone(DEEP_SWEEP, found.started_at)
            if is_for_lapsed and not found.is_any_lapsed_unread:
                if found.is_pending_known and found.since is not None:
                    # Only now: a payment that has become final since is settled, or is still unclear.
                    tx.invoices.keep_pending(found.unclear, found.started_at)
                tx.limits.reach_milestone(LAPSED_SWEEP, found.started_at)
    return found


def _sweep_invoices(
    context: SettlementContext, found: Sweep, since: datetime, calls_left: Callable[[], int], *, notes_pending: bool
) -> None:
    if notes_pending:
        _note_pending(context, found, since)
    _sweep_paid(context, found, since, calls_left)


def _is_due(tx: Transaction, milestone: str, every: timedelta, now: datetime) -> bool:
    """Whether a periodic task is due. A milestone in the future was written by a wrong clock."""
    last = tx.limits.milestone(milestone)
    return last is None or not timedelta() <= now - last < every


def _lapsed_since(tx: Transaction, now: datetime) -> datetime:
    """Unwatched invoices that were payable after this time are looked at: also those of a time without workers."""
    earliest, last = now - LONGEST_GAP, tx.limits.milestone(LAPSED_SWEEP)
    # One in the future was written by a wrong clock.
    return min(now, max(earliest, last or earliest)) - LAPSED_FOR


class _ListUnavailable(Exception):
    """Strike's list is refused or unreadable."""

    def __init__(self, error: StrikeError) -> None:
        super().__init__(error.message)
        self.error = error


def _note_pending(context: SettlementContext, found: Sweep, since: datetime) -> None:
    """Record the payments that are pending.

    This list is read before that of paid invoices, so that a payment that becomes final in between is in at least one.
    """
    try:
        nameless = 0
        for page in _pages(context, found, InvoiceStatus.PENDING, since):
            found.unclear.update(page.ids)
            nameless += page.nameless
        found.is_pending_known = nameless == 0
        if nameless:
            found.why_none_lapses = f"Strike lists {counted(nameless, 'pending payment')} without an invoice id"
        elif found.lapsed_since is not None:
            with context.repository.transaction() as tx:
                tx.invoices.mark_pending(found.unclear, found.started_at)
    except _ListUnavailable as refusal:
        found.why_none_lapses = "Strike's list of pending payments is unavailable"
        log.warning("strike's list of pending invoices is unavailable error=%s", refusal.error.message)


def _sweep_paid(context: SettlementContext, found: Sweep, since: datetime, calls_left: Callable[[], int]) -> None:
    """Settle what Strike lists as paid; if the list cannot be relied on, read our invoices one by one."""
    nameless = failed_in_a_row = 0
    try:
        for page in _pages(context, found, InvoiceStatus.PAID, since):
            # Before settling: another copy of the database may have sent the refund that a late payment creates.
            notice_fork(context.repository, page.invoices, context.clock())
            failed_in_a_row = _settle_watched(context, found, page.ids, failed_in_a_row)
            nameless += page.nameless
    except _ListUnavailable as refusal:
        log.warning("strike's list is unavailable, reading invoices one by one error=%s", refusal.error.message)
        if isinstance(refusal.error, StrikeUnanswered):
            # Strike may be answering nothing: allow one more failure only, as the pass has other work to do.
            failed_in_a_row = MAX_CONSECUTIVE_FAILURES - 1
    else:
        if nameless == 0:
            found.since = since
            return
        log.warning("strike's list has rows without an id, reading invoices one by one count=%d", nameless)
    _sweep_one_by_one(context, found, calls_left() // SINGLE_READS_SHARE, failed_in_a_row)


def _pages(context: SettlementContext, found: Sweep, status: InvoiceStatus, since: datetime) -> Iterator[InvoicePage]:
    """The invoices with one status, page by page, from the newest back to those created at `since`.

    Raises _ListUnavailable; StrikeError if reading single invoices would fail too.
    """
    skip = 0
    known: set[str] = set()
    for _ in range(MOST_PAGES):
        page = _page(context, status, skip)
        if skip and known.issuperset(page.ids) and not page.is_last:
            raise _ListUnavailable(StrikeAmbiguous("Strike's list repeats itself"))
        known.update(page.ids)
        found.unreadable += page.unreadable
        yield page
        if page.is_last or page.reaches(since):
            return
        skip = page.next_skip
    raise _ListUnavailable(StrikeAmbiguous("Strike's list does not end"))


def _page(context: SettlementContext, status: InvoiceStatus, skip: int) -> InvoicePage:
    try:
        return context.strike.list_invoices(status, skip)
    except StrikeError as error:
        if is_about_all_calls(error) or is_unreached(error):
            raise
        raise _ListUnavailable(error) from error


def _end_cancelled(context: SettlementContext, found: Sweep) -> None:
    """Move to CANCELLED what Strike lists as cancelled, back to the oldest invoice that a customer may still try to
    pay.

    No money depends on this: if the list is unavailable, it is done later.
    """
    with context.repository.reading() as tx:
        since = tx.invoices.oldest_opened_at((InvoiceState.UNPAID,))
    if since is None or found.started_at - since < CANCELLED_AFTER:
        return
    # Collected separately: unreadable rows in this list cannot hide payments, so they are not reported.
    apart = Sweep(found.started_at, found.asked_at)
    try:
        for page in _pages(context, apart, InvoiceStatus.CANCELLED, since):
            # The status of an unreadable row is unknown.
            cancelled = [one.invoice_id for one in page.invoices if one.status is InvoiceStatus.CANCELLED]
            with context.repository.reading() as tx:
                watched = tx.invoices.watched_among(cancelled)
            _end(context, watched, InvoiceState.CANCELLED)
    except _ListUnavailable as refusal:
        log.warning("strike's list of cancelled invoices is unavailable error=%s", refusal.error.message)
    except StrikeError as error:
        log.warning("strike's list of cancelled invoices could not be read error=%s", error.message)


def _settle_watched(context: SettlementContext, found: Sweep, listed: list[str], failed_in_a_row: int) -> int:
    """Settle the invoices of ours on one page of Strike's list. Returns how many calls have just failed.

    Invoices that Strike lists but cannot show end this page only: the payments of the other pages, and of receive
    requests, are found nevertheless. What is left unread is unclear. Raises StrikeError if no call would succeed.
    """
    with context.repository.reading() as tx:
        payable = tx.invoices.payable_among(listed)
        pruned = tx.pruned.unpaid_among(listed)
    try:
        _settle_invoices(context, found, [*payable, *pruned], failed_in_a_row)
    except StrikeError as error:
        if is_about_all_calls(error) or is_unreached(error):
            raise
        log.warning("sweep skips the rest of a page error=%s", error.message)
        found.stopped_by = error
        found.unclear.update({*payable, *pruned} - found.looked_at)
        return MAX_CONSECUTIVE_FAILURES - 1
    finally:
        _note_unsettled(context, payable, found)
    return 0


def _note_unsettled(context: SettlementContext, listed_paid: list[str], found: Sweep) -> None:
    """Record for the operator which invoices Strike lists as paid but LNPay could not settle, for any reason.

    Those that were read count as checked, so that the next pass begins with the others, even if these keep failing.
    """
    with context.repository.reading() as tx:
        unsettled = tx.invoices.payable_among(listed_paid)
    if unsettled:
        log.error("invoices paid at strike are not settled count=%d first=%s", len(unsettled), unsettled[0])
        with context.repository.transaction() as tx:
            tx.invoices.mark_listed_paid(unsettled, found.started_at)
            tx.invoices.mark_checked(found.looked_at.intersection(unsettled), found.started_at)


def _sweep_one_by_one(context: SettlementContext, found: Sweep, limit: int, failed_in_a_row: int) -> None:
    with context.repository.reading() as tx:
        ids = tx.invoices.least_recently_checked(limit)
        if found.lapsed_since is not None:
            just_now = (found.started_at - LAPSED_SWEEP_EVERY / 2, found.started_at)
            lapsed = tx.invoices.unwatched_least_recently_checked(found.lapsed_since, limit, unless_between=just_now)
            found.is_any_lapsed_unread = len(lapsed) == limit
            ids += lapsed
    try:
        _settle_invoices(context, found, ids, failed_in_a_row)
    finally:
        # Including those that failed: otherwise the next pass would start with them and never reach the others.
        with context.repository.transaction() as tx:
            tx.invoices.mark_checked(found.looked_at, found.started_at)


def _settle_invoices(context: SettlementContext, found: Sweep, ids: list[str], failed_in_a_row: int = 0) -> None:
    settle_each(context, found, ids, lambda one: reconcile_invoice(context, one), failed_in_a_row)


def expire_due(context: SettlementContext, found: Sweep) -> int:
    """Move to EXPIRED the invoices that the sweep found unpaid, shortly after their deadline. Returns how many.

    Does nothing if Strike's time is unknown: our own clock alone must not end an invoice.
    """
    strikes_time = context.strike.time.certain(found.asked_at)
    if strikes_time is None:
        return 0
    with context.repository.reading() as tx:
        due = tx.invoices.to_expire(strikes_time - EXPIRE_MARGIN, MOST_ENDED)
        due = [one for one in due if not _may_rest_come(tx, one, strikes_time)]
    return _end(context, [one for one in due if found.clears(one)], InvoiceState.EXPIRED)


def _may_rest_come(tx: Transaction, invoice: Invoice, strikes_time: datetime) -> bool:
    """Whether it was paid in part, and reads may not show the rest yet. Without the rest, all of it is refunded."""
    return invoice.expires_at >= strikes_time - READS_LAG and bool(tx.receives.ids_of(invoice.id))


def lapse_due(context: SettlementContext, found: Sweep) -> int:
    """Move to LAPSED the invoices that the sweep found unpaid, well after they could last be paid.

    An invoice whose payment Strike has seen but not counted (PENDING) stays. Returns how many; none if Strike's time is
    unknown.
    """
    strikes_time = context.strike.time.certain(found.asked_at)
    if strikes_time is None:
        return 0
    with context.repository.reading() as tx:
        due = tx.invoices.to_lapse(strikes_time - LAPSE_MARGIN, MOST_ENDED)
    if not found.is_pending_known:
        due = [one for one in due if one.strike_invoice_id in found.looked_at]
    return _end(context, [one for one in due if found.clears(one)], InvoiceState.LAPSED)


def _end_one(context: SettlementContext, tx: Transaction, invoice: Invoice, new: InvoiceState, now: datetime) -> bool:
    if new is InvoiceState.CANCELLED:
        return call_off(tx, context.events, invoice, now)
    is_request = invoice.issue.receive_with is ReceiveWith.RECEIVE_REQUEST
    try:
        if is_request and new is InvoiceState.EXPIRED and end_underpaid(context, tx, invoice, now):
            return False
    except UnreadableRow as error:  # it stays open, and the others end
        log.error("invoice cannot be ended invoice_id=%s error=%s", invoice.strike_invoice_id, error.message)
        return False
    is_moved = tx.invoices.move(invoice.id, invoice.state, new)
    if is_moved and new is InvoiceState.EXPIRED:
        owe_delivery(tx, context.events, EventType.INVOICE_EXPIRED, invoice, now)
    return is_moved


def _end(context: SettlementContext, due: list[Invoice], new: InvoiceState) -> int:
    ended = 0
    for start in range(0, len(due), BATCH):
        if context.stop.is_set():
            raise Stopping("shutdown requested")
        now = context.clock()
        with context.repository.transaction() as tx:
            for invoice in due[start : start + BATCH]:
                ended += _end_one(context, tx, invoice, new, now)
    if ended:
        log.info("invoices ended state=%s count=%d", new, ended)
    return ended
