"""Use cases: give back what came too late, at most once, whatever crashes.

What makes it at most once, in the order in which it happens:
1. There is one row per invoice, and each row has one quote at a time, priced under an idempotency key stored before.
2. The quote is stored before it is executed, in the commit that also says "may have been sent" (is_in_doubt).
3. One quote pays at most once at Strike, so executing the same quote again asks more than it does.
4. Only what Strike says of that payment ends the doubt. A new key needs a payment that FAILED, or a quote that was
   surely never executed: refused in its first and only execution, as told by whoever still holds the claim.
What even Strike's answers cannot settle stays in flight, with a reason for the operator.

All of this rests on nothing being forgotten. After a restore from a backup something is: see `restored`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from lnpay.dispatcher import Dispatcher
from lnpay.errors import StrikeAmbiguous, StrikeError, StrikeRejected, StrikeUnavailable
from lnpay.events import EventType
from lnpay.model import Clock, Refund
from lnpay.outbox import owe_delivery
from lnpay.outgoing import Timeout
from lnpay.repository import Repository, Transaction
from lnpay.restored import why_doubted
from lnpay.states import RefundState
from lnpay.strike import PATIENT, Payment, PaymentQuote, PaymentStatus, Strike, named_in

log = logging.getLogger(__name__)

S = RefundState

WAITING = (S.REQUESTED, S.QUOTED, S.IN_FLIGHT, S.FAILED)
"""The states in which time alone moves a refund on; the others wait for a person or for the customer."""

STARTING = (S.REQUESTED, S.QUOTED)
"""The states in which nothing can have been sent yet."""

PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 10, 30, 60, 300, 900, 1_800, 3_600))
"""Pauses after the first, second, ... failure or look; the last one for ever after."""

CLAIM = timedelta(seconds=30)
"""How long a refund is ours: about as long as its two calls can take. What a process that died has begun is taken up
then, while its quote is mostly still valid; should two work on one refund, neither can do what the other may not."""

EXECUTIONS_AT_ONCE = 3
"""A lost answer is asked for again at once, while the quote is still valid and Strike can say what became of it."""

PATIENCE = 3
"""So many refunds in a row without an answer are not about the refunds any more: the rest waits for the next pass."""

FREE_FEE_SATS = 10
"""A fee up to this is never too dear: percents of a small refund are less than any route costs."""

DAY = timedelta(hours=24)

_ADDRESS_CODES = frozenset(
    {"INVALID_DATA", "NOT_FOUND", "UNPROCESSABLE_ENTITY", "INVALID_RECIPIENT", "INVALID_LN_INVOICE"}
    | {"UNSUPPORTED_PAYMENT_METHOD", "SELF_PAYMENT_NOT_ALLOWED", "AMOUNT_TOO_LOW", "AMOUNT_TOO_HIGH"}
)
"""Refusals of a quote that another address would mend."""

_IN_PROGRESS_CODES = frozenset({"PROCESSING_PAYMENT", "PROCESSING_CONFLICT"})
"""Strike is working on this very payment."""

_REASONS: Mapping[str | None, str] = {
    "BALANCE_TOO_LOW": "the balance at Strike is too low: add bitcoin to the account",
    "LN_ROUTE_NOT_FOUND": "no route to the customer's wallet was found; it is often there later",
    "PAYMENT_QUOTE_EXPIRED": "the quote had expired before it was used; a new one is asked for",
    "UNAUTHORIZED": "Strike does not accept STRIKE_API_KEY",
    "FORBIDDEN": "STRIKE_API_KEY lacks a scope: partner.payment-quote.lightning.create, "
    "partner.payment-quote.execute and partner.payment.read are needed",
    "AMOUNT_TOO_LOW": "the customer's wallet does not take so small an amount: it needs another address",
    "AMOUNT_TOO_HIGH": "the customer's wallet does not take so large an amount: it needs another address",
}
"""Strike's codes in the operator's words."""

STUCK = (
    "Strike was told to send it and cannot say any more whether it did. Look for the payment in Strike's dashboard, "
    "then say so with: python main.py refunds settle, or refunds retry"
)
"""What a person is to do with what Strike's answers cannot settle."""


@dataclass(frozen=True)
class RefundRules:
    """What the settings say. max_sats and daily_max_sats: above them a person approves; None: no limit."""

    is_enabled: bool
    max_fee_percent: Decimal
    max_sats: int | None
    daily_max_sats: int | None


@dataclass(frozen=True)
class RefundDesk:
    """What it takes to send refunds. `events` are the types that the shop wants to be told."""

    repository: Repository
    strike: Strike
    clock: Clock
    events: frozenset[str]
    rules: RefundRules
    stop: threading.Event


