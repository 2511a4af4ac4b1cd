"""Shops that accept or hold late payments, operators who decide at the same time, and prices that move meanwhile.

All of it is drawn from a separate generator, so that worlds without it stay the same.
"""

from __future__ import annotations

import random
import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lnpay.domain.errors import Conflict
from lnpay.domain.states import LatePayments
from lnpay.invoices.late import accept_late_payment
from tests.simulation.draws import Scene
from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.scheduler import Violation

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.watch import Watch
    from tests.simulation.world import SimulatedWorld

SHARE = 0.4
"""The share of worlds with a policy, of those that may have one."""

MARKET = ("0.5", "0.9", "0.98", "0.995", "1", "1.01", "1.5")

PRICE_DIGITS = Decimal("0.01")
"""The precision of a source's price."""


def draw_policy(chance: random.Random, scene: Scene) -> dict[str, Any]:
    """The shop's settings for late payments; empty for the default.

    Not in worlds that restore a database, which does not know what was accepted.
    """
    if scene.kind != "any" or scene.has_restore or chance.random() >= SHARE:
        return {}
    return {
        "late_payments": chance.choice((LatePayments.ACCEPT, LatePayments.HOLD)),
        "late_accept_percent": Decimal(chance.choice(("0", "1", "1", "5"))),
    }


class Policies:
    """Starts operators' decisions, and moves the price."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities
        self._chance = random.Random(f"policies {world.seed}")

    def move_market(self, home: Installation) -> None:
        """All sources quote another price from now on."""
        rates, factor = self.world.simulator.rates, Decimal(self._chance.choice(MARKET))
        rates.factors = dict.fromkeys(rates.factors, factor)
        self.world.scheduler.note(f"the price is {factor} of what it was at first")

    def start_decision(self, home: Installation, strike_id: str, address: str | None) -> None:
        """An operator accepts or refunds a late payment, or two operators decide at once."""
        for decision in self._chance.choice((("accept",), ("refund",), ("accept", "refund"), ("accept", "accept"))):
            process = self._activities.server(home)
            if decision == "accept":
                self.world.scheduler.spawn("operator accepts", process, lambda p=process: accept(p, strike_id))  # type: ignore[misc]
            else:
                self.world.scheduler.spawn(
                    "operator refunds", process,
                    lambda p=process: self._activities.approve(p, strike_id, address or ""),  # type: ignore[misc]
                )  # fmt: skip

    def accepts_at_last(self, operator: LnpayProcess, strike_id: str) -> bool:
        """Whether the operator accepts a payment that is still held at the end of the world."""
        if self._chance.random() < 0.5:
            return False
        try:
            accept(operator, strike_id)
        except Conflict:
            return False  # less was paid than asked, or the order was paid already
        return True


def accept(process: LnpayProcess, strike_id: str) -> None:
    """The operator accepts a late payment."""
    backend = process.backend
    accept_late_payment(backend.repository, strike_id, backend.refund_sender.events, backend.clock())


def check_accepted(watch: Watch, home: str, row: sqlite3.Row) -> None:
    """A late payment is accepted only as the shop's settings permit, and never one that is refunded."""
    customer, rules = watch.customers[row["strike_invoice_id"]], watch.homes[home].settings
    if not watch.is_late(customer):
        raise Violation(f"{customer} paid in time, but the payment was accepted as a late one")
    is_request = watch.requests.find(customer.invoice_id) is not None  # further payments of one are refunded
    if not is_request and any(payment.state != "FAILED" for payment in watch.payments_of(customer)):
        raise Violation(f"the payment of {customer} was accepted and also refunded")
    if watch.received(customer) < watch.price_of(customer):
        raise Violation(f"{customer} paid less than the price, but the late payment was accepted")
    needed = LatePayments.ACCEPT if row["accepted_by"] == "rule" else LatePayments.HOLD
    if rules.late_payments is not needed:
        raise Violation(f"LATE_PAYMENTS is {rules.late_payments}, but {row['accepted_by']} accepted a late payment")
    if needed is LatePayments.ACCEPT:
        _check_price(watch, rules.late_accept_percent, row)


def _check_price(watch: Watch, percent: Decimal, row: sqlite3.Row) -> None:
    watch.note_prices()
    price, sold_at = Decimal(row["accepted_price"]), Decimal(row["rate_price"])
    if all(abs(price - told) > PRICE_DIGITS for told in watch.prices_told):
        raise Violation(f"a late payment was accepted at {price}, a price that no source has quoted")
    if price < sold_at and (sold_at - price) * 100 >= sold_at * percent:
        raise Violation(
            f"a late payment was accepted at {price}, sold at {sold_at}: more than LATE_ACCEPT_PERCENT {percent}"
        )
