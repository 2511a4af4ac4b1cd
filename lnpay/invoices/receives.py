"""Use case: act on the payments of a receive request. Webhook and workers both call `settle_receives`.

Strike reports single payments and no state of the request, so the state of the invoice is derived from them: see
`lnpay.domain.receives`. Every final payment is its own row, so one that is reported twice counts once. A payment
belongs to the request that Strike names with it; the payment hash is not used, because a Strike user's payment has
none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from lnpay.deliveries.owe import owe_delivery
from lnpay.domain.errors import InvalidRequest, RateUnavailable, StrikeAmbiguous
from lnpay.domain.events import EventType
from lnpay.domain.model import Invoice, Rate
from lnpay.domain.money import CURRENCIES, MSATS_PER_SAT, CurrencyAmount, refund_sats
from lnpay.domain.receives import Judgement, Receive, judge, total_of
from lnpay.domain.states import PAYABLE, InvoiceState
from lnpay.http.outgoing import Timeout
from lnpay.invoices.late import PRICE_SECONDS, judge_late, price_for_late
from lnpay.invoices.settle import IN_TIME, Outcome, SettlementContext, record_paid
from lnpay.refunds.overpaid import owe_beyond_price
from lnpay.repository import Transaction
from lnpay.strike.client import DEFAULT_TIMEOUT
from lnpay.strike.receives import ReceivePage, ReceiveStatus, StrikeReceive

log = logging.getLogger(__name__)

CLOSE_PERCENT = 2
"""If a Strike user pays in another currency, the sats are known only through a rate. An amount this close to the price
counts as the price, because Strike users pay exactly what the payment request asks for.
"""

ROUGH_PERCENT = 20
"""The same, if only the price at the time when LNPay notices the payment is known: it may have moved since."""

PEGGED = {"USDT": "usd"}
"""Currencies of Strike's that the price sources do not have, and what their price is."""


def settle_receives(
    context: SettlementContext,
    request_id: str,
    seen: Sequence[StrikeReceive],
    *,
    price_seconds: float = PRICE_SECONDS,
) -> Outcome:
    """Store a receive request's payments, and move its invoice accordingly. Safe to repeat, also concurrently.

    seen: its payments as Strike shows them now. Paid in full and in time: SETTLED; the shop is owed a message. Paid
    late, or only in part by the deadline: PAID_LATE, and all of it is owed back, unless LATE_PAYMENTS says otherwise.
    Anything beyond the price is owed back too. Paid in part before the deadline: the shop is owed the message
    invoice.underpaid. Everything owed is stored in the commit that stores the payment, and therefore exactly once.
    """
    now = context.clock()
    ours = [one for one in seen if one.request_id == request_id]
    final = [one for one in ours if one.status is ReceiveStatus.COMPLETED]
    pending = [one for one in ours if one.status is ReceiveStatus.PENDING]
    if not final and not pending:
        return _note_nothing(context, request_id)
    last_at = max((one.paid_at for one in final), default=None)
    try:
        price = price_for_late(context.repository, context.late, request_id, last_at, now, price_seconds)
    except RateUnavailable as error:
        log.warning("late payment waits for a price invoice_id=%s error=%s", request_id, error.message)
        return Outcome.NOT_FINAL
    prices = _foreign_prices(context, request_id, final, price_seconds)
    with context.repository.transaction() as tx:
        invoice = tx.receives.lock_invoice(request_id)
        if invoice is None:
            return _note_pruned(tx, request_id, final, now)
        added = [one for one in final if _store(tx, invoice, one, prices, now)]
        if invoice.state in PAYABLE:
            _note_pending(tx, invoice, pending, now)
            outcome = _judge(context, tx, invoice, pending, price, now)
        else:
            outcome = Outcome.ALREADY
            if added:
                _add_to_paid(context, tx, invoice, now)
    for one in added:
        log.info("payment received invoice_id=%s receive_id=%s kind=%s", request_id, one.receive_id, one.kind)
    return outcome


def _note_nothing(context: SettlementContext, request_id: str) -> Outcome:
    """Nothing was paid, or a pending payment has disappeared."""
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(request_id)
    if invoice is not None and invoice.seen_at is not None and invoice.state in PAYABLE:
        with context.repository.transaction() as tx:
            tx.invoices.mark_seen(invoice.id, None)
    return Outcome.NOT_PAID


