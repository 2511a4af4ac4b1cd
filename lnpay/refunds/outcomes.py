"""The outcomes of checking or sending a refund; each is recorded in one commit."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from lnpay.deliveries.owe import owe_refund_message
from lnpay.domain.errors import StrikeAmbiguous, StrikeError, StrikeUnavailable
from lnpay.domain.events import EventType
from lnpay.domain.model import Clock, Hold, Refund
from lnpay.domain.states import (
    Closer,
    HoldCause,
    RefundKind,
    RefundState,
    RefundStep,
)
from lnpay.refunds.after_restore import doubt_refunds
from lnpay.refunds.policy import RefundRules
from lnpay.repository import Repository, Transaction
from lnpay.strike.answers import Payment, PaymentStatus
from lnpay.strike.client import Strike

log = logging.getLogger(__name__)


PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 10, 30, 60, 300, 900, 1_800, 3_600))
"""Pauses after the first, second, ... failure or check; the last one repeats."""

_REASONS: Mapping[str | None, str] = {
    "BALANCE_TOO_LOW": "the balance at Strike is too low: add bitcoin to the account",
    "LN_ROUTE_NOT_FOUND": "no route to the customer's wallet was found; a later attempt often succeeds",
    "PAYMENT_QUOTE_EXPIRED": "the quote expired before it was used; a new one is requested",
    "UNAUTHORIZED": "Strike rejects STRIKE_API_KEY",
    "FORBIDDEN": "STRIKE_API_KEY lacks a scope: partner.payment-quote.lightning.create, "
    "partner.payment-quote.execute and partner.payment.read are needed",
    "AMOUNT_TOO_LOW": "the customer's wallet does not accept so small an amount: another address is needed",
    "AMOUNT_TOO_HIGH": "the customer's wallet does not accept so large an amount: another address is needed",
}
"""What Strike's codes mean for the operator."""

STUCK = (
    "Strike was asked to send it and can no longer say whether it did. Look for the payment in Strike's dashboard, "
    "then record what you found with python main.py refunds settle, or refunds retry"
)
"""What the operator must do when Strike's answers cannot resolve a refund."""


ASKED_LONG_AGO = (
    "Strike was asked for a quote long ago and the answer was lost, so another copy of this database may have sent "
    "it. Look for it in Strike's dashboard: if it is there, use python main.py refunds settle; if not, "
    "refunds approve"
)


PAID_ELSEWHERE = (
    "the answer to a request for a quote was lost, and Strike shows a payment of this amount that is not known here, "
    "so another copy of this database may have sent it. Look for it in Strike's dashboard: if it is there, use "
    "python main.py refunds settle; if not, refunds approve"
)


INVOICE_PAID = (
    "Strike says that the customer's invoice was paid already, and no payment is known here. Look for it in Strike's "
    "dashboard: if it is there, use python main.py refunds settle; if not, refunds approve once the invoice has "
    "expired: the customer is then asked for another one"
)

KEY_USED_ELSEWHERE = "Strike knows the key of this refund, which was never used here"

INFERRED = "sent (inferred): Strike says that it was processed before, but names no payment"


@dataclass(frozen=True)
class RefundSender:
    """Everything needed to send refunds. `events`: the event types that the shop subscribes to."""

    repository: Repository
    strike: Strike
    clock: Clock
    events: frozenset[str]
    rules: RefundRules
    stop: threading.Event


class NoAnswer(Exception):
    """Strike could not be reached or did not answer; the refund is retried later."""


class AskedToWait(NoAnswer):
    """Strike rate-limits the account, so the other refunds need not be tried now."""


def record(sender: RefundSender, refund: Refund, payment: Payment, step: RefundStep) -> Refund | None:
    """Record what Strike says about the payment."""
    if payment.status is PaymentStatus.COMPLETED:
        return sent(sender, refund, payment.payment_id, step)
    seen = see_payment(sender, refund, payment.payment_id)
    if payment.status is PaymentStatus.FAILED:
        return fail(sender, seen, step, "the payment failed; the money is back in your Strike account")
    return put_off(sender, seen, step, "pending: Strike has charged it and is waiting for the recipient")


def see_payment(sender: RefundSender, refund: Refund, payment_id: str) -> Refund:
    """Store which payment the quote led to. From then on that payment decides, so the refund is no longer stuck."""
    with sender.repository.transaction() as tx:
        tx.refunds.see_payment(refund, payment_id)
    return dataclasses.replace(refund, payment_id=payment_id, stuck_at=None)


def sent(
    sender: RefundSender,
    refund: Refund,
    payment_id: str | None,
    step: RefundStep,
    *,
    closed_by: Closer = Closer.STRIKE,
) -> Refund | None:
    """SENT, as Strike confirmed; the message owed to the shop is stored in the same commit."""
    now = sender.clock()
    with sender.repository.transaction() as tx:
        is_news = tx.refunds.mark_sent(refund, now, payment_id, closed_by)
        after = tx.refunds.find(refund.id)
        if is_news and after is not None:
            note(tx, sender, after, step, "sent" if closed_by is Closer.STRIKE else INFERRED)
            owe(tx, sender, EventType.REFUND_SENT, after)
    if is_news:
        log.info("refund sent refund_id=%d amount_sats=%d payment_id=%s", refund.id, refund.amount_sats, payment_id)
    elif after is None or after.state is not RefundState.SENT:
        log.error("strike sent a refund that is not in flight here: check it refund_id=%d", refund.id)
    return after


