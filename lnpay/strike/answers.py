"""Strike's answers about quotes and about money sent, and their readers. `invoices.py` has those of invoices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lnpay.domain.errors import StrikeAmbiguous
from lnpay.strike.reading import (
    ODD,
    is_last_page,
    parse_time,
    read_array,
    read_items,
    read_object,
    read_sats,
    read_sats_or_none,
    read_text,
    read_total,
)

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
    """Ids of the account's outgoing payments since some moment. is_complete: all of them were shown and readable."""

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


def read_payments_made(value: object, since: datetime) -> PaymentsMade:
    """The payments in a page of events, newest first. An event whose time cannot be read counts as recent."""
    rows = read_items(value)
    events = read_array(rows)
    times = [_created_at(event) for event in events]
    ids = [
        _payment_id(event)
        for event, created_at in zip(events, times, strict=True)
        if event.get("eventType") == PAYMENT_CREATED and (created_at is None or created_at >= since)
    ]
    known_ids = [one for one in ids if one is not None]
    is_readable = len(known_ids) == len(ids) and len(events) == len(rows)
    known_times = [one for one in times if one is not None]
    is_newest_first = known_times == sorted(known_times, reverse=True)
    is_reached = bool(known_times) and known_times[-1] < since and is_newest_first
    return PaymentsMade(known_ids, is_readable and (is_reached or is_last_page(len(rows), 0, read_total(value))))


def _created_at(event: Mapping[str, Any]) -> datetime | None:
    try:
        return parse_time(event.get("created"))
    except ODD:
        return None


def _payment_id(event: Mapping[str, Any]) -> str | None:
    data = event.get("data")
    payment_id = data.get("entityId") if isinstance(data, dict) else None
    return payment_id if isinstance(payment_id, str) and payment_id else None
