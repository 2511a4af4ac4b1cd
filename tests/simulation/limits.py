"""Checks the merchant's limits against what the provider has sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lnpay.sandbox.strike.models import Payment
from tests.simulation.scheduler import Violation

if TYPE_CHECKING:
    from tests.simulation.watch import Customer, Watch

FREE_FEE_SATS = 10

DAY = timedelta(hours=20)
"""A refund counts from its start, by its process's clock, and may be executed up to an hour later."""


def check_limits(watch: Watch, customer: Customer, payment: Payment) -> None:
    """Nothing is sent above a limit, unless the operator has lifted it."""
    home = watch.homes[customer.home]
    quote, rules = payment.quote, home.settings
    most = max(min(FREE_FEE_SATS, quote.sats // 10), int(quote.sats * rules.refund_max_fee_percent / 100))
    if quote.fee_sats > most:
        raise Violation(f"a refund of {quote.sats} sats cost {quote.fee_sats} in fees, but only {most} are permitted")
    if _is_approved(watch, customer, payment):
        return
    if not rules.refunds_enabled:
        raise Violation("a refund was sent without approval, although REFUNDS_ENABLED is off")
    if rules.refund_max_sats is not None and quote.sats > rules.refund_max_sats:
        raise Violation(f"a refund of {quote.sats} sats was sent, but REFUND_MAX_SATS is {rules.refund_max_sats}")
    if rules.refund_daily_max_sats is not None and not home.is_copied:
        sent = sum(
            one.quote.sats + one.quote.fee_sats
            for other in watch.customers.values()
            if other.home == customer.home
            for one in watch.payments_of(other)
            if one.state != "FAILED"
            and one.created_at > payment.created_at - DAY
            # A refund that was started within the limit may be sent after another one that was approved meanwhile.
            and not _is_approved(watch, other, one)
        )
        if sent > rules.refund_daily_max_sats:
            raise Violation(f"{sent} sats sent in a day exceed REFUND_DAILY_MAX_SATS {rules.refund_daily_max_sats}")


def _is_approved(watch: Watch, customer: Customer, payment: Payment) -> bool:
    return (customer.invoice_id, payment.quote.destination) in watch.approved