class _NoAnswer(Exception):
    """Strike could not be asked, or did not answer; the refund is put off."""


class _AskedToWait(_NoAnswer):
    """Strike asks everybody to wait, so that the other refunds need not be tried now."""


def send_due_refunds(desk: RefundDesk, states: Collection[RefundState] = WAITING) -> Counter[str]:
    """Take every due refund in `states` as far as it gets now. Returns how many came to rest in which state.

    Ends early when Strike asks to wait or does not answer, or `stop` is set.
    """
    counts: Counter[str] = Counter()
    unanswered = 0
    while not desk.stop.is_set() and unanswered < PATIENCE:
        refund = _claim_next(desk, states)
        if refund is None:
            break
        try:
            counts[_advance(desk, refund)] += 1
            unanswered = 0
        except _NoAnswer as error:
            counts["unanswered"] += 1
            unanswered = PATIENCE if isinstance(error, _AskedToWait) else unanswered + 1
        except Exception:  # whatever is wrong with one refund must not hold up the others
            log.exception("refund could not be worked on refund_id=%d", refund.id)
            counts["error"] += 1
    return counts


def _claim_next(desk: RefundDesk, states: Collection[RefundState]) -> Refund | None:
    now = desk.clock()
    with desk.repository.reading() as tx:
        due = tx.refunds.due(states, now, limit=8)
    for refund in due:
        with desk.repository.transaction() as tx:
            claimed = tx.refunds.claim(refund, until=now + CLAIM)
        if claimed is not None:
            return claimed
    return None


def _advance(desk: RefundDesk, refund: Refund) -> str:
    """Take one refund, which we hold, as far as it gets now. Returns the state it rests in, or "taken"."""
    if refund.state is S.IN_FLIGHT:
        after = _look_again(desk, refund)
    else:
        # A quote of another process, or of before a crash, was not executed: there is no doubt, and no need for it.
        fresh = refund if refund.state is S.REQUESTED else _begin_anew(desk, refund)
        quoted = None if fresh is None else _price(desk, fresh)
        after = _start(desk, quoted) if quoted is not None and quoted.state is S.QUOTED else quoted
    return "taken" if after is None else after.state


def _begin_anew(desk: RefundDesk, refund: Refund) -> Refund | None:
    """FAILED, or QUOTED and not executed, becomes REQUESTED: with a new key and without a quote."""
    with desk.repository.transaction() as tx:
        return tx.refunds.move(refund, S.REQUESTED, **fresh_try())


def fresh_try() -> dict[str, object]:
    """Columns of a refund that begins anew, when it is sure that nothing was sent."""
    return {
        "idempotency_key": str(uuid.uuid4()),
        "payment_quote_id": None,
        "fee_sats": None,
        "payment_id": None,
        "is_in_doubt": False,
        "looks": 0,
    }


def _price(desk: RefundDesk, refund: Refund) -> Refund | None:
    """REQUESTED becomes QUOTED: ask what it costs under the stored key, and store the answer. Moves no money."""
    assert refund.address is not None  # noqa: S101 - the database has no REQUESTED refund without one
    with desk.repository.reading() as tx:
        doubt = why_doubted(tx, refund)
    held = doubt or _why_held_before_quote(desk, refund)
    if held is not None:
        return _hold(desk, refund, held)
    try:
        quote = desk.strike.create_payment_quote(refund.address, refund.amount_sats, refund.idempotency_key)
    except StrikeRejected as error:
        return _quote_refused(desk, refund, error)
    except StrikeError as error:
        return _put_off(desk, refund, "quote", _reason_of(error), error)
    return _store_quote(desk, refund, quote)


def _store_quote(desk: RefundDesk, refund: Refund, quote: PaymentQuote) -> Refund | None:
    if quote.amount_sats != refund.amount_sats:
        log.error("quote of a wrong amount refund_id=%d amount_sats=%d", refund.id, quote.amount_sats)
        return _fail(desk, refund, "quote", f"Strike's quote sends {quote.amount_sats} sats, which is not what is owed")
    with desk.repository.transaction() as tx:
        return tx.refunds.move(refund, S.QUOTED, payment_quote_id=quote.quote_id, fee_sats=quote.fee_sats)


def _quote_refused(desk: RefundDesk, refund: Refund, error: StrikeRejected) -> Refund | None:
    if error.strike_code == "DUPLICATE_PAYMENT_QUOTE":
        return _first_quote(desk, refund, error)
    if error.strike_code in _ADDRESS_CODES:
        return _ask_for_address(desk, refund, error)
    return _fail(desk, refund, "quote", _reason_of(error), error)


