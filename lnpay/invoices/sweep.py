"""Use cases of the workers: find payments that no webhook told of, and end what nobody paid.

A sweep reads Strike's list of paid invoices, newest first, back to the oldest one that we still watch. A row that
cannot be read is passed over. Only where the list cannot be read, or may hide an invoice of ours, are invoices asked
about one by one. Nothing expires or lapses before Strike was asked about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lnpay.deliveries.owe import owe_delivery
from lnpay.domain.errors import (
    Stopping,
    StrikeAmbiguous,
    StrikeError,
    StrikeUnavailable,
)
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice
from lnpay.domain.states import (
    EXPIRE_MARGIN,
    LAPSE_MARGIN,
    WATCHED,
    InvoiceState,
)
from lnpay.invoices.settle import (
    Outcome,
    SettlementContext,
    call_off,
    reconcile_invoice,
)
from lnpay.refunds.forks import notice_fork
from lnpay.repository import Transaction
from lnpay.strike.invoices import PAGE_SIZE, InvoicePage, InvoiceStatus

log = logging.getLogger(__name__)

DEEP_SWEEP_EVERY = timedelta(seconds=60)
"""Late payments are looked for at this pace: they wait for a refund, no customer waits for it."""

DEEP_SWEEP = "deep_sweep"
"""The milestone under which every process finds when the last one was."""

LAPSED_SWEEP_EVERY = timedelta(hours=1)
"""Payments of lapsed and cancelled invoices are looked for at this pace: only a lost webhook leaves one to be found."""

LAPSED_SWEEP = "lapsed_sweep"
"""The milestone of the last such sweep."""

LAPSED_FOR = timedelta(hours=3)
"""So long after its payment request has ended, an unwatched invoice is looked for. Its webhook counts at any time."""

CANCELLED_AFTER = timedelta(seconds=60)
"""While every unpaid invoice is younger, no call is spent on those that were called off without a webhook."""

BATCH = 200
"""Rows moved in one transaction: many enough to be quick, few enough not to hold up a sale."""

MOST_ENDED = 5_000
"""Invoices that one pass expires or lapses; the next pass goes on."""

SINGLE_READS_SHARE = 10
"""Where the list is refused, a pass uses this part of the calls left: the next passes want some too."""

MAX_CONSECUTIVE_FAILURES = 3
"""After so many reads that fail and are not about the invoices, the sweep stops until the next pass."""


@dataclass
class Sweep:
    """What one look at Strike found.

    since: every invoice made at Strike since then was looked at, as it was at `started_at`; None when it was not so.
    looked_at: those that were looked at one by one. unclear: those of which nothing final can be said.
    asked_at: the steady seconds of this process at `started_at`: what was Strike's time then is known at the end.
    is_pending_known: whether all money that Strike has seen and not yet counted is among the unclear ones.
    unreadable: rows of Strike's list that could not be read. is_blind: there was something to look for, and nothing
    was looked at.
    stopped_by: why it ended early, if it did; what was found before that is kept.
    """

    started_at: datetime
    asked_at: float
    since: datetime | None = None
    looked_at: set[str] = field(default_factory=set)
    unclear: set[str] = field(default_factory=set)
    is_pending_known: bool = False
    settled: int = 0
    paid_late: int = 0
    failed: int = 0
    unreadable: int = 0
    is_blind: bool = False
    stopped_by: StrikeError | None = None

    def clears(self, invoice: Invoice) -> bool:
        """Whether this look says that `invoice` was not paid."""
        was_seen = invoice.strike_invoice_id in self.looked_at or (
            self.since is not None and invoice.issue.opened_at >= self.since
        )
        return was_seen and invoice.strike_invoice_id not in self.unclear


def sweep(context: SettlementContext, calls_left: Callable[[], int], *, is_deep: bool | None = None) -> Sweep:
    """Find what was paid among the invoices we watch, and settle it.

    calls_left: how many calls may still be made; asked only where the list is refused.
    is_deep: look back as far as the oldest expired invoice, otherwise only as far as the oldest unpaid one. None: when
    a minute has passed since any process last did.
    """
    found = Sweep(context.clock(), context.strike.time.steady())
    with context.repository.reading() as tx:
        if is_deep is None:
            is_deep = _is_due(tx, DEEP_SWEEP, DEEP_SWEEP_EVERY, found.started_at)
        since = tx.invoices.oldest_opened_at(WATCHED if is_deep else (InvoiceState.UNPAID,))
        is_for_lapsed = is_deep and _is_due(tx, LAPSED_SWEEP, LAPSED_SWEEP_EVERY, found.started_at)
        if is_for_lapsed:
            unwatched = tx.invoices.oldest_unwatched_opened_at(found.started_at - LAPSED_FOR)
            since = min((one for one in (since, unwatched) if one is not None), default=None)
        is_any_to_lapse = bool(tx.invoices.to_lapse(found.started_at - LAPSE_MARGIN, 1))
    if since is None:
        return found
    try:
        if is_deep and is_any_to_lapse:
            _note_pending(context, found, since)
        _sweep_somehow(context, found, since, calls_left)
        if is_deep:
            _end_cancelled(context, found)
    except StrikeError as error:
        log.warning("sweep stopped error=%s", error.message)
        found.stopped_by = error
    found.is_blind = found.since is None and not found.looked_at
    if is_deep and found.stopped_by is None:
        with context.repository.transaction() as tx:
            tx.limits.reach_milestone(DEEP_SWEEP, found.started_at)
            if is_for_lapsed:
                tx.limits.reach_milestone(LAPSED_SWEEP, found.started_at)
    return found


def _is_due(tx: Transaction, milestone: str, every: timedelta, now: datetime) -> bool:
    """Whether what is done at a pace has its turn. A milestone in the future was written by a clock that was wrong."""
    last = tx.limits.milestone(milestone)
    return last is None or not timedelta() <= now - last < every


class _NoList(Exception):
    """Strike's list cannot be had: refused, or not to be read."""

    def __init__(self, error: StrikeError) -> None:
        super().__init__(error.message)
        self.error = error


