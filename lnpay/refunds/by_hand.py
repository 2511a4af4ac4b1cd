"""Use cases for refunds by hand: the customer gives an address; the operator approves, retries or settles a refund."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from lnpay.deliveries.owe import owe_refund_message
from lnpay.domain.addresses import is_payment_request
from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    StrikeError,
    StrikeRejected,
    TooManyTries,
)
from lnpay.domain.events import EventType
from lnpay.domain.model import Refund
from lnpay.domain.states import OPEN_REFUNDS, RefundState, RefundStep
from lnpay.refunds.destinations import parse_destination
from lnpay.refunds.keys import next_key
from lnpay.repository import Repository, Transaction
from lnpay.strike.answers import PaymentStatus
from lnpay.strike.client import Strike

BY_HAND_AFTER = timedelta(hours=1)
"""After this time no worker can still be sending a refund, so the operator may decide it. It covers the longest life of
a quote and of a claim, and starts at the last execution, not when the refund became due.
"""


ADDRESSES_PER_LINK = ((5, timedelta(minutes=15)), (20, timedelta(days=1)))
"""How many addresses a customer may enter for one refund within each period."""


def give_address(repository: Repository, token: str, address: str, now: datetime) -> Refund:
    """Store the address, or the payment request, that the customer entered. Returns the refund, which is then sent.

    Every address costs a call to Strike, so their number per link is limited.
    Raises NotFound; InvalidRequest if it is neither (see `parse_destination`), or is in use already; Conflict if the
    refund needs none (any more);
    TooManyTries.
    """
    # Read first, so that requests with made-up links do not take the write lock.
    with repository.reading() as tx:
        refund = _needing_address(tx, token, now)
    checked = parse_destination(address, refund, now)
    with repository.transaction() as tx:
        refund = _needing_address(tx, token, now)
        _refuse_too_many(tx, refund, now)
        _refuse_used(tx, refund, checked)
        return _redirect(tx, refund, now, "the customer gave an address", checked, RefundStep.CUSTOMER)


def _refuse_used(tx: Transaction, refund: Refund, address: str) -> None:
    """Raise InvalidRequest for the payment request of another refund, which can be paid only once."""
    if is_payment_request(address) and tx.refund_requests.is_destination_used(refund, address):
        raise InvalidRequest(
            "this invoice was given for another refund: create another one",
            errors={"ln_address": "was given for another refund"},
            code="bolt11_used",
        )


def _needing_address(tx: Transaction, token: str, now: datetime) -> Refund:
    refund = tx.refunds.find_by_token(token)
    if refund is None:
        raise NotFound("there is no refund at this address")
    if has_claim_ended(refund, now):
        raise Conflict("the time to claim this refund is over", code="refund_claim_ended")
    if refund.state is not RefundState.NEEDS_ADDRESS:
        raise Conflict("this refund already has an address", code="refund_has_address")
    return refund


def has_claim_ended(refund: Refund, now: datetime) -> bool:
    """Whether the refund was canceled, or will be because its customer gave no address in time."""
    if refund.state is not RefundState.NEEDS_ADDRESS or refund.claim_expires_at is None:
        return refund.state is RefundState.CANCELED
    return refund.claim_expires_at <= now


def _refuse_too_many(tx: Transaction, refund: Refund, now: datetime) -> None:
    """Raise TooManyTries if the customer has entered as many addresses as one link allows."""
    for most, window in ADDRESSES_PER_LINK:
        given = tx.refunds.addresses_given(refund, most)
        if len(given) == most and given[-1] > now - window:
            wait = math.ceil((given[-1] + window - now).total_seconds())
            raise TooManyTries("too many addresses were tried for this refund", retry_after_seconds=wait)


def change_address(
    repository: Repository, strike_invoice_id: str, address: str, now: datetime, refund_id: int | None = None
) -> Refund:
    """The operator enters an address, or replaces one that does not work.

    Raises NotFound, InvalidRequest, Conflict.
    """
    with repository.transaction() as tx:
        refund = choose_refund(tx, strike_invoice_id, refund_id)
        if refund.state not in (RefundState.NEEDS_ADDRESS, RefundState.FAILED):
            raise _not_now(refund, "its address can be changed only if it needs one or has failed")
        checked = parse_destination(address, refund, now)
        _refuse_used(tx, refund, checked)
        return _redirect(tx, refund, now, "the operator gave an address", checked)


def approve(
    repository: Repository,
    strike_invoice_id: str,
    now: datetime,
    events: frozenset[str] = frozenset(),
    refund_id: int | None = None,
) -> Refund:
    """The operator lifts the limits for a held refund, or decides to refund a late payment.

    A refund without an address asks for one next, and the shop is notified; the limits then apply again.
    events: the types that the delivery hook receives. Raises NotFound, Conflict.
    """
    with repository.transaction() as tx:
        refund = choose_refund(tx, strike_invoice_id, refund_id)
        if refund.state is not RefundState.HELD:
            raise _not_now(refund, "only a held refund can be approved")
        if refund.address is None:
            return _ask_for_address(tx, refund, events, now)
        approved = dataclasses.replace(refund, approved_at=now)
        return _restart(tx, approved, now, "the operator approved it")


def _ask_for_address(tx: Transaction, refund: Refund, events: frozenset[str], now: datetime) -> Refund:
    reason = "the operator refunds it; it needs an address"
    waiting = _kept(tx.refunds.ask_for_address(refund, reason))
    tx.refunds.note(waiting, now, RefundStep.BY_HAND, reason)
    owe_refund_message(tx, events, EventType.REFUND_NEEDS_ADDRESS, waiting, now)
    return waiting


@dataclass(frozen=True)
class AtStrike:
    """What Strike says about a refund in flight before an operator has it sent again.

    is_time_known: our clock follows Strike's time. Otherwise such a refund cannot be decided: by a clock that is ahead,
    the hour of BY_HAND_AFTER may seem to be over. payment_id: None if no payment is known here. status: the payment's;
    None if Strike does not know that payment.
    """

    is_time_known: bool = True
    payment_id: str | None = None
    status: PaymentStatus | None = None


def ask_strike(repository: Repository, strike: Strike, strike_invoice_id: str, refund_id: int | None) -> AtStrike:
    """Ask Strike for its time and for the refund's payment, if one is known. Raises NotFound, Conflict."""
    is_time_known = strike.measure_time()
    with repository.reading() as tx:
        refund = choose_refund(tx, strike_invoice_id, refund_id)
    if not is_time_known or refund.state is not RefundState.IN_FLIGHT or refund.payment_id is None:
        return AtStrike(is_time_known)
    try:
        status = strike.get_payment(refund.payment_id).status
    except StrikeError as error:
        # Only this says that there is none; a key without the scope, say, does not.
        if isinstance(error, StrikeRejected) and error.status == HTTPStatus.NOT_FOUND:
            return AtStrike(is_time_known, refund.payment_id)
        raise _not_now(refund, "Strike cannot say at the moment what became of its payment: try again later") from error
    return AtStrike(is_time_known, refund.payment_id, status)


