"""What goes wrong outside LNPay: at the provider, the shop, strangers, neighbours and machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from lnpay.sandbox.faults import Fault
from lnpay.sandbox.strike.models import Money
from lnpay.sandbox.strike.webhooks import Attempt
from tests.simulation.draws import ODD_FIELDS, draw_fault
from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.scheduler import Task, Violation
from tests.world import WEBHOOK_SECRET

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.world import SimulatedWorld

WEBHOOK_TIMEOUT = timedelta(seconds=5)


class Trouble:
    """Starts events from outside."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities

    # The provider's webhooks.

    def start_webhook(self, home: Installation) -> Task | None:
        """Deliver the next webhook that is due, to the installation that it is for. None if none is due."""
        world = self.world
        world.simulator.tick()
        attempt = world.simulator.webhooks.claim(world.simulator.clock.now())
        if attempt is None:
            return None
        server = self._activities.server(self.receiver(attempt))
        task = world.scheduler.spawn("webhook", server, lambda: self.receive(server, attempt))
        world.waiting.append((world.simulator.clock.now() + WEBHOOK_TIMEOUT, task, attempt))
        return task

    def receiver(self, attempt: Attempt) -> Installation:
        """The installation that a webhook goes to."""
        return next(home for home in self.world.homes if f"//{home.name}.test/" in attempt.subscription.url)

    def receive(self, server: LnpayProcess, attempt: Attempt) -> int:
        """Deliver one of the provider's webhooks. Returns the status of our answer."""
        headers = self.world.simulator.webhooks.headers_of(attempt)
        if attempt.is_forged:
            return self._receive_forged(server, attempt.body, headers)
        return self._activities.request(server, "POST", "/webhook", data=attempt.body, headers=headers).status_code

    def _receive_forged(self, server: LnpayProcess, body: bytes, headers: dict[str, str]) -> int:
        answer = server.request("POST", "/webhook", data=body, headers=headers)
        self.world.counts["forged webhooks"] += 1
        if answer.status_code != 401:
            raise Violation(f"a forged webhook was answered {answer.status_code}")
        return answer.status_code

    def forge_webhook(self, home: Installation) -> None:
        """A stranger calls the webhook."""
        world = self.world
        entity = world.random.choice([*world.watch.customers, *world.simulator.payments.payments, "nothing"])
        body = json.dumps({"eventType": "invoice.updated", "data": {"entityId": entity}}).encode()
        signature = world.random.choice(("", "00" * 32, "x", WEBHOOK_SECRET))
        server = self._activities.server(home)
        world.scheduler.spawn(
            "forger", server, lambda: self._receive_forged(server, body, {"X-Webhook-Signature": signature})
        )

    def record_webhooks(self) -> None:
        """Record the answers that Strike has received by now, and those that it no longer waits for."""
        world = self.world
        now = world.simulator.clock.now()
        for one in list(world.waiting):
            due_at, task, attempt = one
            if task.is_over or due_at <= now:
                world.waiting.remove(one)
                status = task.result if task.is_over and due_at > now else None
                world.simulator.webhooks.record(attempt, status if isinstance(status, int) else None)

    # Faults.

    def add_fault(self) -> None:
        """Draw something that goes wrong."""
        self.set_fault(draw_fault(self.world.random, self.world.scene))

    def set_fault(self, fault: Fault) -> None:
        """Set this fault."""
        world = self.world
        world.scheduler.note(f"fault {fault.kind} {fault.status} on {fault.method} {fault.path_pattern} x{fault.times}")
        world.faults.append(world.simulator.faults.add(fault))

    def trouble_shop(self, home: Installation) -> None:
        """The shop answers with another status for a while."""
        status = self.world.random.choice((500, 500, 503, 404, 302, 410, 200))
        self.world.simulator.shop.answer_with(status, self.world.random.choice((1, 3, None)) if status != 410 else 1)
        self.world.scheduler.note(f"the shop answers {status}")

    def trouble_rates(self, home: Installation) -> None:
        """A source of prices is wrong or old."""
        chance, rates = self.world.random, self.world.simulator.rates
        source = chance.choice(("coingecko", "coinbase", "strike"))
        if chance.random() < 0.5:
            rates.factors[source] = Decimal(chance.choice(("0.5", "0.98", "1.04", "1.3", "1")))
        else:
            rates.ages[source] = chance.choice((20.0, 200.0, 900.0))

    def change_address_behaviour(self, home: Installation) -> None:
        """Payments to one address behave differently from now on."""
        behaviours = self.world.simulator.config.payout_behaviours
        if behaviours:
            self.world.behave(self.world.random.choice(sorted(behaviours)))

    # Machines and neighbours.

    def move_clock(self, home: Installation) -> None:
        """The clock of one process jumps."""
        process = home.processes[self.world.random.choice(home.names)]
        process.skew_seconds = self.world.draw_skew()
        self.world.counts["clocks moved"] += 1
        self.world.scheduler.note(f"the clock of {process.name} is off by {process.skew_seconds:.0f} s")

    def add_foreign_row(self, home: Installation) -> None:
        """Add another program's paid invoice to the account, which lists show with odd fields."""
        simulator, chance = self.world.simulator, self.world.random
        invoice = simulator.invoices.create(Money(chance.randint(1, 99_999), "BTC"), None, "not of LNPay")
        invoice.state = chance.choice(("PAID", "PAID", "PENDING"))
        invoice.oddities = dict(chance.choice(ODD_FIELDS))
        self.world.counts["foreign rows"] += 1
        self.world.scheduler.note(f"a foreign invoice with {invoice.oddities}")

    def take_copy(self, home: Installation) -> None:
        """Copy the database file as it is, without a mark."""
        home.take_copy()
        self.world.scheduler.note(f"the database of {home.name} is copied")

    def put_copy_back(self, home: Installation) -> None:
        """Put the older copy in place of the database."""
        world = self.world
        home.put_copy_back()
        home.is_copied = True
        world.counts["raw copies put back"] += 1
        world.scheduler.note(f"the copy takes the place of the database of {home.name}")
        query = "SELECT strike_invoice_id, expires_at FROM invoices WHERE strike_invoice_id NOT NULL"
        known = {row[0]: datetime.fromisoformat(row[1]).replace(tzinfo=UTC) for row in home.rows.query(query)}
        world.watch.forget_told({row[0] for row in home.rows.query("SELECT webhook_id FROM deliveries")}, home.name)
        for customer in world.customers:
            if customer.home == home.name and customer.invoice_id is not None and customer.invoice_id not in known:
                customer.is_forgotten = True
            elif customer.home == home.name and customer.invoice_id is not None:
                # The copy also does not know that the shop has since given the order up.
                customer.expires_at = known[customer.invoice_id]