def _ask_for_address(desk: RefundDesk, refund: Refund, error: StrikeRejected) -> Refund | None:
    reason = _REASONS.get(error.strike_code, "Strike refuses the customer's address: it needs another one")
    with desk.repository.transaction() as tx:
        asking = tx.refunds.move(refund, S.NEEDS_ADDRESS, reason=reason, claimed_until=None)
        if asking is not None:
            _note(tx, desk, asking, "quote", reason, error)
            _owe(tx, desk, EventType.REFUND_NEEDS_ADDRESS, asking)
    log.warning("refund needs another address refund_id=%d code=%s", refund.id, error.strike_code)
    return asking


def _first_quote(desk: RefundDesk, refund: Refund, error: StrikeRejected) -> Refund | None:
    """The key was used, so its first quote's answer was lost. It leads back to that quote, where Strike shows it.

    Reading a quote is not documented. Where it cannot be read, its fee is unknown, and as nobody has stored it, nobody
    has executed it: a new key is safe.
    """
    quote_id = named_in(error, "paymentQuoteId")
    try:
        if quote_id is not None:
            return _store_quote(desk, refund, desk.strike.get_payment_quote(quote_id))
    except StrikeError as unread:
        log.info("first quote cannot be read status=%s", unread.status)
    reason = "the answer to the first quote was lost; a new one is asked for"
    return _fail(desk, refund, "quote", reason, error)


def _start(desk: RefundDesk, refund: Refund) -> Refund | None:
    """QUOTED becomes IN_FLIGHT, if nothing speaks against it; then it is executed."""
    now = desk.clock()
    too_dear = _why_too_dear(desk, refund)
    if too_dear is not None:
        return _fail(desk, refund, "quote", too_dear)
    with desk.repository.transaction() as tx:
        held = _why_held(tx, desk, refund, now)
        started = None
        if held is None:
            started = tx.refunds.move(refund, S.IN_FLIGHT, is_in_doubt=True, started_at=now, looks=0)
    if held is not None:
        return _hold(desk, refund, held)
    return None if started is None else _execute(desk, started, was_in_doubt=False)


def _why_too_dear(desk: RefundDesk, refund: Refund) -> str | None:
    fee_sats = refund.fee_sats or 0
    percent = Decimal(refund.amount_sats) * desk.rules.max_fee_percent / 100
    most = max(FREE_FEE_SATS, int(percent.to_integral_value(rounding=ROUND_FLOOR)))
    if fee_sats <= most:
        return None
    return f"the fee of {fee_sats} sats is above the {most} sats that REFUND_MAX_FEE_PERCENT allows"


def _why_held_before_quote(desk: RefundDesk, refund: Refund) -> str | None:
    if refund.approved_at is not None:
        return None
    if not desk.rules.is_enabled:
        return "REFUNDS_ENABLED is off: a person approves each refund"
    if desk.rules.max_sats is not None and refund.amount_sats > desk.rules.max_sats:
        return f"{refund.amount_sats} sats are above REFUND_MAX_SATS: a person approves it"
    return None


def _why_held(tx: Transaction, desk: RefundDesk, refund: Refund, now: datetime) -> str | None:
    most = desk.rules.daily_max_sats
    if refund.approved_at is not None or most is None:
        return _why_held_before_quote(desk, refund)
    if tx.refunds.started_sats(now - DAY) + refund.amount_sats > most:
        return "REFUND_DAILY_MAX_SATS is reached: a person approves it"
    return _why_held_before_quote(desk, refund)


def _hold(desk: RefundDesk, refund: Refund, reason: str) -> Refund | None:
    with desk.repository.transaction() as tx:
        held = tx.refunds.move(refund, S.HELD, reason=reason, claimed_until=None)
        if held is not None:
            _note(tx, desk, held, "hold", reason)
    log.warning("refund held refund_id=%d reason=%s", refund.id, reason)
    return held


def _look_again(desk: RefundDesk, refund: Refund) -> Refund | None:
    """IN_FLIGHT: ask about the payment where we know it, otherwise execute the same quote again."""
    if refund.payment_id is not None:
        try:
            payment = desk.strike.get_payment(refund.payment_id)
        except StrikeError as error:
            return _put_off(desk, refund, "look", _reason_of(error), error)
        return _record(desk, refund, payment, "look")
    was_in_doubt = refund.is_in_doubt
    with desk.repository.transaction() as tx:
        doubted = tx.refunds.change(refund, is_in_doubt=True)
    return None if doubted is None else _execute(desk, doubted, was_in_doubt=was_in_doubt)


