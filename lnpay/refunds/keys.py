"""The idempotency keys of refunds, which every copy of this database chooses alike.

A key is made of Strike's id of the invoice that was paid and of a number that grows by one with every key that was
used up. Wherever a copy of the database goes on (a snapshot put back, a standby promoted), it asks Strike under the
keys that the original has used: Strike says so (DUPLICATE_PAYMENT_QUOTE), and nothing is sent a second time.
"""

from __future__ import annotations

import hashlib
import uuid

from lnpay.domain.model import Refund, RefundKey
from lnpay.domain.states import HoldCause

UNCERTAIN_HOLDS = frozenset({HoldCause.RESTORED, HoldCause.FORKED})
"""Held because a copy of this database may have sent it: a person has looked at Strike before it is approved."""


def refund_key(strike_invoice_id: str, number: int) -> RefundKey:
    """The key with this number for the refund of an invoice: a UUID, marked as version 4 as Strike advises."""
    digest = hashlib.sha256(f"lnpay refund {strike_invoice_id} {number}".encode()).digest()
    return RefundKey(str(uuid.UUID(bytes=digest[:16], version=4)), number)


def next_key(refund: Refund, strike_invoice_id: str) -> RefundKey:
    """The key under which a refund begins anew: the present one, as long as Strike cannot have made a quote under it.

    After a person has looked at Strike it is one that no copy has used, whatever became of the others.
    """
    if refund.held_because in UNCERTAIN_HOLDS:
        return RefundKey(str(uuid.uuid4()), refund.key_number + 1)
    if refund.payment_quote_id is None and refund.asked_at is None:
        return RefundKey(refund.idempotency_key, refund.key_number)
    return refund_key(strike_invoice_id, refund.key_number + 1)
