"""Use case: turn a shop's order into a payment request, once, however often and however badly it is asked."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

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
from lnpay.rates.prices import Rates
from lnpay.repository import Repository
from lnpay.strike.client import Strike, StrikeQuote
from lnpay.strike.invoices import InvoiceStatus, StrikeInvoice

log = logging.getLogger(__name__)

DRAFT_GOOD_FOR = timedelta(seconds=30)
"""A draft older than this, or than a quarter of the time to pay, is priced again: the time runs from its making."""

_AMOUNT_REFUSALS = {
    "AMOUNT_TOO_HIGH": "is more than the payment provider accepts in one invoice",
    "AMOUNT_TOO_LOW": "is less than the payment provider accepts",
    "INVALID_AMOUNT": "is not an amount that the payment provider accepts",
}
"""Strike's refusals that the caller can fix."""

_PAID_AT_STRIKE = (InvoiceStatus.PAID, InvoiceStatus.PENDING)

ROUNDS = 4
"""How often to start again when another request for the same order was quicker. Each round, somebody got on."""


@dataclass(frozen=True)
class InvoiceIssuer:
    """What it takes to issue an invoice."""

    repository: Repository
    strike: Strike
    rates: Rates
    clock: Clock
    time_offset_seconds: int


def create_invoice(issuer: InvoiceIssuer, correlation_id: str, order: Order) -> Invoice:
    """Give the open invoice for a shop's order, issuing it at Strike when there is none yet.

    1. The order and its price are stored as a draft, before Strike hears of it.
    2. Strike makes the invoice; the draft's id there leads a repeat back to the first one.
    3. Strike quotes it, and the payment request is read: it must ask for exactly our amount.
    4. All of it is stored in one commit; only then does anybody see it.

    Whatever is lost on the way, the same call goes on where the last one stopped.
    Raises OrderConflict when `correlation_id` stands for another request or for an invoice that is no longer open, or
    when another attempt of the same order was paid; Conflict when other requests change the order all the time;
    InvalidRequest, RateUnavailable and StrikeError as their docstrings say.
    """
    for _ in range(ROUNDS):
        with issuer.repository.reading() as tx:
            known = tx.invoices.find_by_correlation_id(correlation_id)
            paid = tx.invoices.settled_attempt(order.order_id or correlation_id)
        if paid is not None:
            raise already_paid(paid)
        if isinstance(known, Invoice):
            if known.state is not InvoiceState.CANCELLED or known.seen_at is not None:
                return _open(issuer, known, order)
            # Where that is refused, another request was quicker, or a payment has come all the same.
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
        if invoice is not None:
            log.info("invoice issued invoice_id=%s amount_sats=%d", issue.strike_invoice_id, draft.amount_sats)
            return invoice
    raise Conflict("this order is being changed by other requests at the same time; repeat it", code="order_busy")


def _open(issuer: InvoiceIssuer, known: Invoice, order: Order) -> Invoice:
    conflict = conflict_of(known, order, issuer.clock())
    if conflict is not None:
        raise conflict
    return known


def _fresh_draft(issuer: InvoiceIssuer, known: Draft | None, correlation_id: str, order: Order) -> Draft | None:
    """A draft of `order` at today's price. None when another request for it was quicker.

    Before these names, a draft was called at Strike as the shop calls its order, which another program on the account
    may do too. Such a draft is named again: what Strike has under the old name may not be ours.
    """
    now = issuer.clock()
    good_for = min(DRAFT_GOOD_FOR, timedelta(seconds=issuer.time_offset_seconds) / 4)
    is_ours_alone = known is not None and known.strike_correlation_id != correlation_id
    if known is not None and is_ours_alone and known.order == order and now - known.created_at < good_for:
        return known
    rate = issuer.rates.current()
    amount_sats = fiat_to_sats(order.amount_fiat, rate.price)
    with issuer.repository.transaction() as tx:
        name = new_strike_name(correlation_id, tx.installation.make_name())
        if known is None:
            token = secrets.token_urlsafe(24)
            return tx.invoices.add_draft(correlation_id, name, token, order, amount_sats, rate, now)
        # No customer has seen anything of the old draft, so nobody can pay what Strike may have made for it.
        return tx.invoices.renew_draft(known, name, order, amount_sats, rate, now)


def _issue(issuer: InvoiceIssuer, draft: Draft) -> Issue | None:
    """What Strike issues for a draft. None when the row has changed and must be read again."""
    invoice = _strike_invoice(issuer.strike, draft)
    if invoice.status is not InvoiceStatus.UNPAID:
        _give_up_name(issuer.repository, draft, invoice)
        return None
    try:
        quote = _quote(issuer.strike, invoice.invoice_id)
    except StrikeRejected as error:
        _blame_amount(draft, error)
        raise
    return _checked_issue(draft, invoice, quote, issuer.time_offset_seconds)


