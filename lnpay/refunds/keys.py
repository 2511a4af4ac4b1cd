"""The idempotency keys of refunds, which every copy of this database derives in the same way.

A key is derived from Strike's id of the paid invoice, which of its refunds this is, and a number that grows by one
with every key used. A copy of the database that continues (a restored snapshot, a promoted standby) therefore asks
Strike under the keys that the original has used: Strike refuses them (DUPLICATE_PAYMENT_QUOTE), and nothing is sent
twice.
"""

from __future__ import annotations

import hashlib
import uuid

from lnpay.domain.model import Refund, RefundKey
from lnpay.domain.states import HoldCause

UNCERTAIN_HOLDS = frozenset({HoldCause.RESTORED, HoldCause.FORKED})
"""Held because a copy of this database may have sent it: the operator checks Strike before approving it."""


def refund_key(strike_invoice_id: str, number: int, sequence: int = 1) -> RefundKey:
    """The key with this number for an invoice's refund: a UUID marked as version 4, as Strike recommends.

    sequence: which refund of the invoice it is; keys of the first are as they were when there was only one.
    """
    name = strike_invoice_id if sequence == 1 else f"{strike_invoice_id}/{sequence}"
    digest = hashlib.sha256(f"lnpay refund {name} {number}".encode()).digest()
    return RefundKey(str(uuid.UUID(bytes=digest[:16], version=4)), number)


def next_key(refund: Refund, strike_invoice_id: str) -> RefundKey:
    """The key for a refund's next attempt: the present one, as long as Strike cannot have a quote under it.

    Once the operator has checked Strike, use a key that no copy can have used.
    """
    if refund.held_because in UNCERTAIN_HOLDS:
        return RefundKey(str(uuid.uuid4()), refund.key_number + 1)
    if refund.payment_quote_id is None and refund.asked_at is None:
        return RefundKey(refund.idempotency_key, refund.key_number)
    return refund_key(strike_invoice_id, refund.key_number + 1, refund.sequence)
