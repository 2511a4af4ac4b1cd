"""Use cases: send refunds, each at most once, even if LNPay crashes at any point.

What guarantees "at most once", in the order in which it happens:
1. Each refund is one row, which has one quote at a time, requested under an idempotency key that is stored first.
   Before Strike is asked for the quote, that fact is stored too (asked_at).
2. The quote is stored before it is executed, in the commit that also marks it as possibly sent (is_in_doubt).
3. Strike pays a quote at most once, so executing the same quote again cannot pay twice: it reports what happened.
4. Only Strike's answer about that payment resolves the doubt. A new key requires a payment that FAILED, or a quote
   that was definitely not executed: refused on its first and only execution, as seen by the holder of the claim.
If even Strike's answers cannot resolve it, the refund stays in flight, with a reason for the operator.

All of this relies on the database remembering what was sent. A restore from a backup loses some of that: see
`after_restore`. A copy of the database that continues without the backup's mark is detected from Strike's answers:
every copy derives the same keys (`keys`), so a quote that none of this database's requests can have created belongs to
a refund that another copy may have sent. If the answer to one of the requests is unknown (lost, or its process
stopped), that request may have created the quote; then the account's payments decide (`paid_elsewhere`). They also
decide when Strike refuses a quote whose earlier executions did nothing: a copy may have executed it since.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from lnpay.deliveries.dispatcher import Dispatcher
from lnpay.domain.errors import StrikeAmbiguous, StrikeError, StrikeRejected, StrikeUnavailable
from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import Closer, HoldCause, RefundState, RefundStep
from lnpay.http.outgoing import Timeout
from lnpay.refunds.after_restore import QUOTES_LAST, why_doubted
from lnpay.refunds.destinations import why_lapsed
from lnpay.refunds.keys import next_key
from lnpay.refunds.outcomes import (
    ASKED_LONG_AGO,
    INVOICE_PAID,
    PAID_ELSEWHERE,
    PAUSES,
    STUCK,
    AskedToWait,
    NoAnswer,
    RefundSender,
    ask_for_address,
    fail,
    hold,
    hold_if_forked,
    put_off,
    reason_of,
    record,
    see_payment,
    sent,
    why_refused,
)
from lnpay.refunds.paid_elsewhere import may_be_paid_elsewhere
from lnpay.refunds.policy import why_held, why_held_before_quote, why_too_dear, why_unasked
from lnpay.refunds.received import status_at_strike
from lnpay.strike.answers import PaymentQuote
from lnpay.strike.client import DEFAULT_TIMEOUT
from lnpay.strike.failures import is_word_of_strike, named_in
from lnpay.strike.invoices import InvoiceStatus

log = logging.getLogger(__name__)


WAITING = (RefundState.REQUESTED, RefundState.QUOTED, RefundState.IN_FLIGHT, RefundState.FAILED)
"""The states in which a refund is due again after some time; the others wait for the operator or the customer."""

STARTING = (RefundState.REQUESTED, RefundState.QUOTED)
"""The states in which nothing can have been sent."""

CLAIM = timedelta(seconds=30)
"""How long a worker owns a refund: about as long as its two calls can take. If the worker dies, another one resumes
soon, usually while the quote is still valid. Two workers on one refund are safe: neither can send it twice.
"""

CLOCKS_DIFFER = timedelta(seconds=60)
"""How far the clocks of two machines may differ before each ignores the claims and pauses that the other wrote."""

FORGOTTEN_AFTER = timedelta(hours=6)
"""Longer than any pause: after this time another copy of the database may have continued a refund."""

EXECUTIONS_AT_ONCE = 3
"""How often to execute in a row: a lost answer is followed up at once, while Strike can say what became of the
quote.
"""

MAX_CONSECUTIVE_FAILURES = 3
"""If this many refunds in a row get no answer, the refunds are not the cause: the rest wait for the next pass."""

_ADDRESS_CODES = frozenset(
    {"INVALID_DATA", "NOT_FOUND", "UNPROCESSABLE_ENTITY", "INVALID_RECIPIENT", "INVALID_LN_INVOICE"}
    | {"UNSUPPORTED_PAYMENT_METHOD", "SELF_PAYMENT_NOT_ALLOWED", "AMOUNT_TOO_LOW", "AMOUNT_TOO_HIGH"}
    | {"INVALID_STATE_FOR_INVOICE_EXPIRED"}
)
"""Codes with which Strike refuses a quote that would succeed with another address."""

TAKEN_BACK = (InvoiceStatus.REVERSED, InvoiceStatus.CANCELLED)
"""The money of such an invoice is no longer in the account."""

NOTHING_OWED = "check in Strike's dashboard that the money is gone, then close it with python main.py refunds settle"

_IN_PROGRESS_CODES = frozenset({"PROCESSING_PAYMENT", "PROCESSING_CONFLICT"})
"""Strike is processing this very payment."""

_PROCESSED_CODES = frozenset({"PAYMENT_PROCESSED", "INVALID_STATE_FOR_INVOICE_PAID"})
"""An earlier execution went through; before July 2024 Strike said so with the second code."""


def send_due_refunds(sender: RefundSender, states: Collection[RefundState] = WAITING) -> Counter[str]:
    """Process every due refund in `states` as far as possible now. Returns how many ended up in each state.

    Stops early if Strike asks to wait or does not answer, or if `stop` is set.
    """
    counts: Counter[str] = Counter()
    unanswered = 0
    while not sender.stop.is_set() and unanswered < MAX_CONSECUTIVE_FAILURES:
        refund = _claim_next(sender, states)
        if refund is None:
            break
        try:
            counts[_advance(sender, refund)] += 1
            unanswered = 0
        except NoAnswer as error:
            counts["unanswered"] += 1
            unanswered = MAX_CONSECUTIVE_FAILURES if isinstance(error, AskedToWait) else unanswered + 1
        except Exception:  # one faulty refund must not block the others
            log.exception("refund failed unexpectedly refund_id=%d", refund.id)
            counts["error"] += 1
    return counts


def _claim_next(sender: RefundSender, states: Collection[RefundState]) -> Refund | None:
    now = sender.clock()
    with sender.repository.reading() as tx:
        latest = now + CLOCKS_DIFFER
        due = tx.refunds.due(states, now, 8, claims_end_by=latest + CLAIM, rests_end_by=latest + max(PAUSES))
    for refund in due:
        with sender.repository.transaction() as tx:
            claimed = tx.refunds.claim(refund, until=now + CLAIM)
        if claimed is not None:
            return claimed
    return None


def _is_claimed(refund: Refund, now: datetime) -> bool:
    until = refund.claimed_until
    return until is not None and now < until <= now + CLAIM + CLOCKS_DIFFER


def _advance(sender: RefundSender, refund: Refund) -> str:
    """Process one refund, whose claim we hold, as far as possible now. Returns its new state, or "taken"."""
    if refund.state is RefundState.IN_FLIGHT:
        after = _look_again(sender, refund)
    else:
        # A quote that is stored but not in flight was never executed, so nothing can have been sent.
        fresh = refund if refund.state is RefundState.REQUESTED else _start_over(sender, refund)
        after = None if fresh is None else _send(sender, fresh)
    return "taken" if after is None else after.state


def _start_over(sender: RefundSender, refund: Refund) -> Refund | None:
    """Move a refund that FAILED, or was QUOTED and never executed, back to REQUESTED, with a key that has no quote."""
    with sender.repository.transaction() as tx:
        invoice = tx.invoices.find(refund.invoice_id)
        assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
        return tx.refunds.start_over(refund, next_key(refund, invoice.strike_invoice_id))


def _send(sender: RefundSender, refund: Refund) -> Refund | None:
    """REQUESTED: get a quote under the stored key, and execute it unless a rule forbids that."""
    unasked = why_unasked(sender.rules, refund) or why_lapsed(refund, sender.clock())
    if unasked is not None:
        return ask_for_address(sender, refund, unasked)
    try:
        status = status_at_strike(sender, refund)
    except StrikeError as error:
        return put_off(sender, refund, RefundStep.LOOK, f"the invoice could not be read: {reason_of(error)}", error)
    if status in TAKEN_BACK:
        return hold(sender, refund, Hold(HoldCause.REVERSED, f"the invoice is {status} at Strike: {NOTHING_OWED}"))
    if status is not InvoiceStatus.PAID:
        return put_off(sender, refund, RefundStep.LOOK, f"the invoice is {status} at Strike at the moment")
    return _ask_and_start(sender, refund)


def _ask_and_start(sender: RefundSender, refund: Refund) -> Refund | None:
    """Get a quote and start sending, unless the refund needs the operator's approval first."""
    assert refund.address is not None  # noqa: S101 - the database has no REQUESTED refund without one
    with sender.repository.transaction() as tx:
        held = why_doubted(tx, refund) or why_held_before_quote(sender.rules, refund)
        asked = None if held is not None else tx.refunds.ask(refund, sender.clock())
    if held is not None:
        return hold(sender, refund, held)
    if asked is None:
        return None
    try:
        quote = sender.strike.create_payment_quote(refund.address, refund.amount_sats, refund.idempotency_key)
    except StrikeRejected as error:
        return _quote_refused(sender, refund, asked, error)
    except StrikeUnavailable as error:
        return put_off(sender, refund, RefundStep.QUOTE, reason_of(error), error)
    except StrikeError as error:
        return put_off(sender, asked, RefundStep.QUOTE, reason_of(error), error)
    return _start(sender, asked, quote)


