"""Use case: turn a shop's order into a payment request, exactly once, no matter how often the shop repeats it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from lnpay.deliveries.owe import owe_created
from lnpay.domain.bolt11 import Bolt11Error, decode
from lnpay.domain.errors import (
    Conflict,
    InvalidRequest,
    OrderConflict,
    StrikeAmbiguous,
    StrikeRejected,
    StrikeUnavailable,
)
from lnpay.domain.model import (
    Clock,
    Draft,
    Invoice,
    Issue,
    Order,
)
from lnpay.domain.money import fiat_to_sats, sats_to_msats
from lnpay.domain.states import InvoiceState
from lnpay.domain.strike_names import new_strike_name
from lnpay.domain.text import fit_description
from lnpay.invoices.conflicts import already_paid, conflict_of
from lnpay.invoices.issue_request import RequestIssuer, issue_request
from lnpay.rates.by_currency import RatesByCurrency
from lnpay.repository import Repository
from lnpay.strike.answers import StrikeQuote
from lnpay.strike.client import Strike
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice

log = logging.getLogger(__name__)

DRAFT_GOOD_FOR = timedelta(seconds=30)
"""A draft is priced again after this time, or after a quarter of its time to pay, which then starts over."""

MIN_EXPIRES_IN_SECONDS = 30
"""The shortest time to pay that a request may ask for."""

MAX_EXPIRES_IN_SECONDS = 3_600
"""The longest, because Strike's quotes for bitcoin last an hour. If one ends sooner, so does the invoice."""

_AMOUNT_REFUSALS = {
    "AMOUNT_TOO_HIGH": "is more than the payment provider accepts in one invoice",
    "AMOUNT_TOO_LOW": "is less than the payment provider accepts",
    "INVALID_AMOUNT": "is not an amount that the payment provider accepts",
}
"""Refusals by Strike that the caller can fix."""

_PAID_AT_STRIKE = (InvoiceStatus.PAID, InvoiceStatus.PENDING)

ROUNDS = 4
"""How often to start over if another request for the same order was faster. Each round, one request makes progress."""


@dataclass(frozen=True)
class InvoiceIssuer:
    """Everything needed to issue an invoice. on_message_owed: called after a commit that owes the shop a message.

    by_request: issues receive requests (RECEIVE_WITH); None: issue Strike invoices.
    """

    repository: Repository
    strike: Strike
    rates: RatesByCurrency
    clock: Clock
    time_offset_seconds: int
    on_message_owed: Callable[[], None] = lambda: None
    by_request: RequestIssuer | None = None

    def time_to_pay(self, order: Order) -> timedelta:
        """How long an invoice for `order` can be paid."""
        return timedelta(seconds=self.time_offset_seconds if order.expires_in is None else order.expires_in)


def check_expires_in(seconds: int) -> int:
    """Return `seconds` if that is a valid time to pay. Raises InvalidRequest, which names the bounds."""
    if not MIN_EXPIRES_IN_SECONDS <= seconds <= MAX_EXPIRES_IN_SECONDS:
        raise InvalidRequest(f"must be {MIN_EXPIRES_IN_SECONDS} to {MAX_EXPIRES_IN_SECONDS:,} seconds")
    return seconds