def _quote(strike: Strike, invoice_id: str) -> StrikeQuote:
    try:
        return strike.quote_invoice(invoice_id)
    except StrikeAmbiguous:
        # A quote whose answer was lost is a payment request that nobody has seen: another one does no harm.
        return strike.quote_invoice(invoice_id)


def _blame_amount(draft: Draft, error: StrikeRejected) -> None:
    """Raise InvalidRequest where Strike refused the amount, and not something that the operator must look at."""
    why = _AMOUNT_REFUSALS.get(error.strike_code or "")
    # A refusal without a code of its own names the fields: "amount", or "amount.amount".
    if why is None and any(field.lower().split(".")[0] == "amount" for field in error.invalid_fields):
        why = _AMOUNT_REFUSALS["INVALID_AMOUNT"]
    if why is not None:
        raise InvalidRequest(f"{why} ({draft.amount_sats:,} sats)") from error


def _give_up_name(repository: Repository, draft: Draft, invoice: StrikeInvoice) -> None:
    """Let a draft start again under a new name when its invoice at Strike was called off.

    Raises Conflict when that invoice is paid: a database that was put back can have forgotten that it showed it.
    """
    with repository.transaction() as tx:
        if isinstance(tx.invoices.find_by_correlation_id(draft.correlation_id), Invoice):
            return  # issued by another request meanwhile, and no longer unpaid
        if invoice.status not in _PAID_AT_STRIKE:
            name = new_strike_name(draft.correlation_id, tx.installation.make_name())
            tx.invoices.renew_draft(draft, name, draft.order, draft.amount_sats, draft.rate, draft.created_at)
            return
    log.error("order without an invoice is paid at strike invoice_id=%s", invoice.invoice_id)
    raise OrderConflict(
        "Strike has a payment for this order that LNPay has no record of: check the order before you sell it again",
        code="already_paid",
        state=None,
        invoice_id=invoice.invoice_id,
        correlation_id=draft.correlation_id,
        token=None,
    )


def _refuse_ended(issue: Issue, now: datetime) -> None:
    """Raise when there is no time left to pay: Strike took too long, or one of the two clocks is wrong."""
    if now >= issue.expires_at:
        log.error("strike invoice not shown invoice_id=%s reason=its time to pay is over", issue.strike_invoice_id)
        raise StrikeUnavailable("Strike's invoice came too late to be paid")


def _strike_invoice(strike: Strike, draft: Draft) -> StrikeInvoice:
    """Strike's invoice for a draft, made now or by an earlier call whose answer was lost."""
    try:
        try:
            return _create(strike, draft)
        except StrikeAmbiguous:
            return _create(strike, draft)
    except StrikeRejected as error:
        _blame_amount(draft, error)
        # DUPLICATE_INVOICE; the status says so even where the answer's text was cut off. Only an earlier call for this
        # draft can have used its name.
        if error.status != 409:
            raise
    found = strike.find_invoice_by_correlation_id(draft.strike_correlation_id)
    if found is None:
        raise StrikeAmbiguous("Strike knows the order and does not show its invoice")
    return found


def _create(strike: Strike, draft: Draft) -> StrikeInvoice:
    description = draft.order.description
    return strike.create_invoice(
        draft.amount_sats, draft.strike_correlation_id, None if description is None else fit_description(description)
    )


def _checked_issue(draft: Draft, invoice: StrikeInvoice, quote: StrikeQuote, time_offset_seconds: int) -> Issue:
    try:
        request = decode(quote.bolt11)
    except Bolt11Error as error:
        _nonsense(invoice, f"its payment request cannot be read: {error}")
    if request.amount_msats != sats_to_msats(draft.amount_sats):
        _nonsense(invoice, f"its payment request asks {request.amount_msats} msats, not {draft.amount_sats} sats")
    expires_at = min(invoice.created_at + timedelta(seconds=time_offset_seconds), quote.expires_at, request.expires_at)
    return Issue(
        strike_invoice_id=invoice.invoice_id,
        bolt11=quote.bolt11,
        payment_hash=request.payment_hash,
        strike_invoice=invoice.raw,
        strike_quote=quote.raw,
        opened_at=invoice.created_at,
        expires_at=expires_at,
        # A payment request can be paid until its own expiry, whatever the quote says.
        payable_until=max(request.expires_at, quote.expires_at),
    )


def _nonsense(invoice: StrikeInvoice, what: str) -> NoReturn:
    log.error("strike invoice not shown invoice_id=%s reason=%s", invoice.invoice_id, what)
    raise StrikeRejected("Strike's payment request does not ask for what was computed")
