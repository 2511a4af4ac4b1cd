"""Use cases: give back what came too late, at most once, whatever crashes.

What makes it at most once, in the order in which it happens:
1. There is one row per invoice, and each row has one quote at a time, priced under an idempotency key stored before.
   That Strike is asked under it is stored too, before the call (asked_at).
2. The quote is stored before it is executed, in the commit that also says "may have been sent" (is_in_doubt).
3. One quote pays at most once at Strike, so executing the same quote again asks more than it does.
4. Only what Strike says of that payment ends the doubt. A new key needs a payment that FAILED, or a quote that was
   surely never executed: refused in its first and only execution, as told by whoever still holds the claim.
What even Strike's answers cannot settle stays in flight, with a reason for the operator.

All of this rests on nothing being forgotten. After a restore from a backup something is: see `restored`. Of a copy of
the database that goes on without a mark, Strike's answers tell: every copy uses the same keys (`refunds_keys`), and a
key that Strike knows and this database never used belongs to a refund that another copy may have sent. What remains is
a copy taken in the moment between the commit of `asked_at` and that of the quote, and put back within FORGOTTEN_AFTER.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

from lnpay.deliveries.dispatcher import Dispatcher
from lnpay.domain.errors import (
    StrikeAmbiguous,
    StrikeError,
    StrikeRejected,
    StrikeUnavailable,
)
from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import (
    Closer,
    HoldCause,
    RefundState,
    RefundStep,
)
from lnpay.http.outgoing import Timeout
from lnpay.refunds.after_restore import QUOTES_LAST, why_doubted
from lnpay.refunds.keys import next_key
from lnpay.refunds.outcomes import (
    ASKED_LONG_AGO,
    PAUSES,
    STUCK,
    AskedToWait,
    NoAnswer,
    RefundSender,
    ask_for_address,
    fail,
    hold,
    hold_forked,
    put_off,
    reason_of,
    record,
    see_payment,
    sent,
    why_refused,
)
from lnpay.refunds.policy import (
    why_held,
    why_held_before_quote,
    why_too_dear,
    why_unasked,
)
from lnpay.strike.client import (
    DEFAULT_TIMEOUT,
    WEBHOOK_TIMEOUT,
    PaymentQuote,
    named_in,
)
from lnpay.strike.invoices import InvoiceStatus

log = logging.getLogger(__name__)

S = RefundState

WAITING = (S.REQUESTED, S.QUOTED, S.IN_FLIGHT, S.FAILED)
"""The states in which time alone moves a refund on; the others wait for a person or for the customer."""

STARTING = (S.REQUESTED, S.QUOTED)
"""The states in which nothing can have been sent yet."""

CLAIM = timedelta(seconds=30)
"""How long a refund is ours: about as long as its two calls can take. What a process that died has begun is taken up
then, while its quote is mostly still valid; should two work on one refund, neither can do what the other may not."""

CLOCKS_DIFFER = timedelta(seconds=60)
"""By so much may the clocks of two machines differ before one ignores the claims and pauses that the other writes."""

FORGOTTEN_AFTER = timedelta(hours=6)
"""What this database did last so long ago, another copy of it may have gone on with: each pause is shorter."""

EXECUTIONS_AT_ONCE = 3
"""A lost answer is asked for again at once, while the quote is still valid and Strike can say what became of it."""

MAX_CONSECUTIVE_FAILURES = 3
"""So many refunds in a row without an answer are not about the refunds any more: the rest waits for the next pass."""

_ADDRESS_CODES = frozenset(
    {"INVALID_DATA", "NOT_FOUND", "UNPROCESSABLE_ENTITY", "INVALID_RECIPIENT", "INVALID_LN_INVOICE"}
    | {"UNSUPPORTED_PAYMENT_METHOD", "SELF_PAYMENT_NOT_ALLOWED", "AMOUNT_TOO_LOW", "AMOUNT_TOO_HIGH"}
)
"""Refusals of a quote that another address would resolve."""

TAKEN_BACK = (InvoiceStatus.REVERSED, InvoiceStatus.CANCELLED)
"""The money of such an invoice is no longer in the account."""

NOTHING_OWED = "check in Strike's dashboard that the money is gone, then close it with python main.py refunds settle"

_IN_PROGRESS_CODES = frozenset({"PROCESSING_PAYMENT", "PROCESSING_CONFLICT"})
"""Strike is working on this very payment."""


def send_due_refunds(sender: RefundSender, states: Collection[RefundState] = WAITING) -> Counter[str]:
    """Take every due refund in `states` as far as it gets now. Returns how many came to rest in which state.

    Ends early when Strike asks to wait or does not answer, or `stop` is set.
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
        except Exception:  # whatever is wrong with one refund must not hold up the others
            log.exception("refund could not be worked on refund_id=%d", refund.id)
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
    """Take one refund, which we hold, as far as it gets now. Returns the state it rests in, or "taken"."""
    if refund.state is S.IN_FLIGHT:
        after = _look_again(sender, refund)
    else:
        # A quote that is stored and not in flight was not executed: there is no doubt, and no need for it.
        fresh = refund if refund.state is S.REQUESTED else _begin_anew(sender, refund)
        after = None if fresh is None else _send(sender, fresh)
    return "taken" if after is None else after.state