def create_invoice(issuer: InvoiceIssuer, correlation_id: str, order: Order) -> Invoice:
    """Return the open invoice of a shop's order, issuing it at Strike if there is none yet.

    1. The order and its price are stored as a draft before Strike is called.
    2. Strike creates the invoice. The draft's id there makes a repeat find the first invoice.
    3. Strike quotes it. The payment request is decoded: it must ask for exactly our amount. With RECEIVE_WITH set to
       receive-request, one call does both; a repeat makes another request, and the first is never shown.
    4. Everything is stored in one commit; only then is the invoice shown.

    If LNPay stops in between, repeating the call resumes at the step that was reached.
    Raises OrderConflict if `correlation_id` belongs to a different request or to an invoice that is no longer open, or
    if another attempt at the same order was paid; Conflict if concurrent requests keep changing the order;
    InvalidRequest, RateUnavailable and StrikeError as described there.
    """
    for _ in range(ROUNDS):
        with issuer.repository.reading() as tx:
            known = tx.invoices.find_by_correlation_id(correlation_id)
            # A Greenfield client decides for itself whether to sell an order again.
            is_native = order.checkout_options is None
            paid = tx.attempts.settled(order.order_id or correlation_id) if is_native else None
        if paid is not None:
            raise already_paid(paid)
        if isinstance(known, Invoice):
            if known.state is not InvoiceState.CANCELLED or known.seen_at is not None:
                return _open(issuer, known, order)
            # If this is refused, another request was faster, or a payment has arrived after all.
            with issuer.repository.transaction() as tx:
                tx.invoices.release_correlation_id(known)
            continue
        draft = _fresh_draft(issuer, known, correlation_id, order)
        issue = None if draft is None else _issue(issuer, draft)
        if draft is None or issue is None:
            continue
        _refuse_ended(issue, issuer.clock())
        with issuer.repository.transaction() as tx:
            invoice = tx.invoices.issue(draft, issue)
            is_message_owed = invoice is not None and owe_created(tx, invoice, issuer.clock())
        if is_message_owed:
            issuer.on_message_owed()
        if invoice is not None:
            log.info("invoice issued invoice_id=%s amount_sats=%d", issue.strike_invoice_id, draft.amount_sats)
            return invoice
    raise Conflict("concurrent requests are changing this order: repeat the request", code="order_busy")


def _open(issuer: InvoiceIssuer, known: Invoice, order: Order) -> Invoice:
    with issuer.repository.reading() as tx:
        conflict = conflict_of(tx, known, order, issuer.clock())
    if conflict is not None:
        raise conflict
    return known


def _fresh_draft(issuer: InvoiceIssuer, known: Draft | None, correlation_id: str, order: Order) -> Draft | None:
    """A draft of `order` at the current price. None if another request for it was faster.

    Earlier versions named a draft at Strike after the shop's correlation_id, which another program on the account may
    use too. Such a draft gets a new name, because the invoice that Strike has under the old one may not be ours.
    """
    now = issuer.clock()
    good_for = min(DRAFT_GOOD_FOR, issuer.time_to_pay(order) / 4)
    is_ours_alone = known is not None and known.strike_correlation_id != correlation_id
    # A draft dated in the future was made by a wrong clock, so the age of its price is unknown.
    is_recent = known is not None and timedelta() <= now - known.created_at < good_for
    if known is not None and is_ours_alone and known.order == order and is_recent:
        return known
    rate = issuer.rates.current(order.currency)
    amount_sats = fiat_to_sats(order.amount_fiat, rate.price)
    # Losing a draft in a power cut costs nothing: no customer has seen its invoice, and the next has another name.
    with issuer.repository.transaction(is_durable=False) as tx:
        name = new_strike_name(correlation_id, tx.installation.make_name())
        if known is None:
            token = secrets.token_urlsafe(24)
            return tx.invoices.add_draft(correlation_id, name, token, order, amount_sats, rate, now)
        # The old draft was never shown to a customer, so no invoice that Strike created for it can be paid.
        return tx.invoices.renew_draft(known, name, order, amount_sats, rate, now)


def _issue(issuer: InvoiceIssuer, draft: Draft) -> Issue | None:
    """Issue a draft at Strike. None if the row has changed and must be read again."""
    if issuer.by_request is not None:
        try:
            return issue_request(issuer.by_request, draft, issuer.time_to_pay(draft.order))
        except StrikeRejected as error:
            _blame_amount(draft, error)
            raise
    invoice = _strike_invoice(issuer.strike, draft)
    if invoice.status is not InvoiceStatus.UNPAID:
        _give_up_name(issuer.repository, draft, invoice)
        return None
    try:
        quote = _quote(issuer.strike, invoice.invoice_id)
    except StrikeRejected as error:
        _blame_amount(draft, error)
        raise
    return _checked_issue(draft, invoice, quote, issuer.time_to_pay(draft.order))


def _quote(strike: Strike, invoice_id: str) -> StrikeQuote:
    try:
        return strike.quote_invoice(invoice_id)
    except StrikeAmbiguous:
        # The lost quote's payment request was never shown, so requesting another one is harmless.
        return strike.quote_invoice(invoice_id)


