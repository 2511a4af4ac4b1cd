"""The idempotency keys of refunds, which every copy of this database derives in the same way.

A key is derived from Strike's id of the paid invoice, the refund's number within that invoice, and a counter that is
incremented for every new key. Another copy of the database (a restored snapshot, a promoted standby) therefore uses the
same keys as the original: Strike refuses them (DUPLICATE_PAYMENT_QUOTE), and nothing is sent twice.
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

    sequence: the refund's number within the invoice. The first one's keys are those of versions that had only one
    refund.
    """
    name = strike_invoice_id if sequence == 1 else f"{strike_invoice_id}/{sequence}"
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
    return refund_key(strike_invoice_id, refund.key_number + 1, refund.sequence)
