"""One invoice's history in chronological order, from its own row, its refunds and its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lnpay.domain.events import UNTRUE_ONCE_SETTLED
from lnpay.domain.model import (
    Delivery,
    Invoice,
    Refund,
    RefundAttempt,
)
from lnpay.domain.money import BITCOIN_UNITS
from lnpay.domain.states import (
    Closer,
    DeliveryState,
    InvoiceState,
    RefundState,
    RefundStep,
)
from lnpay.web.admin.formatting import length, price, sats
from lnpay.web.customer.pages import SOURCE_NAMES


@dataclass(frozen=True)
class Moment:
    """Something that happened or will happen. facts: its details, by name. tone: fine, wrong, or open."""

    at: datetime
    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    tone: str = "open"


def timeline(
    invoice: Invoice,
    refunds: Sequence[tuple[Refund, Sequence[RefundAttempt]]],
    deliveries: Sequence[Delivery],
    now: datetime,
    endpoint_urls: Mapping[int, str] | None = None,
) -> list[Moment]:
    """Everything that happened as far as is known, oldest first; then what is due next.

    refunds: each with its history. endpoint_urls: of webhook endpoints, by id; one that is missing was deleted.
    """
    moments = [*_of_invoice(invoice, now)]
    for refund, attempts in refunds:
        moments += _of_refund(refund, attempts)
    for delivery in deliveries:
        moments += _of_delivery(delivery, endpoint_urls or {}, is_replaced=_is_replaced(delivery, deliveries))
    # sorted() is stable, so entries with the same time keep the order of the code.
    return sorted(moments, key=lambda one: one.at)


def _of_invoice(invoice: Invoice, now: datetime) -> Iterator[Moment]:
    rate = invoice.rate
    # Bitcoin needs no price.
    facts = (
        ()
        if rate.currency in BITCOIN_UNITS
        else (
            ("One bitcoin", price(rate.price, rate.currency)),
            ("By", SOURCE_NAMES.get(rate.source, rate.source)),
            ("Price is", f"{length(invoice.created_at - rate.as_of)} old"),
        )
    )
    yield Moment(
        invoice.created_at, "Ordered", f"The shop requested it; its amount is {sats(invoice.amount_sats)}.", facts
    )
    yield Moment(invoice.issue.opened_at, "Issued", "Strike created the Lightning invoice.")
    if invoice.seen_at is not None:
        yield Moment(invoice.seen_at, "Money seen", "Strike saw a payment that was not final yet.")
    if invoice.expires_at <= now and invoice.state is not InvoiceState.SETTLED:
        yield Moment(invoice.expires_at, "Payment deadline", "A payment after this is late.")
    if invoice.paid_at is not None:
        yield _payment(invoice, invoice.paid_at)
    if invoice.settled_at is not None:
        if invoice.accepted_by is not None:
            yield Moment(invoice.settled_at, "Accepted late", _accepted(invoice), tone="fine")
        yield Moment(invoice.settled_at, "Settled", "It counts as paid, and the shop is notified.", tone="fine")
    if invoice.state is InvoiceState.LAPSED:
        yield Moment(
            invoice.issue.payable_until,
            "Lapsed",
            "The payment request has expired. If Strike still reports a payment, it counts.",
        )


def _payment(invoice: Invoice, paid_at: datetime) -> Moment:
    received = sats(invoice.received_sats or 0)
    if invoice.state is InvoiceState.SETTLED and invoice.accepted_by is None:
        return Moment(paid_at, "Paid", f"The customer paid {received} in time.", tone="fine")
    late = length(paid_at - invoice.expires_at)
    return Moment(paid_at, "Paid late", f"The customer paid {received}, {late} too late.", tone="wrong")


def _accepted(invoice: Invoice) -> str:
    if invoice.accepted_price is None:
        return "You accepted the late payment."
    now_at = price(invoice.accepted_price, invoice.order.currency)
    return f"LATE_PAYMENTS=accept: one bitcoin was worth {now_at} then."


def _of_refund(refund: Refund, attempts: Sequence[RefundAttempt]) -> Iterator[Moment]:
    to = f"to {refund.address}" if refund.address else "and there is no address"
    owed = f"{sats(refund.amount_sats)} are owed back {to if not attempts else ''}".rstrip()
    yield Moment(refund.created_at, "Refund owed", f"{owed}.")
    for attempt in attempts:
        yield _attempt(attempt)
    if refund.closed_by is Closer.INFERRED and refund.sent_at is not None:
        text = "Strike says that it was already processed, but names no payment. Look for it in Strike's dashboard."
        yield Moment(refund.sent_at, "Refund inferred", text, tone="wrong")
    if refund.state in (RefundState.REQUESTED, RefundState.QUOTED, RefundState.FAILED, RefundState.IN_FLIGHT):
        title = "Next check" if refund.state is RefundState.IN_FLIGHT else "Next attempt"
        yield Moment(refund.next_attempt_at, title, "By the server, or by the next pass of a worker.")


def _attempt(attempt: RefundAttempt) -> Moment:
    known = (
        ("To", attempt.address),
        ("Fee", None if attempt.fee_sats is None else sats(attempt.fee_sats)),
        ("Strike's code", attempt.strike_code),
        ("Trace id", attempt.trace_id),
        ("Quote", attempt.payment_quote_id),
        ("Payment", attempt.payment_id),
    )
    facts = tuple((name, value) for name, value in known if value)
    if attempt.state is RefundState.SENT and attempt.step not in (RefundStep.BY_HAND, RefundStep.CUSTOMER):
        return Moment(attempt.at, "Refund sent", "Strike reports it as paid.", facts, "fine")
    quiet = (RefundStep.BY_HAND, RefundStep.CUSTOMER, RefundStep.LOOK, RefundStep.POLICY, RefundStep.REQUEST)
    tone = "open" if attempt.step in quiet else "wrong"
    outcome = attempt.outcome[:1].upper() + attempt.outcome[1:]
    return Moment(attempt.at, f"Refund: {attempt.step}", f"{outcome}.", facts, tone)


def _is_replaced(delivery: Delivery, deliveries: Sequence[Delivery]) -> bool:
    """Whether a later redelivery repeats a message."""
    original_id = delivery.original_id or delivery.id
    return any(one.original_id == original_id and one.id > delivery.id for one in deliveries)


def _of_delivery(delivery: Delivery, endpoint_urls: Mapping[int, str], *, is_replaced: bool) -> Iterator[Moment]:
    name = delivery.event_type
    facts: tuple[tuple[str, str], ...] = (("Id", delivery.webhook_id),)
    if delivery.endpoint_id is not None:
        facts = (("To", endpoint_urls.get(delivery.endpoint_id, "a deleted webhook endpoint")), *facts)
    again = "" if delivery.original_id is None else " again"
    yield Moment(delivery.created_at, "Message owed", f"The shop is owed {name}{again}.", facts)
    tries = f"{delivery.attempts} attempt{'' if delivery.attempts == 1 else 's'}"
    if delivery.delivered_at is not None:
        yield Moment(delivery.delivered_at, "Shop notified", f"It accepted {name} after {tries}.", tone="fine")
    elif delivery.state is DeliveryState.WITHDRAWN:
        is_untrue = delivery.event_type in UNTRUE_ONCE_SETTLED
        why = "is no longer true: the order is paid" if is_untrue else "is not sent: its endpoint was deleted"
        why = "is not retried: the shop has requested it again" if is_replaced else why
        yield Moment(delivery.next_attempt_at, "Message withdrawn", f"{name} {why}.")
    elif delivery.state is DeliveryState.ABANDONED:
        text = f"LNPay stopped sending {name} after {tries}: {delivery.last_error}."
        yield Moment(delivery.next_attempt_at, "Message abandoned", text, tone="wrong")
    elif delivery.attempts:
        text = f"{name} was refused {tries.replace('attempt', 'time')}, the last time: {delivery.last_error}."
        yield Moment(delivery.next_attempt_at, "Next attempt", text, tone="wrong")