def _quote_refused(sender: RefundSender, before: Refund, asked: Refund, error: StrikeRejected) -> Refund | None:
    """before: the refund before this attempt, because a refused request leaves no quote under its key."""
    if error.strike_code == "DUPLICATE_PAYMENT_QUOTE":
        return _first_quote(sender, before, asked, error)
    if error.strike_code == "LN_INVOICE_PROCESSED":
        return hold(sender, before, Hold(HoldCause.FORKED, INVOICE_PAID))
    if error.strike_code in _ADDRESS_CODES:
        return ask_for_address(sender, before, why_refused(error), error)
    return fail(sender, before, RefundStep.QUOTE, reason_of(error), error)


def _first_quote(sender: RefundSender, before: Refund, asked: Refund, error: StrikeRejected) -> Refund | None:
    """The key was used before. If our first answer was lost, continue with that quote, if Strike shows it.

    Reading a quote is not documented. If it cannot be read, its fee is unknown. This database never stored it and so
    never executed it: a new key is safe, unless another copy of the database has executed it. So it is held if Strike
    shows a payment that may be it, if the first request is long ago, or if none of ours can have created the quote.
    """
    forked = hold_if_forked(sender, asked, error)
    if forked is not None or before.asked_at is None:
        return forked
    asked = dataclasses.replace(asked, unanswered_quotes=asked.unanswered_quotes - 1)
    try:
        may_be_paid = may_be_paid_elsewhere(sender, asked)
    except StrikeError as unread:
        return put_off(sender, asked, RefundStep.QUOTE, reason_of(unread), unread)
    if may_be_paid:
        return hold(sender, asked, Hold(HoldCause.FORKED, PAID_ELSEWHERE))
    quote_id = named_in(error, "paymentQuoteId")
    try:
        if quote_id is not None:
            return _start(sender, asked, sender.strike.get_payment_quote(quote_id))
    except StrikeError as unread:
        log.info("first quote not readable refund_id=%d status=%s", asked.id, unread.status)
    if sender.clock() - before.asked_at >= FORGOTTEN_AFTER:
        return hold(sender, asked, Hold(HoldCause.FORKED, ASKED_LONG_AGO))
    reason = "the answer to the first quote was lost; a new quote is requested"
    return fail(sender, asked, RefundStep.QUOTE, reason, error)


