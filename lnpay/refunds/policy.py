"""What the settings let a refund cost, and when a person has to approve it first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from lnpay.domain.model import Hold, Refund
from lnpay.domain.states import HoldCause
from lnpay.repository import Transaction

FREE_FEE_SATS = 10
"""A fee up to this is not too dear for a refund that it is a small part of: percents of a small refund are less than
any route costs."""

FREE_FEE_DIVISOR = 10
"""No fee is more than a tenth of the refund, unless REFUND_MAX_FEE_PERCENT says so."""

DAY = timedelta(hours=24)


@dataclass(frozen=True)
class RefundRules:
    """What the settings say. max_sats and daily_max_sats: above them a person approves; None: no limit.

    min_sats: a refund of less waits until a person asks for it. The day counts what is sent with its fees.
    """

    is_enabled: bool
    max_fee_percent: Decimal
    max_sats: int | None
    daily_max_sats: int | None
    min_sats: int = 0


def why_too_dear(rules: RefundRules, refund: Refund) -> str | None:
    """Why the fee of a quoted refund is not paid, in words; None when it is."""
    fee_sats = refund.fee_sats or 0
    percent = Decimal(refund.amount_sats) * rules.max_fee_percent / 100
    free_sats = min(FREE_FEE_SATS, refund.amount_sats // FREE_FEE_DIVISOR)
    most = max(free_sats, int(percent.to_integral_value(rounding=ROUND_FLOOR)))
    if fee_sats <= most:
        return None
    return f"the fee of {fee_sats:,} sats is above the {most:,} sats that REFUND_MAX_FEE_PERCENT allows"


def why_unasked(rules: RefundRules, refund: Refund) -> str | None:
    """Why a refund waits to be asked for, in words; None when it is large enough, or a person has asked for it."""
    if refund.amount_sats >= rules.min_sats or refund.wanted_at is not None:
        return None
    return (
        f"{refund.amount_sats:,} sats are below REFUND_MIN_SATS: sent when the customer enters an address on the "
        "refund page, or you do with python main.py refunds address"
    )


def why_held_before_quote(rules: RefundRules, refund: Refund) -> Hold | None:
    """Why a refund must be approved, as far as that is known without its price."""
    if refund.approved_at is not None:
        return None
    if not rules.is_enabled:
        return Hold(HoldCause.REFUNDS_OFF, "REFUNDS_ENABLED is off: a person approves each refund")
    if rules.max_sats is not None and refund.amount_sats > rules.max_sats:
        return Hold(HoldCause.MAX_SATS, f"{refund.amount_sats:,} sats are above REFUND_MAX_SATS: a person approves it")
    return None


def why_held(tx: Transaction, rules: RefundRules, refund: Refund, now: datetime) -> Hold | None:
    """Why a quoted refund must be approved. Until the commit of `tx`, no other process can start a refund."""
    most = rules.daily_max_sats
    if refund.approved_at is not None or most is None:
        return why_held_before_quote(rules, refund)
    if tx.refunds.started_sats(now - DAY) + refund.amount_sats + (refund.fee_sats or 0) > most:
        return Hold(HoldCause.DAILY_MAX_SATS, "REFUND_DAILY_MAX_SATS is reached: a person approves it")
    return why_held_before_quote(rules, refund)