def fail(
    sender: RefundSender,
    refund: Refund,
    step: RefundStep,
    reason: str,
    error: StrikeError | None = None,
) -> Refund | None:
    """FAILED: it was definitely not sent; retry after a pause, with a new key. Only the holder of the claim may do
    this.
    """
    with sender.repository.transaction() as tx:
        failed = tx.refunds.fail(refund, sender.clock() + _pause(refund.failures), reason)
        if failed is not None:
            note(tx, sender, failed, step, reason, error)
    log.warning("refund not sent refund_id=%d step=%s reason=%s", refund.id, step, reason)
    return failed


def hold(sender: RefundSender, refund: Refund, why: Hold) -> Refund | None:
    """HELD until the operator approves it."""
    with sender.repository.transaction() as tx:
        held = tx.refunds.hold(refund, why)
        if held is not None:
            note(tx, sender, held, RefundStep.HOLD, why.reason)
    log.warning("refund held refund_id=%d cause=%s reason=%s", refund.id, why.cause, why.reason)
    return held


def hold_if_forked(sender: RefundSender, refund: Refund, error: StrikeError) -> Refund | None:
    """HELD, if Strike has a quote under the refund's key that no request of this database can have created.

    Then another copy of the database is, or was, running, and every refund that it may have sent is held as well. This
    is evidence, so it counts even if the claim is lost: two workers that both get DUPLICATE must not each assume that
    the quote is the other's. None if one of this database's requests is unanswered and may have created the quote.
    """
    with sender.repository.transaction() as tx:
        current = tx.refunds.quote_not_ours(refund)
        if current is None or current.unanswered_quotes:
            return None
        held = current
        if current.state is RefundState.REQUESTED:
            held = tx.refunds.hold(current, Hold(HoldCause.FORKED, KEY_USED_ELSEWHERE)) or current
        note(tx, sender, held, RefundStep.QUOTE, KEY_USED_ELSEWHERE, error)
        doubt_refunds(tx, sender.clock(), HoldCause.FORKED)
    log.error("another copy of this database is or was running: check the held refunds refund_id=%d", refund.id)
    return held


def why_refused(error: StrikeError) -> str:
    """Why Strike refuses an address, for the operator."""
    return _REASONS.get(error.strike_code, "Strike refuses the customer's address: another one is needed")


def ask_for_address(
    sender: RefundSender, refund: Refund, reason: str, error: StrikeError | None = None
) -> Refund | None:
    """NEEDS_ADDRESS until the customer or operator gives one; the shop's message is stored in the same commit."""
    with sender.repository.transaction() as tx:
        # A refund that LNPay owes by its rules can be claimed at any time.
        is_merchants = refund.kind is RefundKind.MERCHANT
        claim_expires_at = sender.clock() + sender.rules.claim_length if is_merchants else None
        asking = tx.refunds.ask_for_address(refund, reason, claim_expires_at)
        if asking is not None:
            note(tx, sender, asking, RefundStep.QUOTE, reason, error)
            owe(tx, sender, EventType.REFUND_NEEDS_ADDRESS, asking)
    log.warning("refund needs an address refund_id=%d reason=%s", refund.id, reason)
    return asking


def put_off(
    sender: RefundSender,
    refund: Refund,
    step: RefundStep,
    reason: str,
    error: StrikeError | None = None,
    *,
    is_in_doubt: bool | None = None,
    is_stuck: bool = False,
) -> Refund | None:
    """Keep its state and check again later. Raises NoAnswer if Strike could not be reached or did not answer.

    is_stuck: Strike's answers can no longer resolve it. It stays stuck, even if Strike answers later, until a payment
    is seen.
    """
    now = sender.clock()
    wait = error.retry_after_seconds if isinstance(error, StrikeUnavailable) else None
    stuck_at = refund.stuck_at or (now if is_stuck else None)
    with sender.repository.transaction() as tx:
        after = tx.refunds.put_off(
            refund,
            now + (_pause(refund.looks) if wait is None else timedelta(seconds=wait)),
            looks=refund.looks + (wait is None),
            reason=reason if stuck_at is None else STUCK,
            is_in_doubt=refund.is_in_doubt if is_in_doubt is None else is_in_doubt,
            stuck_at=stuck_at,
        )
        if after is not None:
            note(tx, sender, after, step, reason, error)
    log.info("refund postponed refund_id=%d state=%s reason=%s", refund.id, refund.state, reason)
    if wait is not None:
        raise AskedToWait
    if isinstance(error, StrikeUnavailable | StrikeAmbiguous):
        raise NoAnswer
    return after


def _pause(index: int) -> timedelta:
    return PAUSES[min(index, len(PAUSES) - 1)]


def reason_of(error: StrikeError) -> str:
    """Explain a refusal to the operator."""
    return _REASONS.get(error.strike_code, error.message)


def note(
    tx: Transaction,
    sender: RefundSender,
    refund: Refund,
    step: RefundStep,
    outcome: str,
    error: StrikeError | None = None,
) -> None:
    """Add a row to the refund's history."""
    code, trace_id = (error.strike_code, error.trace_id) if error is not None else (None, None)
    tx.refunds.note(refund, sender.clock(), step, outcome, strike_code=code, trace_id=trace_id)


def owe(tx: Transaction, sender: RefundSender, event_type: EventType, refund: Refund) -> None:
    """Owe the shop a message about a refund."""
    owe_refund_message(tx, sender.events, event_type, refund, sender.clock())