def _start(sender: RefundSender, refund: Refund, quote: PaymentQuote) -> Refund | None:
    """Store the quote and, in the same commit, that it may have been executed, unless a rule forbids it; then execute
    it.

    In one commit, so that no copy of the database can hold a quote without knowing that it may have been executed.
    """
    if quote.amount_sats != refund.amount_sats:
        log.error("quote has wrong amount refund_id=%d amount_sats=%d", refund.id, quote.amount_sats)
        reason = f"Strike's quote sends {quote.amount_sats:,} sats instead of the {refund.amount_sats:,} owed"
        return fail(sender, refund, RefundStep.QUOTE, reason)
    now = sender.clock()
    with sender.repository.transaction() as tx:
        quoted = tx.refunds.store_quote(refund, quote.quote_id, quote.fee_sats)
        if quoted is None:
            return None
        too_dear = why_too_dear(sender.rules, quoted)
        held = None if too_dear is not None else why_held(tx, sender.rules, quoted, now)
        started = None if too_dear is not None or held is not None else tx.refunds.start(quoted, now)
    if too_dear is not None:
        return fail(sender, quoted, RefundStep.QUOTE, too_dear)
    if held is not None:
        return hold(sender, quoted, held)
    return None if started is None else _execute(sender, started)


def _look_again(sender: RefundSender, refund: Refund) -> Refund | None:
    """IN_FLIGHT: read the payment if its id is known; otherwise execute the same quote again: it cannot pay twice."""
    if refund.payment_id is not None:
        try:
            payment = sender.strike.get_payment(refund.payment_id)
        except StrikeError as error:
            return put_off(sender, refund, RefundStep.LOOK, reason_of(error), error)
        return record(sender, refund, payment, RefundStep.LOOK)
    executed_at = refund.executed_at or refund.started_at
    is_long_ago = executed_at is None or sender.clock() - executed_at >= FORGOTTEN_AFTER
    was_in_doubt = refund.is_in_doubt or is_long_ago
    with sender.repository.transaction() as tx:
        doubted = tx.refunds.doubt(refund, _last_execution(refund, sender.clock()))
    return None if doubted is None else _execute(sender, doubted, was_in_doubt=was_in_doubt, is_repeated=True)


