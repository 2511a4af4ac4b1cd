"""How customers pay, and when."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from lnpay.domain.states import EXPIRE_MARGIN
from lnpay.invoices import sweep
from lnpay.sandbox.strike.invoices import PaymentRefused
from tests.simulation.installation import Installation
from tests.simulation.requests import PLANS, price_of
from tests.simulation.watch import Customer

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.world import SimulatedWorld

LONG_PENDING_SECONDS = (4_000.0, 9_000.0, 20_000.0)
"""Longer than a payment request is valid and LNPay looks for its payment afterwards."""


class Wallets:
    """Starts the customers' payments."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities
        self._chance = random.Random(f"wallets {world.seed}")
        self._left: dict[Customer, deque[int]] = {}
        """The payments, in sats, that each customer has yet to make for a receive request."""

    def start_payment(self, home: Installation) -> None:
        world, chance = self.world, self.world.random
        shown = [one for one in self._activities.customers(home) if one.invoice_id is not None and one.plan != "never"]
        payable = [one for one in shown if one.invoice_id in world.watch.unpaid]
        if not shown:
            return
        customer = chance.choice(payable if payable and chance.random() < 0.95 else shown)
        assert customer.expires_at is not None
        if customer.plan == "late" and customer.invoice_id in world.watch.unpaid and chance.random() < 0.5:
            self._race(home, customer)
            return
        self.pay(customer)

    def _race(self, home: Installation, customer: Customer) -> None:
        """The customer pays while a pass ends unpaid invoices, just before the pass writes."""
        world, chance = self.world, self.world.random
        assert customer.expires_at is not None
        left = (customer.expires_at + EXPIRE_MARGIN - world.simulator.clock.now()).total_seconds()
        world.advance(max(left, 0.0) + chance.choice((2.0, 5.0, 15.0)))
        task = (
            self._activities.start_worker(home, chance.choice(("main", "expired"))) if world.scene.has_workers else None
        )
        if task is None:
            return
        task.halt_in(sweep._end)
        world.run_through(task)
        if not task.has_halted:
            return
        world.counts["races"] += 1
        self.pay(customer, pending_seconds=0.0)
        other = self._activities.trouble.start_webhook(home) or self._activities.start_worker(home, "main")
        if other is not None:
            world.run_through(other)

    def pay(self, customer: Customer, pending_seconds: float | None = None) -> None:
        """The customer's wallet pays, unless it has already, at the time that the customer planned."""
        world, chance = self.world, self.world.random
        assert customer.expires_at is not None
        world.watch.unpaid.discard(customer.invoice_id or "")
        if customer.plan == "late" and world.simulator.clock.now() <= customer.expires_at:
            # When the customer comes back, the deadline has passed.
            left = (customer.expires_at - world.simulator.clock.now()).total_seconds()
            world.advance(left + chance.choice((0.001, 1.0, 60.0)))
        if customer.plan == "last second" and world.simulator.clock.now() < customer.expires_at:
            world.advance((customer.expires_at - world.simulator.clock.now()).total_seconds() * 0.999)
        seconds = chance.choice((0.0, 0.0, 0.0, 0.0, 20.0, 400.0))
        if pending_seconds is not None:
            seconds = pending_seconds
        elif world.scene.has_long_pending and chance.random() < 0.5:
            seconds = chance.choice(LONG_PENDING_SECONDS)
        if world.watch.requests.find(customer.invoice_id):
            self._begin_to_pay(customer, seconds)
            return
        try:
            world.simulator.pay_invoice(
                customer.bolt11, pending_seconds=seconds, reverts=bool(seconds) and chance.random() < 0.2,
                received_sats=self._received(customer),
            )  # fmt: skip
            world.scheduler.note(f"{customer} pays ({customer.plan}, pending {seconds:.0f} s)")
        except PaymentRefused as refusal:
            world.scheduler.note(f"{customer} cannot pay: {refusal.reason}")

    def _received(self, customer: Customer) -> int | None:
        """The amount that arrives, if it differs from the price and the provider permits that."""
        config, chance = self.world.simulator.config, self.world.random
        is_said = config.transactions == "present" and "amountReceived" not in config.transaction_fields_missing
        if not is_said or chance.random() < 0.8:
            return None
        asked = self.world.watch.invoice_of(customer).amount.units
        return chance.choice((asked + 1, asked * 2, asked + 500, max(1, asked - 1)))

    # Receive requests: any number of payments, of any amounts.

    def has_more_to_pay(self, home: Installation) -> bool:
        """Whether a customer has more payments to make."""
        return any(parts and customer.home == home.name for customer, parts in self._left.items())

    def pay_more(self, home: Installation) -> None:
        """A customer makes the next payment for the same request, sometimes too late."""
        own = [customer for customer, parts in self._left.items() if parts and customer.home == home.name]
        customer, clock = self._chance.choice(own), self.world.simulator.clock
        assert customer.expires_at is not None
        left = (customer.expires_at - clock.now()).total_seconds()
        if left > 0 and self._chance.random() < 0.3:
            self.world.advance(left + self._chance.choice((0.001, 1.0, 60.0)))
        self._pay_part(customer, self._chance.choice((0.0, 0.0, 0.0, 20.0)))

    def _begin_to_pay(self, customer: Customer, pending_seconds: float) -> None:
        if customer not in self._left:
            request = self.world.watch.requests.find(customer.invoice_id)
            assert request is not None
            asked = price_of(request)
            self._left[customer] = deque(max(1, part(asked)) for part in self._chance.choice(PLANS))
        if self._left[customer]:
            self._pay_part(customer, pending_seconds)

    def _pay_part(self, customer: Customer, pending_seconds: float) -> None:
        world, sats = self.world, self._left[customer].popleft()
        is_strike_user = self._chance.random() < 0.3
        try:
            world.simulator.pay_invoice(
                customer.bolt11, pending_seconds=pending_seconds, received_sats=sats, is_strike_user=is_strike_user,
                reverts=bool(pending_seconds) and self._chance.random() < 0.2,
            )  # fmt: skip
            who = "as a Strike user" if is_strike_user else "over Lightning"
            world.scheduler.note(
                f"{customer} pays {sats} sats {who} ({customer.plan}, pending {pending_seconds:.0f} s)"
            )
        except PaymentRefused as refusal:
            world.scheduler.note(f"{customer} cannot pay {sats} sats: {refusal.reason}")
