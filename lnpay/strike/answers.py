"""Strike's answers about quotes and about money sent, and their readers. `invoices.py` has those of invoices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.strike.reading import ODD, PAGE_SIZE, parse_time, read_object, read_sats, read_sats_or_none, read_text

PAYMENT_CREATED = "payment.created"
"""The event of a new outgoing payment."""


@dataclass(frozen=True)
class StrikeQuote:
    """Strike's price for an invoice, and the payment request that a customer can pay until `expires_at`."""

    bolt11: str
    expires_at: datetime
    raw: dict[str, Any]


class PaymentStatus(StrEnum):
    """Strike's states of an outgoing payment. PENDING: already charged, but not yet received."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class PaymentQuote:
    """Strike's price for sending. `amount_sats` is what the recipient gets; `fee_sats` is charged on top."""

    quote_id: str
    amount_sats: int
    fee_sats: int
    valid_until: datetime | None


@dataclass(frozen=True)
class Payment:
    """An outgoing payment. `status` decides, not the HTTP status.

    amount_sats is what the recipient gets, fee_sats is charged on top; None if Strike does not give them in bitcoin.
    """

    payment_id: str
    status: PaymentStatus
    amount_sats: int | None = None
    fee_sats: int | None = None


@dataclass(frozen=True)
class PaymentsMade:
    """Ids of the account's outgoing payments since some moment. is_complete: Strike showed all of them."""

    payment_ids: list[str]
    is_complete: bool


def read_quote(value: object) -> StrikeQuote:
    raw = read_object(value)
    try:
        return StrikeQuote(
            bolt11=read_text(raw["lnInvoice"]),
            expires_at=parse_time(raw["expiration"]),
            raw=raw,
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's quote is invalid") from error


def read_payment_quote(value: object) -> PaymentQuote:
    raw = read_object(value)
    try:
        amount, total = read_sats(raw["amount"]), read_sats(raw["totalAmount"])
        if amount is None or total is None or total < amount:
            raise ValueError("not in bitcoin, or a negative fee")
        return PaymentQuote(
            quote_id=read_text(raw["paymentQuoteId"]),
            amount_sats=amount,
            fee_sats=total - amount,
            valid_until=parse_time(raw["validUntil"]) if raw.get("validUntil") else None,
        )
    except ODD as error:
        raise StrikeAmbiguous("Strike's payment quote is invalid") from error


def read_payment(value: object) -> Payment:
    raw = read_object(value)
    try:
        payment_id, status = read_text(raw["paymentId"]), PaymentStatus(raw["state"])
    except ODD as error:
        raise StrikeAmbiguous("Strike's payment is invalid") from error
    amount, total = read_sats_or_none(raw.get("amount")), read_sats_or_none(raw.get("totalAmount"))
    return Payment(payment_id, status, amount, None if amount is None or total is None else total - amount)


def read_payments_made(events: Sequence[Mapping[str, Any]], since: datetime) -> PaymentsMade:
    """The payments in a page of events, newest first. An event whose time cannot be read counts as recent."""
    recent = [event for event in events if _is_since(event, since)]
    data = [event.get("data") for event in recent if event.get("eventType") == PAYMENT_CREATED]
    ids = [one.get("entityId") for one in data if isinstance(one, dict)]
    is_complete = len(events) < PAGE_SIZE or len(recent) < len(events)
    return PaymentsMade([one for one in ids if isinstance(one, str) and one], is_complete)


def _is_since(event: Mapping[str, Any], since: datetime) -> bool:
    try:
        return parse_time(event.get("created")) >= since
    except ODD:
        return True
