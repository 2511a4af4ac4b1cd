"""The idempotency keys of refunds, which every copy of this database derives in the same way.

The first key is derived from Strike's id of the paid invoice and from what the refund is for: the late payment, the
merchant's request, or the invoice's first, second, ... overpayment. Not from its place among the invoice's refunds: a
copy that lacks another refund would count differently. Each further key follows from the one before. A copy of the
database that continues (a restored snapshot, a promoted standby) therefore asks Strike under the keys that the
original has used: Strike refuses them (DUPLICATE_PAYMENT_QUOTE), and nothing is sent twice.
"""

from __future__ import annotations

import hashlib
import uuid

from lnpay.domain.model import Refund, RefundKey
from lnpay.domain.states import HoldCause, RefundKind

UNCERTAIN_HOLDS = frozenset({HoldCause.RESTORED, HoldCause.FORKED})
"""Held because a copy of this database may have sent it: the operator checks Strike before approving it."""


def late_key(strike_invoice_id: str, number: int = 1) -> RefundKey:
    """The key with this number for the refund of a late payment."""
    return _key(strike_invoice_id, number)


def merchant_key(strike_invoice_id: str, request_key: str) -> RefundKey:
    """The first key of the refund that a merchant requests with this Idempotency-Key."""
    return _key(f"{strike_invoice_id} merchant {request_key}", 1)


def overpaid_key(strike_invoice_id: str, ordinal: int) -> RefundKey:
    """The first key of an invoice's first, second, ... refund of an overpayment."""
    return _key(f"{strike_invoice_id} overpaid {ordinal}", 1)


def _key(name: str, number: int) -> RefundKey:
    """A UUID marked as version 4, as Strike recommends."""
    digest = hashlib.sha256(f"lnpay refund {name} {number}".encode()).digest()
    return RefundKey(str(uuid.UUID(bytes=digest[:16], version=4)), number)


def next_key(refund: Refund, strike_invoice_id: str) -> RefundKey:
    """The key for a refund's next attempt: the current one, as long as Strike cannot have a quote under it.

    Once the operator has checked Strike, use a key that no copy can have used.
    """
    if refund.held_because in UNCERTAIN_HOLDS:
        return RefundKey(str(uuid.uuid4()), refund.key_number + 1)
    if refund.payment_quote_id is None and refund.asked_at is None:
        return RefundKey(refund.idempotency_key, refund.key_number)
    number = refund.key_number + 1
    # Late payments have the keys that they had before there were other refunds.
    is_late = refund.kind is RefundKind.LATE
    return late_key(strike_invoice_id, number) if is_late else _key(refund.idempotency_key, number)
