"""Rows of refunds and of their history as records, and values for several of their columns at once."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Row

from lnpay.domain.model import (
    Refund,
    RefundAttempt,
    RefundKey,
)
from lnpay.domain.states import (
    AmountBasis,
    CancelCause,
    Closer,
    HoldCause,
    RefundAsker,
    RefundKind,
    RefundState,
    RefundStep,
)
from lnpay.repository.sql import (
    checked,
    require,
)

_WITHOUT_ADDRESS = (RefundState.NEEDS_ADDRESS, RefundState.SENT, RefundState.HELD, RefundState.CANCELED)


def to_refund(row: Row[Any]) -> Refund:
    refund = Refund(
        **{
            **row._mapping,
            "state": RefundState(row.state),
            "held_because": None if row.held_because is None else HoldCause(row.held_because),
            "closed_by": None if row.closed_by is None else Closer(row.closed_by),
            "kind": RefundKind(row.kind),
            "basis": AmountBasis(row.basis),
            "asked_by": RefundAsker(row.asked_by),
            "cancel_cause": None if row.cancel_cause is None else CancelCause(row.cancel_cause),
        }
    )
    checked(refund)
    has_quote = refund.payment_quote_id is not None and refund.fee_sats is not None
    require(
        0 < refund.amount_sats <= refund.received_sats,
        (refund.state is RefundState.SENT) == (refund.sent_at is not None),
        (refund.state is RefundState.CANCELED) == (refund.canceled_at is not None),
        refund.address is not None or refund.state in _WITHOUT_ADDRESS,
        has_quote or refund.state not in (RefundState.QUOTED, RefundState.IN_FLIGHT),
    )
    return refund


_ATTEMPT_FIELDS = tuple(one.name for one in dataclasses.fields(RefundAttempt))


def to_attempt(row: Row[Any]) -> RefundAttempt:
    values = {name: row._mapping[name] for name in _ATTEMPT_FIELDS}
    state = None if row.state is None else RefundState(row.state)
    return checked(RefundAttempt(**{**values, "step": RefundStep(row.step), "state": state}))


NOTHING_SENT: dict[str, Any] = {
    "asked_at": None,
    "unanswered_quotes": 0,
    "payment_quote_id": None,
    "fee_sats": None,
    "payment_id": None,
    "is_in_doubt": False,
    "looks": 0,
    "stuck_at": None,
    "held_because": None,
}
"""Column values of a refund that starts over: nothing was sent, and nothing remains of the last attempt."""


def request_values(refund: Refund) -> dict[str, Any]:
    """What the refund knows of its requests for a quote under its present key."""
    return {"asked_at": refund.asked_at, "unanswered_quotes": refund.unanswered_quotes}


def key_values(key: RefundKey) -> dict[str, Any]:
    """The columns of an idempotency key."""
    return {"idempotency_key": key.value, "key_number": key.number}