def _begin_anew(sender: RefundSender, refund: Refund) -> Refund | None:
    """FAILED, or QUOTED and not executed, becomes REQUESTED: without a quote, under a key that has none."""
    with sender.repository.transaction() as tx:
        invoice = tx.invoices.find(refund.invoice_id)
        assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
        return tx.refunds.begin_anew(refund, next_key(refund, invoice.strike_invoice_id))


def _send(sender: RefundSender, refund: Refund) -> Refund | None:
    """REQUESTED: ask what it costs under the stored key, and send it when nothing speaks against it."""
    unasked = why_unasked(sender.rules, refund)
    if unasked is not None:
        return ask_for_address(sender, refund, unasked)
    try:
        status = _status_at_strike(sender, refund)
    except StrikeError as error:
        return put_off(sender, refund, RefundStep.LOOK, f"its payment could not be read: {reason_of(error)}", error)
    if status in TAKEN_BACK:
        return hold(sender, refund, Hold(HoldCause.REVERSED, f"Strike shows its payment as {status}: {NOTHING_OWED}"))
    if status is not InvoiceStatus.PAID:
        return put_off(sender, refund, RefundStep.LOOK, f"Strike shows its payment as {status} at this moment")
    return _ask_and_start(sender, refund)


def _ask_and_start(sender: RefundSender, refund: Refund) -> Refund | None:
    """Ask for a quote, unless a person has to approve the refund, and start sending it."""
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


def _status_at_strike(sender: RefundSender, refund: Refund) -> InvoiceStatus:
    """How the payment that is refunded stands now: what Strike has taken back must not be sent as well."""
    with sender.repository.reading() as tx:
        invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    return sender.strike.get_invoice(invoice.strike_invoice_id, timeout=WEBHOOK_TIMEOUT).status


def _quote_refused(sender: RefundSender, before: Refund, asked: Refund, error: StrikeRejected) -> Refund | None:
    """before: the refund as it was before it was asked about: whoever was refused has no quote under its key."""
    if error.strike_code == "DUPLICATE_PAYMENT_QUOTE":
        return _first_quote(sender, before, asked, error)
    if error.strike_code in _ADDRESS_CODES:
        return ask_for_address(sender, before, why_refused(error), error)
    return fail(sender, before, RefundStep.QUOTE, reason_of(error), error)


def _first_quote(sender: RefundSender, before: Refund, asked: Refund, error: StrikeRejected) -> Refund | None:
    """The key was used. An answer that was lost leads back to its quote, where Strike shows it.

    Reading a quote is not documented. Where it cannot be read, its fee is unknown, and as nobody here has stored it,
    nobody here has executed it: a new key is safe. That is no longer sure of an answer that was lost long ago, and
    never of a key that this database did not use: another copy of the database may have gone on with that quote.
    """
    if before.asked_at is None:
        return hold_forked(sender, asked, error)
    quote_id = named_in(error, "paymentQuoteId")
    try:
        if quote_id is not None:
            return _start(sender, asked, sender.strike.get_payment_quote(quote_id))
    except StrikeError as unread:
        log.info("first quote cannot be read status=%s", unread.status)
    if sender.clock() - before.asked_at >= FORGOTTEN_AFTER:
        return hold(sender, asked, Hold(HoldCause.FORKED, ASKED_LONG_AGO))
    reason = "the answer to the first quote was lost; a new one is asked for"
    return fail(sender, asked, RefundStep.QUOTE, reason, error)


def _start(sender: RefundSender, refund: Refund, quote: PaymentQuote) -> Refund | None:
    """Store the quote, and in the same commit that it may be executed, if nothing speaks against it; then execute it.

    One commit: a copy of the database never has a quote of which it does not know that it may have been executed.
    """
    if quote.amount_sats != refund.amount_sats:
        log.error("quote of a wrong amount refund_id=%d amount_sats=%d", refund.id, quote.amount_sats)
        reason = f"Strike's quote sends {quote.amount_sats:,} sats, which is not what is owed"
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
    return None if started is None else _execute(sender, started, was_in_doubt=False)


def _look_again(sender: RefundSender, refund: Refund) -> Refund | None:
    """IN_FLIGHT: ask about the payment where we know it, otherwise execute the same quote again."""
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
    return None if doubted is None else _execute(sender, doubted, was_in_doubt=was_in_doubt)