def _last_execution(refund: Refund, now: datetime) -> datetime | None:
    """When it was last executed, including the execution that follows, unless the quote is too old to send anything:
    retries that Strike never answers would otherwise keep the operator from deciding the refund.
    """
    is_too_old = refund.started_at is not None and now - refund.started_at >= QUOTES_LAST
    return refund.executed_at if is_too_old else now


def _execute(
    sender: RefundSender, refund: Refund, *, was_in_doubt: bool = False, is_repeated: bool = False
) -> Refund | None:
    """Execute the quote. was_in_doubt: an earlier execution may have reached Strike. is_repeated: there was one."""
    assert refund.payment_quote_id is not None  # noqa: S101 - the database has no IN_FLIGHT refund without one
    for _ in range(EXECUTIONS_AT_ONCE):
        try:
            payment = sender.strike.execute_payment_quote(refund.payment_quote_id)
        except StrikeAmbiguous as error:
            was_in_doubt, lost = True, error
        except StrikeUnavailable as error:
            return _not_reached(sender, refund, error, was_in_doubt=was_in_doubt)
        except StrikeRejected as error:
            return _execution_refused(sender, refund, error, was_in_doubt=was_in_doubt, is_repeated=is_repeated)
        else:
            return record(sender, refund, payment, RefundStep.EXECUTE)
    return put_off(sender, refund, RefundStep.EXECUTE, reason_of(lost), lost)


def _not_reached(
    sender: RefundSender, refund: Refund, error: StrikeUnavailable, *, was_in_doubt: bool
) -> Refund | None:
    """This execution did nothing. If it was the only one, nothing can have been sent."""
    is_in_doubt = was_in_doubt or error.strike_code in _IN_PROGRESS_CODES
    return put_off(sender, refund, RefundStep.EXECUTE, reason_of(error), error, is_in_doubt=is_in_doubt)


