"""Use cases: a merchant refunds a paid order, in full or in part, and may withdraw the refund before it is sent.

Guarantees, regardless of how many requests, processes and machines there are:
1. The refunds of an invoice that are not canceled never add up to more than was received for it. The sum is a column of
   the invoice, changed in the transaction that adds or cancels a refund; a CHECK of the database guards it.
2. A request has an Idempotency-Key. Repeated with the same content, it returns the same refund; otherwise it conflicts.
3. Sending and canceling exclude each other: both are conditional updates of the same row.
How a refund is sent, and when it needs approval, does not depend on its kind: see `send` and `policy`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from lnpay.deliveries.owe import owe_refund_message
from lnpay.domain.errors import (
    NO_SUCH_INVOICE,
    Conflict,
    IdempotencyKeyReused,
    NotFound,
    RefundExceedsReceived,
)
from lnpay.domain.events import EventType
from lnpay.domain.model import Clock, Invoice, Rate, Refund
from lnpay.domain.money import refund_sats
from lnpay.domain.states import (
    REFUNDABLE,
    AmountBasis,
    CancelCause,
    HoldCause,
    InvoiceState,
    RefundAsker,
    RefundKind,
    RefundState,
    RefundStep,
)
from lnpay.refunds.after_restore import why_doubted
from lnpay.refunds.keys import UNCERTAIN_HOLDS, merchant_key
from lnpay.repository import Repository, Transaction
from lnpay.repository.queries.refund_requests import NewRefund

log = logging.getLogger(__name__)

MAX_REFUND_ID = 2**63 - 1
"""The largest number that a database takes as an id."""

WITHDRAWN_AT_ONCE = 100

_ASKER_WORDS = {
    RefundAsker.API_KEY: "requested with an API key",
    RefundAsker.OPERATOR: "requested by the operator",
    RefundAsker.RULE: "requested by a rule",
}


@dataclass(frozen=True)
class RefundIssuer:
    """Everything needed to create and cancel refunds.

    current_price: of one bitcoin in a currency; raises RateUnavailable. events: those that the shop subscribes to.
    claim_length: how long a customer has to give an address.
    """

    repository: Repository
    clock: Clock
    current_price: Callable[[str], Rate]
    events: frozenset[str]
    claim_length: timedelta


@dataclass(frozen=True, kw_only=True)
class RefundRequest:
    """A merchant's request for a refund, validated.

    request_key: the Idempotency-Key. basis: WHOLE: neither amount is given; SATS: amount_sats; otherwise amount_fiat,
    in the invoice's currency. address: from `parse_refund_address`; None: the customer is asked for one.
    """

    request_key: str
    asked_by: RefundAsker
    api_key_id: int | None = None
    basis: AmountBasis = AmountBasis.WHOLE
    amount_sats: int | None = None
    amount_fiat: Decimal | None = None
    address: str | None = None

    @property
    def hash(self) -> str:
        """Compared when the key is used again. It does not include who asked."""
        amount_fiat = None if self.amount_fiat is None else format(self.amount_fiat, "f")
        content = [self.basis, self.amount_sats, amount_fiat, self.address]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def create_refund(issuer: RefundIssuer, strike_invoice_id: str, request: RefundRequest) -> Refund:
    """Record a refund, which is then sent automatically. Safe to repeat with the same key.

    Raises NotFound; IdempotencyKeyReused; Conflict if the invoice was not paid in time; RefundExceedsReceived;
    InvalidRequest if the amount is less than a sat; RateUnavailable.
    """
    with issuer.repository.reading() as tx:
        invoice = _find_invoice(tx, strike_invoice_id)
        known = _known(tx, invoice, request)
        if known is None:
            _refuse_unpaid(tx, invoice)
    if known is not None:
        return known
    rate = issuer.current_price(invoice.order.currency) if request.basis is AmountBasis.TODAY_PRICE else invoice.rate
    with issuer.repository.transaction() as tx:
        tx.refund_requests.lock(invoice.id)
        return _known(tx, invoice, request) or _add(issuer, tx, invoice.id, request, rate)


def _find_invoice(tx: Transaction, strike_invoice_id: str) -> Invoice:
    invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
    if invoice is None:
        raise NotFound(NO_SUCH_INVOICE)
    return invoice


def _known(tx: Transaction, invoice: Invoice, request: RefundRequest) -> Refund | None:
    """The refund that this request, or one with the same key, has created. Raises IdempotencyKeyReused."""
    refund = tx.refund_requests.by_request_key(invoice.id, request.request_key)
    if refund is not None and refund.request_hash != request.hash:
        raise IdempotencyKeyReused
    return refund


def is_undecided(tx: Transaction, invoice: Invoice) -> bool:
    """Whether this invoice was paid late, and the operator has yet to accept or refund the payment."""
    late = tx.refunds.find_late(invoice.id) if invoice.state is InvoiceState.PAID_LATE else None
    return late is not None and late.state is RefundState.HELD and late.held_because is HoldCause.LATE_PAYMENT


def _refuse_unpaid(tx: Transaction, invoice: Invoice) -> None:
    if invoice.state in REFUNDABLE:
        return
    if is_undecided(tx, invoice):
        why = "this invoice was paid late, and the operator has yet to accept or refund the payment"
    elif invoice.state is InvoiceState.PAID_LATE:
        why = "this invoice was paid late: the whole payment is, or will be, refunded without a request"
    else:
        why = "this invoice is not paid: there is nothing to refund"
    raise Conflict(why, code="invoice_not_refundable")


def _add(issuer: RefundIssuer, tx: Transaction, invoice_id: int, request: RefundRequest, rate: Rate) -> Refund:
    """Add the refund. The transaction holds the invoice's lock, so nothing that is read here can change before the
    commit.
    """
    invoice = tx.invoices.find(invoice_id)
    assert invoice is not None and invoice.received_sats is not None  # noqa: S101, PT018 - refundable, so it was paid
    amount = _amount_of(request, rate, tx.refund_requests.left_sats(invoice.id))
    now, sequence = issuer.clock(), tx.refund_requests.next_sequence(invoice.id)
    is_fiat = request.amount_fiat is not None
    new = NewRefund(
        invoice_id=invoice.id,
        kind=RefundKind.MERCHANT,
        sequence=sequence,
        amount_sats=amount,
        received_sats=invoice.received_sats,
        address=request.address,
        token=secrets.token_urlsafe(24),
        key=merchant_key(invoice.strike_invoice_id, request.request_key),
        created_at=now,
        wanted_at=now,
        basis=request.basis,
        amount_fiat=request.amount_fiat,
        price=rate.price if is_fiat else None,
        price_as_of=rate.as_of if is_fiat else None,
        asked_by=request.asked_by,
        api_key_id=request.api_key_id,
        request_key=request.request_key,
        request_hash=request.hash,
        claim_expires_at=None if request.address else now + issuer.claim_length,
    )
    tx.refund_requests.add(new)
    refund = tx.refund_requests.by_request_key(invoice.id, request.request_key)
    assert refund is not None  # noqa: S101 - added above, under the invoice's lock
    tx.refunds.note(refund, now, RefundStep.REQUEST, _ASKER_WORDS[request.asked_by])
    owe_refund_message(tx, issuer.events, EventType.REFUND_CREATED, refund, now)
    if refund.address is None:
        owe_refund_message(tx, issuer.events, EventType.REFUND_NEEDS_ADDRESS, refund, now)
    log.info("refund created refund_id=%d invoice_id=%s amount_sats=%d", refund.id, invoice.strike_invoice_id, amount)
    return refund


def _amount_of(request: RefundRequest, rate: Rate, left_sats: int) -> int:
    """The sats to refund. Raises RefundExceedsReceived if fewer are left, InvalidRequest for less than a sat."""
    if left_sats == 0:
        raise RefundExceedsReceived("everything received for this invoice is refunded, or is being refunded, already")
    if request.basis is AmountBasis.WHOLE:
        return left_sats
    if request.amount_fiat is not None:
        sats = refund_sats(request.amount_fiat, rate.price, left_sats)
    else:
        assert request.amount_sats is not None  # noqa: S101 - a request has the amount of its basis
        sats = request.amount_sats
    if sats > left_sats:
        raise RefundExceedsReceived(
            f"{sats:,} sats is more than the {left_sats:,} sats of this invoice that can still be refunded"
        )
    return sats


def cancel_refund(issuer: RefundIssuer, refund_id: int, *, is_checked: bool = False) -> Refund:
    """Withdraw a refund of which nothing was sent. Safe to repeat. If it is being sent at the same time, only one of
    the two takes effect.

    is_checked: the operator has looked at Strike and confirms that it was not sent. Needed after a restore.
    Raises NotFound, Conflict.
    """
    now = issuer.clock()
    with issuer.repository.transaction() as tx:
        refund = _find_refund(tx, refund_id)
        if refund.state is RefundState.CANCELED:
            return refund
        _refuse_cancel(tx, refund, is_checked=is_checked)
        canceled = tx.refund_requests.cancel(refund, now, CancelCause.REQUESTED)
        if canceled is None:
            raise Conflict("a worker changed this refund at the same time: look at it again", code="refund_state")
        tx.refunds.note(canceled, now, RefundStep.CANCEL, "canceled before it was sent")
        owe_refund_message(tx, issuer.events, EventType.REFUND_CANCELED, canceled, now)
    log.info("refund canceled refund_id=%d amount_sats=%d", refund.id, refund.amount_sats)
    return canceled


def _refuse_cancel(tx: Transaction, refund: Refund, *, is_checked: bool) -> None:
    if refund.kind is not RefundKind.MERCHANT:
        raise Conflict("LNPay owes this refund to the customer by its rules: it cannot be canceled", code="refund_owed")
    if refund.state is RefundState.SENT:
        raise Conflict("this refund was sent: it cannot be canceled any more", code="refund_state")
    if refund.state is RefundState.IN_FLIGHT:
        raise Conflict(
            "this refund is being sent: it can be canceled only if that fails; look at it again later",
            code="refund_state",
        )
    is_unclear = refund.held_because in UNCERTAIN_HOLDS or why_doubted(tx, refund) is not None
    if is_unclear and not is_checked:
        raise Conflict(
            "this refund may have been sent before the database was restored: the operator must look for it in "
            "Strike's dashboard first",
            code="refund_unclear",
        )


def withdraw_expired_claims(issuer: RefundIssuer) -> int:
    """Cancel the refunds whose customers gave no address in time, and free their amounts. Returns how many.

    Safe to run at any time, also while a customer gives an address: only one of the two takes effect. A refund that may
    have been sent before a restore is left to the operator, as in `cancel_refund`.
    """
    now, withdrawn = issuer.clock(), 0
    with issuer.repository.reading() as tx:
        overdue = tx.refund_requests.overdue_claims(now, WITHDRAWN_AT_ONCE)
    for refund in overdue:
        with issuer.repository.transaction() as tx:
            canceled = tx.refund_requests.cancel(refund, now, CancelCause.CLAIM_EXPIRED)
            if canceled is None:
                continue
            tx.refunds.note(canceled, now, RefundStep.CANCEL, "the customer gave no address in time")
            owe_refund_message(tx, issuer.events, EventType.REFUND_CANCELED, canceled, now)
        withdrawn += 1
        log.info("refund claim expired refund_id=%d amount_sats=%d", refund.id, refund.amount_sats)
    return withdrawn


def list_refunds(repository: Repository, strike_invoice_id: str) -> list[Refund]:
    """Every refund of an invoice, oldest first. Raises NotFound."""
    with repository.reading() as tx:
        return tx.refund_requests.of_invoice(_find_invoice(tx, strike_invoice_id).id)


def find_refund(repository: Repository, refund_id: int) -> tuple[Refund, Invoice]:
    """A refund and its invoice. Raises NotFound."""
    with repository.reading() as tx:
        refund = _find_refund(tx, refund_id)
        invoice = tx.invoices.find(refund.invoice_id)
    assert invoice is not None  # noqa: S101 - refunds.invoice_id is a foreign key to an issued invoice
    return refund, invoice


def _find_refund(tx: Transaction, refund_id: int) -> Refund:
    refund = tx.refunds.find(refund_id) if 0 < refund_id <= MAX_REFUND_ID else None
    if refund is None:
        raise NotFound("there is no refund with this id", code="refund_not_found")
    return refund