def _last_execution(refund: Refund, now: datetime) -> datetime | None:
    """When it was last executed, as of an execution now. One whose quote is too old to send anything does not count:
    otherwise the looks at a refund that Strike does not answer for would keep a person from it for good."""
    is_too_old = refund.started_at is not None and now - refund.started_at >= QUOTES_LAST
    return refund.executed_at if is_too_old else now


def _execute(sender: RefundSender, refund: Refund, *, was_in_doubt: bool) -> Refund | None:
    """Tell Strike to send it. was_in_doubt: an earlier execution of this quote may have reached Strike."""
    assert refund.payment_quote_id is not None  # noqa: S101 - the database has no IN_FLIGHT refund without one
    for _ in range(EXECUTIONS_AT_ONCE):
        try:
            payment = sender.strike.execute_payment_quote(refund.payment_quote_id)
        except StrikeAmbiguous as error:
            was_in_doubt, lost = True, error
        except StrikeUnavailable as error:
            return _not_reached(sender, refund, error, was_in_doubt=was_in_doubt)
        except StrikeRejected as error:
            return _execution_refused(sender, refund, error, was_in_doubt=was_in_doubt)
        else:
            return record(sender, refund, payment, RefundStep.EXECUTE)
    return put_off(sender, refund, RefundStep.EXECUTE, reason_of(lost), lost)


def _not_reached(
    sender: RefundSender, refund: Refund, error: StrikeUnavailable, *, was_in_doubt: bool
) -> Refund | None:
    """This execution did nothing. If it was the only one, the doubt ends with it."""
    is_in_doubt = was_in_doubt or error.strike_code in _IN_PROGRESS_CODES
    return put_off(sender, refund, RefundStep.EXECUTE, reason_of(error), error, is_in_doubt=is_in_doubt)


def _execution_refused(
    sender: RefundSender, refund: Refund, error: StrikeRejected, *, was_in_doubt: bool
) -> Refund | None:
    if error.strike_code == "PAYMENT_PROCESSED":
        return _processed(sender, refund, error)
    if error.strike_code in _IN_PROGRESS_CODES:
        return put_off(sender, refund, RefundStep.EXECUTE, reason_of(error), error)
    if was_in_doubt or not _is_word_of_strike(error):
        # An earlier execution may have emptied the balance, or aged the quote: this refusal says nothing about it.
        is_stuck = error.strike_code == "PAYMENT_QUOTE_EXPIRED"
        reason = STUCK if is_stuck else reason_of(error)
        return put_off(sender, refund, RefundStep.EXECUTE, reason, error, is_stuck=is_stuck)
    return fail(sender, refund, RefundStep.EXECUTE, reason_of(error), error)


def _is_word_of_strike(error: StrikeRejected) -> bool:
    """Whether a refusal says why. One whose text was cut off, or comes from a proxy, may hide PAYMENT_PROCESSED."""
    is_front_door = error.status in (401, 403)
    return bool(error.strike_code) or is_front_door


def _processed(sender: RefundSender, refund: Refund, error: StrikeRejected) -> Refund | None:
    """An earlier execution was carried out. Its payment's state decides; where Strike names none, it is inferred."""
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
    """Ask Strike about a payment of which a webhook told. None when it is no refund of ours that is in flight.

    Raises StrikeError when Strike cannot tell; StrikeUnavailable also when somebody else is working on that refund.
    """
    with sender.repository.transaction() as tx:
        refund = tx.refunds.find_by_payment(payment_id)
        if refund is None or refund.state is not S.IN_FLIGHT:
            return None
        if _is_claimed(refund, sender.clock()):
            raise StrikeUnavailable("the refund is being worked on", retry_after_seconds=3)
        claimed = tx.refunds.claim(refund, until=sender.clock() + CLAIM)
    if claimed is None:
        raise StrikeUnavailable("the refund is being worked on", retry_after_seconds=3)
    try:
        payment = sender.strike.get_payment(payment_id, timeout=timeout)
    except StrikeError:
        with sender.repository.transaction() as tx:
            tx.refunds.release(claimed)
        raise
    after = record(sender, claimed, payment, RefundStep.WEBHOOK)
    return None if after is None else after.state


def refund_dispatcher(sender: RefundSender) -> Dispatcher:
    """The server's thread that sends refunds, also where no worker runs."""
    resting_until = sender.clock()

    def send() -> None:
        nonlocal resting_until
        if send_due_refunds(sender)["unanswered"]:
            # The others that are due would not be answered at this moment either.
            resting_until = sender.clock() + PAUSES[0]

    def next_due_at() -> datetime | None:
        with sender.repository.reading() as tx:
            due_at = tx.refunds.next_due_at(WAITING)
        return None if due_at is None else max(due_at, resting_until)

    return Dispatcher("refund dispatcher", send, next_due_at, sender.clock, sender.stop)