def _note_pruned(tx: Transaction, request_id: str, final: list[StrikeReceive], now: datetime) -> Outcome:
    """Record the payment of a deleted invoice for the operator to resolve."""
    sats = sum(one.received.sats or 0 for one in final) or None
    if final and tx.pruned.mark_paid(request_id, received_sats=sats, at=now):
        log.error("deleted invoice was paid, check it at strike invoice_id=%s", request_id)
    return Outcome.ALREADY


def _foreign_prices(
    context: SettlementContext, request_id: str, final: list[StrikeReceive], seconds: float
) -> dict[str, Decimal]:
    """Prices of one bitcoin in the currencies of payments that the price of the sale cannot convert. May fetch.

    Without a price, a currency is left out: its payments count as what was asked for.
    """
    foreign = [one for one in final if one.received.msats is None]
    if not foreign or context.late.price_within is None:
        return {}
    with context.repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(request_id)
        new = [one for one in foreign if not tx.receives.is_known(one.receive_id)]
    prices: dict[str, Decimal] = {}
    for one in new if invoice is not None else ():
        currency = one.received.currency
        code = PEGGED.get(currency, currency.lower())
        if invoice is None or code not in CURRENCIES or _worth(invoice, one.received, one.credited) is not None:
            continue
        try:
            prices[currency] = context.late.price_within(code, seconds, invoice.rate.as_of).price
        except RateUnavailable as error:
            log.warning("payment is not converted invoice_id=%s error=%s", request_id, error.message)
    return prices


def _store(tx: Transaction, invoice: Invoice, one: StrikeReceive, prices: Mapping[str, Decimal], now: datetime) -> bool:
    return tx.receives.add(
        invoice.id,
        one.receive_id,
        kind=one.kind,
        amount_sats=count_sats(invoice, one.received, one.credited, prices.get(one.received.currency)),
        received=one.received,
        credited=one.credited,
        conversion_rate=one.conversion_rate,
        payment_hash=one.payment_hash,
        paid_at=one.paid_at,
        noticed_at=now,
    )


def count_sats(
    invoice: Invoice, received: CurrencyAmount, credited: CurrencyAmount | None, price: Decimal | None = None
) -> int:
    """How many sats a payment counts as. Exact, unless a Strike user paid in another currency (see CLOSE_PERCENT).

    price: of one bitcoin in the currency of `received`, by which it is judged if the price of the sale says nothing.
    """
    if received.sats is not None:
        return received.sats
    about, percent = _worth(invoice, received, credited), CLOSE_PERCENT
    if about is None and price is not None:
        about, percent = _sats_at(price, received.amount), ROUGH_PERCENT
    if about is None or abs(about - invoice.amount_sats) * 100 <= invoice.amount_sats * percent:
        return invoice.amount_sats
    return about


