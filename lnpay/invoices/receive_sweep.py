"""Find payments of receive requests, reading up to a hundred requests with one call.

Strike does not document how to filter by several ids, so one form of the filter is tried, then the other, then single
reads. If the answer contains other requests, Strike ignored the filter. An empty answer proves that nothing was paid
only if the form is known to work: Strike may have read only the first id, or taken them all for one unknown id. Such an
answer therefore ends no invoice until the form has returned payments of two requests in one answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from lnpay.domain.errors import Stopping, StrikeError
from lnpay.domain.states import EXPIRE_MARGIN, LAPSE_MARGIN, PAID, UNWATCHED, WATCHED, InvoiceState
from lnpay.invoices.receives import settle_page, settle_receives
from lnpay.invoices.settle import Outcome, SettlementContext
from lnpay.invoices.sweep_result import LAPSED_FOR, Sweep, is_about_all_calls, is_unreached, settle_each
from lnpay.strike.reading import READS_LAG
from lnpay.strike.receive_requests import MOST_IDS, ArrayForm
from lnpay.strike.receives import ReceivePage, ReceiveStatus, StrikeReceive

log = logging.getLogger(__name__)

MIN_BATCHES = 2
"""Calls that a pass may always make."""

CALLS_FOR_OTHERS = 600
"""How many of the calls that sweeps may make are reserved for new requests, beyond a pass's minimum."""

SHARE_OF_REST = 10
"""One pass may use one in this many of the remaining calls, so that some are left for the next passes."""

SINGLE_READS = 5
"""Single reads that a pass may make instead of each batch call, if batch calls do not work."""

MAX_PAGES = 5
"""Pages of payments read for one batch: a single customer can make any number of payments of one sat."""

UNCHECKED_FOR = timedelta(days=7)
"""Even without a webhook, a second payment is found unless the workers are down for longer than this."""

PROVEN_FOR = timedelta(days=1)
"""How long a form counts as working after it was last seen to work."""


class _Refused(Exception):
    """Strike rejects this form of the filter, or ignores it."""