def _execution_refused(
    sender: RefundSender, refund: Refund, error: StrikeRejected, *, was_in_doubt: bool, is_repeated: bool
) -> Refund | None:
    if error.strike_code in _PROCESSED_CODES:
        return _processed(sender, refund, error)
    if error.strike_code in _IN_PROGRESS_CODES:
        return put_off(sender, refund, RefundStep.EXECUTE, reason_of(error), error)
    if is_repeated and not was_in_doubt:
        # A copy of this database may have executed it in between.
        try:
            was_in_doubt = may_be_paid_elsewhere(sender, refund)
        except StrikeError as unread:
            return put_off(sender, refund, RefundStep.EXECUTE, reason_of(unread), unread, is_in_doubt=False)
    if was_in_doubt or not is_word_of_strike(error):
        # An earlier execution may have emptied the balance or outlived the quote: this refusal says nothing about it.
        is_stuck = error.strike_code == "PAYMENT_QUOTE_EXPIRED"
        reason = STUCK if is_stuck else reason_of(error)
        return put_off(sender, refund, RefundStep.EXECUTE, reason, error, is_stuck=is_stuck)
    return fail(sender, refund, RefundStep.EXECUTE, reason_of(error), error)


def _processed(sender: RefundSender, refund: Refund, error: StrikeRejected) -> Refund | None:
    """An earlier execution went through. Its payment's state decides; if Strike names none, infer that it was sent."""
    payment_id = named_in(error, "paymentId")
    if payment_id is None:
        return sent(sender, refund, None, RefundStep.EXECUTE, closed_by=Closer.INFERRED)
    seen = see_payment(sender, refund, payment_id)
    try:
        payment = sender.strike.get_payment(payment_id)
    except StrikeError as unread:
        return put_off(sender, seen, RefundStep.LOOK, reason_of(unread), unread)
    return record(sender, seen, payment, RefundStep.EXECUTE)


def reconcile_payment(
    sender: RefundSender, payment_id: str, *, timeout: Timeout = DEFAULT_TIMEOUT
) -> RefundState | None:
    """Read a payment that a webhook named. None unless it belongs to one of our refunds in flight.

    Raises StrikeError if Strike cannot say; StrikeUnavailable also while another worker holds that refund.
    """
    with sender.repository.transaction() as tx:
        refund = tx.refunds.find_by_payment(payment_id)
        if refund is None or refund.state is not RefundState.IN_FLIGHT:
            return None
        if _is_claimed(refund, sender.clock()):
            raise StrikeUnavailable("the refund is being processed", retry_after_seconds=3)
        claimed = tx.refunds.claim(refund, until=sender.clock() + CLAIM)
    if claimed is None:
        raise StrikeUnavailable("the refund is being processed", retry_after_seconds=3)
    try:
        payment = sender.strike.get_payment(payment_id, timeout=timeout)
    except StrikeError:
        with sender.repository.transaction() as tx:
            tx.refunds.release(claimed)
        raise
    after = record(sender, claimed, payment, RefundStep.WEBHOOK)
    return None if after is None else after.state


def refund_dispatcher(sender: RefundSender) -> Dispatcher:
    """The server's thread that sends refunds, so that they are sent even if no worker runs."""
    resting_until = sender.clock()

    def send() -> None:
        nonlocal resting_until
        if send_due_refunds(sender)["unanswered"]:
            # The other refunds that are due would get no answer now either.
            resting_until = sender.clock() + PAUSES[0]

    def next_due_at() -> datetime | None:
        with sender.repository.reading() as tx:
            due_at = tx.refunds.next_due_at(WAITING)
        return None if due_at is None else max(due_at, resting_until)

    return Dispatcher("refund dispatcher", send, next_due_at, sender.clock, sender.stop)