def _execute(desk: RefundDesk, refund: Refund, *, was_in_doubt: bool) -> Refund | None:
    """Tell Strike to send it. was_in_doubt: an earlier execution of this quote may have reached Strike."""
    assert refund.payment_quote_id is not None  # noqa: S101 - the database has no IN_FLIGHT refund without one
    for _ in range(EXECUTIONS_AT_ONCE):
        try:
            payment = desk.strike.execute_payment_quote(refund.payment_quote_id)
        except StrikeAmbiguous as error:
            was_in_doubt, lost = True, error
        except StrikeUnavailable as error:
            return _not_reached(desk, refund, error, was_in_doubt=was_in_doubt)
        except StrikeRejected as error:
            return _execution_refused(desk, refund, error, was_in_doubt=was_in_doubt)
        else:
            return _record(desk, refund, payment, "execute")
    return _put_off(desk, refund, "execute", _reason_of(lost), lost)


def _not_reached(desk: RefundDesk, refund: Refund, error: StrikeUnavailable, *, was_in_doubt: bool) -> Refund | None:
    """This execution did nothing. If it was the only one, the doubt ends with it."""
    is_in_doubt = was_in_doubt or error.strike_code in _IN_PROGRESS_CODES
    return _put_off(desk, refund, "execute", _reason_of(error), error, is_in_doubt=is_in_doubt)


def _execution_refused(desk: RefundDesk, refund: Refund, error: StrikeRejected, *, was_in_doubt: bool) -> Refund | None:
    if error.strike_code == "PAYMENT_PROCESSED":
        return _processed(desk, refund, error)
    if error.strike_code in _IN_PROGRESS_CODES:
        return _put_off(desk, refund, "execute", _reason_of(error), error)
    if was_in_doubt or not _is_word_of_strike(error):
        # An earlier execution may have emptied the balance, or aged the quote: this refusal says nothing about it.
        reason = STUCK if error.strike_code == "PAYMENT_QUOTE_EXPIRED" else _reason_of(error)
        return _put_off(desk, refund, "execute", reason, error)
    return _fail(desk, refund, "execute", _reason_of(error), error)


def _is_word_of_strike(error: StrikeRejected) -> bool:
    """Whether a refusal says why. One whose text was cut off, or comes from a proxy, may hide PAYMENT_PROCESSED."""
    is_front_door = error.status in (401, 403)
    return bool(error.strike_code) or is_front_door


def _processed(desk: RefundDesk, refund: Refund, error: StrikeRejected) -> Refund | None:
    """An earlier execution was carried out. Where Strike names the payment, its state decides; else it is paid."""
    payment_id = named_in(error, "paymentId")
    if payment_id is None:
        return _sent(desk, refund, None, "execute")
    seen = _see_payment(desk, refund, payment_id)
    try:
        payment = desk.strike.get_payment(payment_id)
    except StrikeError as unread:
        return _put_off(desk, seen, "look", _reason_of(unread), unread)
    return _record(desk, seen, payment, "execute")


def _see_payment(desk: RefundDesk, refund: Refund, payment_id: str) -> Refund:
    with desk.repository.transaction() as tx:
        tx.refunds.see_payment(refund, payment_id)
    return dataclasses.replace(refund, payment_id=payment_id)


def _record(desk: RefundDesk, refund: Refund, payment: Payment, step: str) -> Refund | None:
    """Write down what Strike says of the payment."""
    if payment.status is PaymentStatus.COMPLETED:
        return _sent(desk, refund, payment.payment_id, step)
    seen = _see_payment(desk, refund, payment.payment_id)
    if payment.status is PaymentStatus.FAILED:
        return _fail(desk, seen, step, "the payment failed on its way; the money came back to the account")
    return _put_off(desk, seen, step, "on its way: Strike has charged it and waits for the other side")


def _sent(desk: RefundDesk, refund: Refund, payment_id: str | None, step: str) -> Refund | None:
    now = desk.clock()
    with desk.repository.transaction() as tx:
        is_news = tx.refunds.mark_sent(refund, now, payment_id)
        after = tx.refunds.find(refund.id)
        if is_news and after is not None:
            _note(tx, desk, after, step, "sent")
            _owe(tx, desk, EventType.REFUND_SENT, after)
    if is_news:
        log.info("refund sent refund_id=%d amount_sats=%d payment_id=%s", refund.id, refund.amount_sats, payment_id)
    elif after is None or after.state is not S.SENT:
        log.error("a refund was sent that is not in flight here: look at it refund_id=%d", refund.id)
    return after