def sweep_requests(
    context: SettlementContext, found: Sweep, calls_left: Callable[[], int], *, is_deep: bool, is_for_lapsed: bool
) -> None:
    """Settle the payments of receive requests, and record in `found` which requests are definitely unpaid.

    is_deep: also check expired and paid invoices, which may be paid late, or paid again.
    is_for_lapsed: also check those that ended up to three hours ago, or in the last week if no worker has checked them
    since.
    """
    batches = max(MIN_BATCHES, (calls_left() - CALLS_FOR_OTHERS) // SHARE_OF_REST)
    ids = _requests(context, found, batches * MOST_IDS, is_deep=is_deep, is_for_lapsed=is_for_lapsed)
    if not ids:
        return
    checked: set[str] = set()
    try:
        _sweep_all(context, found, ids, checked, most_alone=batches * SINGLE_READS)
    finally:
        # Only those that were read, so that the next pass begins with the others, even if these keep failing.
        checked |= found.looked_at.intersection(ids)
        with context.repository.transaction() as tx:
            # One that has ended is not checked again, so it counts as checked only if its payments are known and final.
            undecided = checked - found.looked_at | found.unclear.intersection(checked)
            watched = {one.strike_invoice_id for one in tx.invoices.watched_among(undecided)}
            # A Strike user may pay after the end, so it is checked once more when such payments no longer come.
            tx.invoices.mark_checked(checked - undecided | watched, found.started_at - READS_LAG - LAPSED_FOR)


def _sweep_all(context: SettlementContext, found: Sweep, ids: list[str], checked: set[str], *, most_alone: int) -> None:
    """Read these requests, and add those that were read in batches to `checked`."""
    forms = _forms_by_promise(context, found.started_at)
    for start in range(0, len(ids), MOST_IDS):
        if context.stop.is_set():
            raise Stopping("shutdown requested")
        batch = ids[start : start + MOST_IDS]
        if not _sweep_batch(context, found, batch, forms):
            break
        checked.update(batch)
    if forms:
        _prove_before_ending(context, found, ids, forms)
    unread = [one for one in ids if one not in found.looked_at]
    alone = unread if not forms else _not_to_be_missed(context, found, unread)
    settle_each(context, found, alone[:most_alone], lambda one: _settle_alone(context, found, one))


def _requests(context: SettlementContext, found: Sweep, limit: int, *, is_deep: bool, is_for_lapsed: bool) -> list[str]:
    now = found.started_at
    with context.repository.reading() as tx:
        ids = tx.receives.requests_in(WATCHED if is_deep else (InvoiceState.UNPAID,), limit)
        if is_deep:
            since = now - (LAPSED_FOR if is_for_lapsed else LAPSE_MARGIN)
            ids += tx.receives.requests_payable_since((*PAID, *UNWATCHED), since, limit)
        if is_for_lapsed:
            ids += tx.receives.requests_unchecked_since_end((*PAID, *UNWATCHED), now - UNCHECKED_FOR, limit)
    # The order is kept: those that may still be paid come first.
    return list(dict.fromkeys(ids))[:limit]


def _forms_by_promise(context: SettlementContext, now: datetime) -> list[ArrayForm]:
    """The forms to try, proven ones first."""
    return sorted(ArrayForm, key=lambda form: not _is_proven(context, form, now))


def _sweep_batch(context: SettlementContext, found: Sweep, ids: list[str], forms: list[ArrayForm]) -> bool:
    """Read one batch in the first form that works, and remove from `forms` those that do not. False if none works."""
    while forms:
        try:
            receives, unclear, is_whole = _read_batch(context, ids, forms[0])
        except _Refused as refusal:
            log.warning("strike does not take the filter form=%s reason=%s", forms[0], refusal)
            forms.pop(0)
            continue
        found.unclear |= unclear | _pending(receives)
        _settle_batch(context, found, receives)
        if not is_whole:
            # Payments may be missing, even for requests that show some: only a single read may end such an invoice.
            found.looked_at.difference_update(ids)
        elif _is_proven(context, forms[0], found.started_at):
            found.looked_at.update(ids)
        return True
    return False


def _read_batch(
    context: SettlementContext, ids: list[str], form: ArrayForm
) -> tuple[list[StrikeReceive], set[str], bool]:
    """The receives of these requests, the requests with unreadable ones, and whether all pages were read.

    Raises _Refused, StrikeError.
    """
    wanted = frozenset(ids)
    receives: dict[str, StrikeReceive] = {}
    unclear: set[str] = set()
    skip, is_whole = 0, False
    for _ in range(MAX_PAGES):
        page = _page(context, ids, form, skip)
        if not page.request_ids <= wanted:
            raise _Refused("the answer has other requests")
        if page.nameless:
            raise _Refused("the answer has receives without a request")
        new = {one.receive_id: one for one in page.receives if one.receive_id not in receives}
        if skip and not new and not page.is_last:
            raise _Refused("the answer repeats itself")
        receives.update(new)
        unclear |= page.unreadable_ids
        if is_whole := page.is_last:
            break
        skip = page.next_skip
    else:
        log.warning("more payments than %d pages hold, reading the rest later", MAX_PAGES)
    if len({one.request_id for one in receives.values()}) > 1:
        _remember_proof(context, form)
    return list(receives.values()), unclear, is_whole


def _page(context: SettlementContext, ids: list[str], form: ArrayForm, skip: int) -> ReceivePage:
    try:
        return context.strike.receive_requests.list_receives(ids, form, skip)
    except StrikeError as error:
        if is_about_all_calls(error) or is_unreached(error):
            raise
        raise _Refused(error.message) from error


def _settle_batch(context: SettlementContext, found: Sweep, receives: list[StrikeReceive]) -> None:
    by_request: dict[str, list[StrikeReceive]] = {}
    for one in receives:
        by_request.setdefault(one.request_id, []).append(one)
    settle_each(context, found, list(by_request), lambda one: settle_receives(context, one, by_request[one]))


def _settle_alone(context: SettlementContext, found: Sweep, request_id: str) -> Outcome:
    page = context.strike.receive_requests.receives_of(request_id)
    found.unclear |= _pending(page.receives)
    return settle_page(context, request_id, page)


def _pending(receives: list[StrikeReceive]) -> set[str]:
    """The requests with a payment that is not final."""
    return {one.request_id for one in receives if one.status is ReceiveStatus.PENDING}


def _is_proven(context: SettlementContext, form: ArrayForm, now: datetime) -> bool:
    with context.repository.reading() as tx:
        proven_at = tx.limits.milestone(_milestone(form))
    return proven_at is not None and timedelta() <= now - proven_at < PROVEN_FOR


def _remember_proof(context: SettlementContext, form: ArrayForm) -> None:
    now = context.clock()
    # Before the proof expires, so that a form that still works stays proven.
    if not _is_proven(context, form, now + PROVEN_FOR / 2):
        with context.repository.transaction() as tx:
            tx.limits.reach_milestone(_milestone(form), now)


def _milestone(form: ArrayForm) -> str:
    return f"receives_by_{form}"


def _ending_among(context: SettlementContext, found: Sweep, ids: list[str]) -> list[str]:
    """Those of `ids` whose invoices are due to end, if Strike's time is known."""
    strikes_time = context.strike.time.certain(found.asked_at)
    if strikes_time is None or not ids:
        return []
    with context.repository.reading() as tx:
        due = tx.receives.requests_to_end(strikes_time - EXPIRE_MARGIN, strikes_time - LAPSE_MARGIN, len(ids))
    return [one for one in due if one in set(ids)]


def _not_to_be_missed(context: SettlementContext, found: Sweep, ids: list[str]) -> list[str]:
    """Those of `ids` to read one by one while no form is proven: requests that are due to end, or have ended.

    A request that has ended may be paid again, but is checked for a short time only.
    """
    ending = _ending_among(context, found, ids)
    with context.repository.reading() as tx:
        watched = {one.strike_invoice_id for one in tx.invoices.watched_among(ids)}
    return [*ending, *(one for one in ids if one not in watched and one not in ending)]


def _prove_before_ending(context: SettlementContext, found: Sweep, ids: list[str], forms: list[ArrayForm]) -> None:
    """If invoices are due to end and no form is proven, test each form on two requests with known payments.

    Theirs are the first and the last id of the call: if Strike reads only one of the ids, it returns at most one of
    them.
    """
    is_proven = any(_is_proven(context, form, found.started_at) for form in forms)
    if is_proven or not _ending_among(context, found, ids):
        return
    with context.repository.reading() as tx:
        paid = tx.receives.newest_paid_requests(2)
    for form in forms if len(paid) > 1 else ():
        try:
            _read_batch(context, [paid[0], *ids[: MOST_IDS - 2], paid[1]], form)
        except _Refused as refusal:
            log.warning("strike does not take the filter form=%s reason=%s", form, refusal)