def retry(
    repository: Repository,
    strike_invoice_id: str,
    note: str,
    now: datetime,
    refund_id: int | None = None,
    at_strike: AtStrike = AtStrike(),
) -> Refund:
    """The operator confirms that it was not sent: try again. at_strike: see `ask_strike`. Raises NotFound, Conflict."""
    with repository.transaction() as tx:
        refund = choose_refund(tx, strike_invoice_id, refund_id)
        if refund.state is RefundState.IN_FLIGHT:
            _refuse_while_moving(refund, now, is_time_known=at_strike.is_time_known)
            _refuse_if_sent(refund, at_strike)
            refund = _kept(tx.refunds.fail_by_hand(refund))
        if refund.state is not RefundState.FAILED:
            raise _not_now(refund, "only a refund that has failed, or is in flight, can be retried")
        return _restart(tx, refund, now, f"the operator confirmed that it was not sent: {note}")


def settle_by_hand(
    repository: Repository,
    strike_invoice_id: str,
    note: str,
    events: frozenset[str],
    now: datetime,
    refund_id: int | None = None,
    *,
    is_time_known: bool = True,
) -> Refund:
    """The operator has refunded it elsewhere, or confirms that Strike sent it.

    is_time_known: see `AtStrike`. Raises NotFound, Conflict.
    """
    with repository.transaction() as tx:
        refund = choose_refund(tx, strike_invoice_id, refund_id)
        if refund.state in (RefundState.SENT, RefundState.QUOTED, RefundState.CANCELED):
            raise _not_now(refund, "it cannot be settled by hand")
        if refund.state is RefundState.IN_FLIGHT:
            _refuse_while_moving(refund, now, is_time_known=is_time_known)
        settled = _kept(tx.refunds.close_by_hand(refund, now, f"by hand: {note}"))
        tx.refunds.note(settled, now, RefundStep.BY_HAND, f"the operator settled it: {note}")
        owe_refund_message(tx, events, EventType.REFUND_SENT, settled, now)
        return settled