def _worth(invoice: Invoice, received: CurrencyAmount, credited: CurrencyAmount | None) -> int | None:
    """The approximate sats of a payment in another currency; None without a known rate."""
    if credited is not None and credited.msats is not None:
        return max(1, credited.msats // MSATS_PER_SAT)
    for amount in (received, credited):
        if amount is not None and amount.currency.lower() == invoice.order.currency:
            return _sats_at(invoice.rate.price, amount.amount)
    return None


def _sats_at(price: Decimal, amount: Decimal) -> int:
    try:
        return refund_sats(amount, price, 0)
    except InvalidRequest:
        return 1  # less than a sat, or an absurd amount: neither is the price


def _note_pending(tx: Transaction, invoice: Invoice, pending: list[StrikeReceive], now: datetime) -> None:
    if bool(pending) != (invoice.seen_at is not None):
        tx.invoices.mark_seen(invoice.id, now if pending else None)


def _judge(
    context: SettlementContext,
    tx: Transaction,
    invoice: Invoice,
    pending: list[StrikeReceive],
    price: Rate | None,
    now: datetime,
) -> Outcome:
    receives = tx.receives.every_of(invoice.id)
    if not any(one.amount_sats for one in receives):
        # Less than a sat in all is nothing that could be refunded.
        return Outcome.NOT_FINAL if pending else Outcome.NOT_PAID
    may_more_come = any(one.paid_at <= invoice.expires_at for one in pending)
    is_over = invoice.state is not InvoiceState.UNPAID
    judgement = judge(invoice.amount_sats, invoice.expires_at, receives, is_over=is_over, may_more_come=may_more_come)
    if judgement.state is not None:
        return Outcome(_move(context, tx, invoice, receives, judgement, price, now).value)
    # Late payments do not count towards the price.
    received_sats = sum(one.amount_sats for one in receives if one.paid_at <= invoice.expires_at)
    if received_sats:
        missing = {"received_sats": received_sats, "missing_sats": invoice.amount_sats - received_sats}
        owe_delivery(tx, context.events, EventType.INVOICE_UNDERPAID, invoice, now, more=missing)
    return Outcome.NOT_FINAL if pending else Outcome.NOT_PAID


def _move(
    context: SettlementContext,
    tx: Transaction,
    invoice: Invoice,
    receives: list[Receive],
    judgement: Judgement,
    price: Rate | None,
    now: datetime,
) -> InvoiceState:
    """Move the locked invoice as judged, or to SETTLED if LATE_PAYMENTS accepts it. Returns the new state."""
    total = total_of(receives)
    verdict = IN_TIME
    if judgement.state is InvoiceState.PAID_LATE:
        verdict = judge_late(tx, context.late, invoice, total.sats, price)
    paid = record_paid(context, tx, invoice, verdict, paid_at=judgement.paid_at, received_sats=total.sats, at=now)
    assert paid is not None  # noqa: S101 - its row is locked
    tx.receives.store_total(invoice.id, total)
    # Earlier checks do not count: they may have seen another payment that becomes final only later.
    tx.invoices.mark_checked([invoice.strike_invoice_id], None)
    owe_beyond_price(tx, context.events, paid, receives, now)
    log.info("invoice %s invoice_id=%s received_sats=%d", paid.state, invoice.strike_invoice_id, total.sats)
    return paid.state


def _add_to_paid(context: SettlementContext, tx: Transaction, invoice: Invoice, now: datetime) -> None:
    """Record further payments of a paid invoice: all of them are owed back."""
    receives = tx.receives.every_of(invoice.id)
    tx.receives.store_total(invoice.id, total_of(receives))
    owe_beyond_price(tx, context.events, invoice, receives, now)
    log.warning("paid invoice was paid again invoice_id=%s payments=%d", invoice.strike_invoice_id, len(receives))


def end_underpaid(context: SettlementContext, tx: Transaction, invoice: Invoice, now: datetime) -> bool:
    """Move an unpaid invoice that was paid only in part by its deadline to PAID_LATE: all of it is owed back.

    False if it is no longer unpaid, or nothing was paid.
    """
    known = tx.receives.lock_invoice(invoice.strike_invoice_id)
    receives = [] if known is None or known.state is not InvoiceState.UNPAID else tx.receives.every_of(known.id)
    if known is None or not any(one.amount_sats for one in receives):
        return False
    judgement = judge(known.amount_sats, known.expires_at, receives, is_over=True, may_more_come=False)
    _move(context, tx, known, receives, judgement, None, now)
    return True


def reconcile_request(
    context: SettlementContext,
    request_id: str,
    *,
    timeout: Timeout = DEFAULT_TIMEOUT,
    price_seconds: float = PRICE_SECONDS,
) -> Outcome:
    """Read one request's payments at Strike and settle accordingly. Raises StrikeError if Strike cannot say."""
    page = context.strike.receive_requests.receives_of(request_id, timeout=timeout)
    return settle_page(context, request_id, page, price_seconds=price_seconds)


def settle_page(
    context: SettlementContext, request_id: str, page: ReceivePage, *, price_seconds: float = PRICE_SECONDS
) -> Outcome:
    """Settle according to one request's payments. Raises StrikeAmbiguous if not all of them are readable."""
    outcome = settle_receives(context, request_id, page.receives, price_seconds=price_seconds)
    if page.unreadable:
        raise StrikeAmbiguous("Strike's receives are not all readable")
    return outcome