def _fail(
    desk: RefundDesk,
    refund: Refund,
    step: str,
    reason: str,
    error: StrikeError | None = None,
) -> Refund | None:
    """It was surely not sent. Tried again after a pause, with a new key; only the holder of the claim may say so."""
    with desk.repository.transaction() as tx:
        failed = tx.refunds.move(
            refund,
            S.FAILED,
            reason=reason,
            failures=refund.failures + 1,
            next_attempt_at=desk.clock() + _pause(refund.failures),
            claimed_until=None,
        )
        if failed is not None:
            _note(tx, desk, failed, step, reason, error)
    log.warning("refund not sent refund_id=%d step=%s reason=%s", refund.id, step, reason)
    return failed


def _put_off(
    desk: RefundDesk,
    refund: Refund,
    step: str,
    reason: str,
    error: StrikeError | None = None,
    *,
    is_in_doubt: bool | None = None,
) -> Refund | None:
    """Leave it in its state and look again later. Raises _NoAnswer when it is Strike that could not be asked."""
    now = desk.clock()
    wait = error.retry_after_seconds if isinstance(error, StrikeUnavailable) else None
    pause = _pause(refund.looks) if wait is None else timedelta(seconds=wait)
    with desk.repository.transaction() as tx:
        after = tx.refunds.change(
            refund,
            reason=reason,
            looks=refund.looks + (wait is None),
            next_attempt_at=now + pause,
            claimed_until=None,
            is_in_doubt=refund.is_in_doubt if is_in_doubt is None else is_in_doubt,
        )
        if after is not None:
            _note(tx, desk, after, step, reason, error)
    log.info("refund waits refund_id=%d state=%s reason=%s", refund.id, refund.state, reason)
    if wait is not None:
        raise _AskedToWait
    if isinstance(error, StrikeUnavailable | StrikeAmbiguous):
        raise _NoAnswer
    return after


def _pause(index: int) -> timedelta:
    return PAUSES[min(index, len(PAUSES) - 1)]


def _reason_of(error: StrikeError) -> str:
    return _REASONS.get(error.strike_code, error.message)


def _note(
    tx: Transaction, desk: RefundDesk, refund: Refund, step: str, outcome: str, error: StrikeError | None = None
) -> None:
    code, trace_id = (error.strike_code, error.trace_id) if error is not None else (None, None)
    tx.refunds.note(refund, desk.clock(), step, outcome, strike_code=code, trace_id=trace_id)


def _owe(tx: Transaction, desk: RefundDesk, event_type: EventType, refund: Refund) -> None:
    invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    owe_delivery(tx, desk.events, event_type, invoice, desk.clock())


def reconcile_payment(desk: RefundDesk, payment_id: str, *, timeout: Timeout = PATIENT) -> RefundState | None:
    """Ask Strike about a payment of which a webhook told. None when it is no refund of ours that is in flight.

    Raises StrikeError when Strike cannot tell; StrikeUnavailable also when somebody else is working on that refund.
    """
    with desk.repository.transaction() as tx:
        refund = tx.refunds.find_by_payment(payment_id)
        if refund is None or refund.state is not S.IN_FLIGHT:
            return None
        if refund.claimed_until is not None and refund.claimed_until > desk.clock():
            raise StrikeUnavailable("the refund is being worked on", retry_after_seconds=3)
        claimed = tx.refunds.claim(refund, until=desk.clock() + CLAIM)
    if claimed is None:
        raise StrikeUnavailable("the refund is being worked on", retry_after_seconds=3)
    try:
        payment = desk.strike.get_payment(payment_id, timeout=timeout)
    except StrikeError:
        with desk.repository.transaction() as tx:
            tx.refunds.change(claimed, claimed_until=None)
        raise
    after = _record(desk, claimed, payment, "webhook")
    return None if after is None else after.state


def refund_dispatcher(desk: RefundDesk) -> Dispatcher:
    """The server's thread that sends refunds, also where no worker runs."""
    resting_until = desk.clock()

    def send() -> None:
        nonlocal resting_until
        if send_due_refunds(desk)["unanswered"]:
            # The others that are due would not be answered at this moment either.
            resting_until = desk.clock() + PAUSES[0]

    def next_due_at() -> datetime | None:
        with desk.repository.reading() as tx:
            due_at = tx.refunds.next_due_at(WAITING)
        return None if due_at is None else max(due_at, resting_until)

    return Dispatcher("refund dispatcher", send, next_due_at, desk.clock, desk.stop)
