"""What a refund may cost, and when it needs the operator's approval."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import HoldCause
from lnpay.repository import Transaction

FREE_FEE_SATS = 10
"""A fee of up to this is accepted regardless of its percentage, which for a small refund would be less than any route
costs.
"""

FREE_FEE_DIVISOR = 10
"""That allowance is limited to a tenth of the refund."""

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class RefundRules:
    """The operator's settings. Above max_sats or daily_max_sats a refund needs approval; None means no limit.

    min_sats: a smaller refund is sent only on request. The daily limit counts amounts and fees. claim_length: how long
    the customer of a merchant's refund has to give an address.
    """

    is_enabled: bool
    max_fee_percent: Decimal
    max_sats: int | None
    daily_max_sats: int | None
    min_sats: int = 0
    claim_length: timedelta = timedelta(days=30)


def why_too_dear(rules: RefundRules, refund: Refund) -> str | None:
    """Why the fee of a quoted refund is too high; None if it is acceptable."""
    fee_sats = refund.fee_sats or 0
    percent = Decimal(refund.amount_sats) * rules.max_fee_percent / 100
    free_sats = min(FREE_FEE_SATS, refund.amount_sats // FREE_FEE_DIVISOR)
    most = max(free_sats, int(percent.to_integral_value(rounding=ROUND_FLOOR)))
    if fee_sats <= most:
        return None
    return f"the fee of {fee_sats:,} sats exceeds the {most:,} sats that REFUND_MAX_FEE_PERCENT allows"


def why_unasked(rules: RefundRules, refund: Refund) -> str | None:
    """Why a refund is not sent until it is requested; None if it is large enough, or was requested."""
    if refund.amount_sats >= rules.min_sats or refund.wanted_at is not None:
        return None
    return (
        f"{refund.amount_sats:,} sats is below REFUND_MIN_SATS: sent once the customer enters an address on the refund "
        "page, or you enter one with python main.py refunds address"
    )


def why_held_before_quote(rules: RefundRules, refund: Refund) -> Hold | None:
    """Why a refund needs approval, as far as that is known before it is quoted."""
    if refund.approved_at is not None:
        return None
    if not rules.is_enabled:
        return Hold(HoldCause.REFUNDS_OFF, "REFUNDS_ENABLED is off: needs your approval")
    if rules.max_sats is not None and refund.amount_sats > rules.max_sats:
        return Hold(HoldCause.MAX_SATS, f"{refund.amount_sats:,} sats exceeds REFUND_MAX_SATS: needs your approval")
    return None


def why_held(tx: Transaction, rules: RefundRules, refund: Refund, now: datetime) -> Hold | None:
    """Why a quoted refund needs approval. Call it in the transaction that starts the refund: no other process can start
    one before `tx` commits, so the daily total holds."""
    most = rules.daily_max_sats
    if refund.approved_at is not None or most is None:
        return why_held_before_quote(rules, refund)
    if tx.refunds.started_sats(now - DAY) + refund.amount_sats + (refund.fee_sats or 0) > most:
        return Hold(HoldCause.DAILY_MAX_SATS, "REFUND_DAILY_MAX_SATS is reached: needs your approval")
    return why_held_before_quote(rules, refund)