def _blame_amount(draft: Draft, error: StrikeRejected) -> None:
    """Raise InvalidRequest if what Strike refused is the amount, which the caller can fix."""
    why = _AMOUNT_REFUSALS.get(error.strike_code or "")
    # A refusal without a specific code names the fields: "amount", "amount.amount", or "bolt11.amount".
    if why is None and any("amount" in field.lower().split(".")[:2] for field in error.invalid_fields):
        why = _AMOUNT_REFUSALS["INVALID_AMOUNT"]
    if why is not None:
        raise InvalidRequest(f"{why} ({draft.amount_sats:,} sats)") from error


def _give_up_name(repository: Repository, draft: Draft, invoice: StrikeInvoice) -> None:
    """Let a draft start again under a new name if its invoice was cancelled at Strike.

    Raises Conflict if that invoice is paid: it was shown before this database was restored from an older backup.
    """
    with repository.transaction() as tx:
        if isinstance(tx.invoices.find_by_correlation_id(draft.correlation_id), Invoice):
            return  # another request has issued it since, and it is no longer unpaid
        if invoice.status not in _PAID_AT_STRIKE:
            name = new_strike_name(draft.correlation_id, tx.installation.make_name())
            tx.invoices.renew_draft(draft, name, draft.order, draft.amount_sats, draft.rate, draft.created_at)
            return
    log.error("order without an invoice is paid at strike, check it invoice_id=%s", invoice.invoice_id)
    raise OrderConflict(
        "Strike has a payment for this order that LNPay has no record of: check the order before you sell it again",
        code="already_paid",
        state=None,
        invoice_id=invoice.invoice_id,
        correlation_id=draft.correlation_id,
        token=None,
    )


def _refuse_ended(issue: Issue, now: datetime) -> None:
    """Raise if no time is left to pay: Strike took too long, or one of the two clocks is wrong."""
    if now >= issue.expires_at:
        log.error(
            "strike invoice rejected invoice_id=%s reason=its payment deadline has passed", issue.strike_invoice_id
        )
        raise StrikeUnavailable("Strike's invoice arrived after its payment deadline")


def _strike_invoice(strike: Strike, draft: Draft) -> StrikeInvoice:
    """Strike's invoice for a draft, created now or by an earlier call whose answer was lost."""
    try:
        try:
            return _create(strike, draft)
        except StrikeAmbiguous:
            return _create(strike, draft)
    except StrikeRejected as error:
        _blame_amount(draft, error)
        # DUPLICATE_INVOICE: the status is enough, even if the body was cut off. The name is unique to this draft, so
        # only an earlier call for it can have used it.
        if error.status != 409:
            raise
    found = strike.find_invoice_by_correlation_id(draft.strike_correlation_id)
    if found is None:
        raise StrikeAmbiguous("Strike reports a duplicate invoice but does not list it")
    return found


def _create(strike: Strike, draft: Draft) -> StrikeInvoice:
    description = draft.order.description
    return strike.create_invoice(
        draft.amount_sats, draft.strike_correlation_id, None if description is None else fit_description(description)
    )


def _checked_issue(draft: Draft, invoice: StrikeInvoice, quote: StrikeQuote, time_to_pay: timedelta) -> Issue:
    try:
        request = decode(quote.bolt11)
    except Bolt11Error as error:
        _reject(invoice, f"payment request is invalid: {error}")
    if request.amount_msats != sats_to_msats(draft.amount_sats):
        _reject(invoice, f"payment request asks for {request.amount_msats:,} msats, not {draft.amount_sats:,} sats")
    expires_at = min(invoice.created_at + time_to_pay, quote.expires_at, request.expires_at)
    return Issue(
        strike_invoice_id=invoice.invoice_id,
        bolt11=quote.bolt11,
        payment_hash=request.payment_hash,
        strike_invoice=invoice.raw,
        strike_quote=quote.raw,
        opened_at=invoice.created_at,
        expires_at=expires_at,
        # A payment request can be paid until its own expiry, even if the quote ends earlier.
        payable_until=max(request.expires_at, quote.expires_at),
    )


def _reject(invoice: StrikeInvoice, reason: str) -> NoReturn:
    log.error("strike invoice rejected invoice_id=%s reason=%s", invoice.invoice_id, reason)
    raise StrikeRejected("Strike's payment request does not match the invoice")