def choose_refund(tx: Transaction, strike_invoice_id: str, refund_id: int | None) -> Refund:
    """An invoice's refund with this id. Without an id: the only refund that is not sent or canceled, or else the
    newest.

    Raises NotFound if there is no such invoice; Conflict if it has no such refund, or several match; UnreadableRow.
    """
    invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
    if invoice is None:
        raise NotFound("there is no invoice with this id; `refunds list` shows all refunds")
    if refund_id is None:
        # Without those that cannot be read, another one might seem to be the only one.
        refunds = tx.refund_requests.every_of(invoice.id)
    else:
        refunds = [one for one in tx.refund_requests.of_invoice(invoice.id) if one.id == refund_id]
    if not refunds:
        raise Conflict("no such refund is owed for this invoice", code="refund_state")
    open_ones = [one for one in refunds if one.state in OPEN_REFUNDS]
    if len(open_ones) > 1:
        ids = ", ".join(str(one.id) for one in open_ones)
        raise Conflict(
            f"several refunds of this invoice are not sent yet: name one with --refund ({ids})", code="several_refunds"
        )
    return open_ones[0] if open_ones else refunds[-1]


def _redirect(
    tx: Transaction, refund: Refund, now: datetime, why: str, address: str, step: RefundStep = RefundStep.BY_HAND
) -> Refund:
    """Start again with `address`. An approval applies to one address only: a new address needs a new approval."""
    approved_at = refund.approved_at if address == refund.address else None
    return _restart(tx, dataclasses.replace(refund, address=address, approved_at=approved_at), now, why, step)


def _restart(tx: Transaction, refund: Refund, now: datetime, why: str, step: RefundStep = RefundStep.BY_HAND) -> Refund:
    invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    key = next_key(refund, invoice.strike_invoice_id)
    again = tx.refunds.restart(refund, key, now, address=refund.address, approved_at=refund.approved_at)
    restarted = _kept(again)
    tx.refunds.note(restarted, now, step, why)
    return restarted


def by_hand_at(refund: Refund) -> datetime | None:
    """When an operator may decide a refund in flight; None if it is not in flight."""
    executed_at = refund.executed_at or refund.started_at
    return None if refund.state is not RefundState.IN_FLIGHT or executed_at is None else executed_at + BY_HAND_AFTER


def _refuse_while_moving(refund: Refund, now: datetime, *, is_time_known: bool) -> None:
    if not is_time_known:
        raise _not_now(refund, "a worker may still be sending it, and Strike's time is unknown: try again later")
    free_at = by_hand_at(refund)
    if free_at is None or now < free_at or (refund.claimed_until is not None and refund.claimed_until > now):
        raise _not_now(refund, "a worker may still be sending it: try again an hour after its last execution")


def _refuse_if_sent(refund: Refund, at_strike: AtStrike) -> None:
    """A payment that has not failed may still arrive, even if the operator did not see it in the dashboard."""
    if refund.payment_id != at_strike.payment_id:
        raise _not_now(refund, "a worker has just found its payment: look at it again")
    if at_strike.status in (PaymentStatus.PENDING, PaymentStatus.COMPLETED):
        raise _not_now(refund, f"Strike says that its payment {refund.payment_id} is {at_strike.status}")


def _not_now(refund: Refund, why: str) -> Conflict:
    return Conflict(f"this refund is {refund.state}: {why}", code="refund_state")


def _kept(refund: Refund | None) -> Refund:
    if refund is None:
        raise Conflict("a worker changed this refund at the same time: look at it again", code="refund_state")
    return refund