def _note_pending(context: SettlementContext, found: Sweep, since: datetime) -> None:
    """Note the money that is seen and not final.

    It is listed before the paid invoices: what becomes final between the two lists is on one of them for certain.
    """
    try:
        nameless = 0
        for page in _pages(context, found, InvoiceStatus.PENDING, since):
            found.unclear.update(page.ids)
            nameless += page.nameless
        found.is_pending_known = nameless == 0
    except _NoList as refusal:
        log.warning("strike's list of pending invoices cannot be read error=%s", refusal.error.message)


def _sweep_somehow(context: SettlementContext, found: Sweep, since: datetime, calls_left: Callable[[], int]) -> None:
    nameless = 0
    try:
        for page in _pages(context, found, InvoiceStatus.PAID, since):
            # Before anything is settled: a refund that is owed by it may have been sent by another copy.
            notice_fork(context.repository, page.invoices, context.clock())
            _settle_watched(context, found, page.ids)
            nameless += page.nameless
    except _NoList as refusal:
        log.warning("strike's list cannot be read, asking one by one error=%s", refusal.error.message)
    else:
        if nameless == 0:
            found.since = since
            return
        log.warning("strike's list has rows without an id, asking one by one count=%d", nameless)
    _sweep_one_by_one(context, found, calls_left() // SINGLE_READS_SHARE)


def _pages(context: SettlementContext, found: Sweep, status: InvoiceStatus, since: datetime) -> Iterator[InvoicePage]:
    """The invoices in a state, page by page, from the newest back to those made at `since`.

    Raises _NoList; StrikeError where single reads would fail too.
    """
    skip = 0
    known: set[str] = set()
    while True:
        page = _page(context, status, skip)
        if skip and known.issuperset(page.ids) and not page.is_last:
            raise _NoList(StrikeAmbiguous("Strike's list repeats itself"))
        known.update(page.ids)
        found.unreadable += page.unreadable
        yield page
        if page.is_last or page.reaches(since):
            return
        skip += PAGE_SIZE


def _page(context: SettlementContext, status: InvoiceStatus, skip: int) -> InvoicePage:
    try:
        return context.strike.list_invoices(status, skip)
    except StrikeError as error:
        if _is_about_all_calls(error) or (isinstance(error, StrikeUnavailable) and error.status is None):
            raise
        raise _NoList(error) from error


def _end_cancelled(context: SettlementContext, found: Sweep) -> None:
    """Move to CANCELLED what Strike lists so, back to the oldest unpaid invoice: customers may be trying to pay it.

    No money depends on it: where the list cannot be had, it waits.
    """
    with context.repository.reading() as tx:
        since = tx.invoices.oldest_opened_at((InvoiceState.UNPAID,))
    if since is None or found.started_at - since < CANCELLED_AFTER:
        return
    # Its odd rows are no payments: they are not counted with those of the other lists.
    apart = Sweep(found.started_at, found.asked_at)
    try:
        for page in _pages(context, apart, InvoiceStatus.CANCELLED, since):
            # Of a row that cannot be read it is not known that it is cancelled.
            cancelled = [one.invoice_id for one in page.invoices if one.status is InvoiceStatus.CANCELLED]
            with context.repository.reading() as tx:
                watched = tx.invoices.watched_among(cancelled)
            _end(context, watched, InvoiceState.CANCELLED)
    except _NoList as refusal:
        log.warning("strike's list of cancelled invoices cannot be read error=%s", refusal.error.message)
    except StrikeError as error:
        log.warning("strike's list of cancelled invoices cannot be had error=%s", error.message)


def _settle_watched(context: SettlementContext, found: Sweep, listed: list[str]) -> None:
    with context.repository.reading() as tx:
        payable = tx.invoices.payable_among(listed)
        pruned = tx.pruned.unpaid_among(listed)
    try:
        _settle_each(context, found, [*payable, *pruned])
    finally:
        _note_unsettled(context, payable, found.started_at)


def _note_unsettled(context: SettlementContext, listed_paid: list[str], now: datetime) -> None:
    """Keep for the operator what Strike lists as paid and what still is not settled, for whatever reason."""
    with context.repository.reading() as tx:
        unsettled = tx.invoices.payable_among(listed_paid)
    if unsettled:
        log.error("payments listed by strike are not settled count=%d first=%s", len(unsettled), unsettled[0])
        with context.repository.transaction() as tx:
            tx.invoices.mark_listed_paid(unsettled, now)


def _sweep_one_by_one(context: SettlementContext, found: Sweep, limit: int) -> None:
    with context.repository.reading() as tx:
        ids = tx.invoices.least_recently_checked(limit)
    try:
        _settle_each(context, found, ids)
    finally:
        # Those that failed too: otherwise the next pass would begin with them again, and never come to the others.
        with context.repository.transaction() as tx:
            tx.invoices.mark_checked(found.looked_at, found.started_at)


def _settle_each(context: SettlementContext, found: Sweep, ids: list[str]) -> None:
    failed_in_a_row = 0
    for strike_invoice_id in ids:
        if context.stop.is_set():
            raise Stopping("asked to end")
        found.looked_at.add(strike_invoice_id)
        try:
            _count(found, strike_invoice_id, reconcile_invoice(context, strike_invoice_id))
            failed_in_a_row = 0
        except Exception as error:  # whatever is wrong with one invoice must not hold up the others
            log.exception("invoice could not be reconciled invoice_id=%s", strike_invoice_id)
            found.failed += 1
            found.unclear.add(strike_invoice_id)
            if _is_about_the_invoice(error):
                continue
            failed_in_a_row += 1
            if failed_in_a_row == MAX_CONSECUTIVE_FAILURES or _is_about_all_calls(error):
                raise


def _is_about_the_invoice(error: Exception) -> bool:
    """Whether others may well be read: this one makes no sense, is unknown at Strike, or meets a bug of ours."""
    return not isinstance(error, StrikeError) or isinstance(error, StrikeAmbiguous) or error.status == 404


def _is_about_all_calls(error: Exception) -> bool:
    """Whether the next call will fail for certain: the key is not accepted, or Strike asks to wait."""
    return isinstance(error, StrikeError) and (error.status == 401 or error.retry_after_seconds is not None)


def _count(found: Sweep, strike_invoice_id: str, outcome: Outcome) -> None:
    found.settled += outcome is Outcome.SETTLED
    found.paid_late += outcome is Outcome.PAID_LATE
    if outcome is Outcome.NOT_FINAL:
        found.unclear.add(strike_invoice_id)


def expire_due(context: SettlementContext, found: Sweep) -> int:
    """Move to EXPIRED what the sweep has not found paid, a little after its time to pay. Returns how many.

    Nothing where Strike's time is not known: our clock alone ends no invoice.
    """
    strikes_time = context.strike.time.certain(found.asked_at)
    if strikes_time is None:
        return 0
    with context.repository.reading() as tx:
        due = tx.invoices.to_expire(strikes_time - EXPIRE_MARGIN, MOST_ENDED)
    return _end(context, [one for one in due if found.clears(one)], InvoiceState.EXPIRED)


def lapse_due(context: SettlementContext, found: Sweep) -> int:
    """Move to LAPSED what the sweep has not found paid, well after it could be paid for the last time.

    Money that Strike has seen and not yet counted (PENDING) keeps its invoice. Returns how many; none where Strike's
    time is not known.
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
    is_moved = tx.invoices.move(invoice.id, invoice.state, new)
    if is_moved and new is InvoiceState.EXPIRED:
        owe_delivery(tx, context.events, EventType.INVOICE_EXPIRED, invoice, now)
    return is_moved


def _end(context: SettlementContext, due: list[Invoice], new: InvoiceState) -> int:
    ended = 0
    for start in range(0, len(due), BATCH):
        if context.stop.is_set():
            raise Stopping("asked to end")
        now = context.clock()
        with context.repository.transaction() as tx:
            for invoice in due[start : start + BATCH]:
                ended += _end_one(context, tx, invoice, new, now)
    if ended:
        log.info("invoices %s count=%d", new, ended)
    return ended
