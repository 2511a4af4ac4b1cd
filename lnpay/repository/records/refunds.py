"""Rows of refunds and of their history as records."""

from __future__ import annotations

import dataclasses
from typing import Any

from sqlalchemy import Row

from lnpay.domain.model import (
    Refund,
    RefundAttempt,
)
from lnpay.domain.states import (
    Closer,
    HoldCause,
    RefundState,
    RefundStep,
)
from lnpay.repository.sql import (
    checked,
    require,
)


def to_refund(row: Row[Any]) -> Refund:
    refund = Refund(
        **{
            **row._mapping,
            "state": RefundState(row.state),
            "held_because": None if row.held_because is None else HoldCause(row.held_because),
            "closed_by": None if row.closed_by is None else Closer(row.closed_by),
        }
    )
    checked(refund)
    has_quote = refund.payment_quote_id is not None and refund.fee_sats is not None
    require(
        0 < refund.amount_sats <= refund.received_sats,
        (refund.state is RefundState.SENT) == (refund.sent_at is not None),
        refund.address is not None or refund.state in (RefundState.NEEDS_ADDRESS, RefundState.SENT),
        has_quote or refund.state not in (RefundState.QUOTED, RefundState.IN_FLIGHT),
    )
    return refund


_ATTEMPT_FIELDS = tuple(one.name for one in dataclasses.fields(RefundAttempt))


def to_attempt(row: Row[Any]) -> RefundAttempt:
    values = {name: row._mapping[name] for name in _ATTEMPT_FIELDS}
    state = None if row.state is None else RefundState(row.state)
    return checked(RefundAttempt(**{**values, "step": RefundStep(row.step), "state": state}))
