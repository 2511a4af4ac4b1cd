"""What shops do with open orders: cancel them, or sell them through a plugin and mark them as invalid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lnpay.web.greenfield.errors import API_PREFIX
from lnpay.web.greenfield.requests import DEFAULT_EXPIRATION_MINUTES
from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.scheduler import Violation
from tests.simulation.watch import Customer

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.world import SimulatedWorld

MOST_STEPS_BEFORE_PAYMENT = 6
"""The number of points, in a call that gives an order up, at which its customer may pay."""


class Shop:
    """Starts the calls that an installation's shop makes to LNPay, directly or through a BTCPay Server plugin."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities

    # Cancelling.

    def start_cancel(self, home: Installation) -> None:
        """The shop cancels an order, sometimes while its customer pays."""
        world, chance = self.world, self.world.random
        customer = self._any_open(home)
        if customer is None:
            return
        server = self._activities.server(home)
        tasks = [
            world.scheduler.spawn("shop cancels", server, lambda: self._cancel(server, customer))
            for _ in range(chance.choice((1, 1, 1, 2)))
        ]
        if customer.plan != "never" and chance.random() < 0.5:
            self._pay_during(tasks[0], customer)

    def _cancel(self, server: LnpayProcess, customer: Customer) -> None:
        path = f"/invoices/{customer.invoice_id}/cancel"
        customer.cancel_asked_at = customer.cancel_asked_at or self.world.simulator.clock.now()
        answer = self._activities.request(server, "POST", path)
        if answer.status_code != 200:
            return
        if answer.get_json()["state"] != "cancelled":
            raise Violation(f"cancelling the invoice of {customer} was answered {answer.get_json()['state']}")
        self.world.counts["invoices cancelled"] += 1
        if not customer.is_given_up:
            customer.is_given_up = True
            self._sell_again(customer)

    def _sell_again(self, customer: Customer) -> None:
        """Sometimes the customer orders the same again, with another address."""
        if self.world.random.random() < 0.5:
            again = self.world.draw_customer(len(self.world.customers), address="own")
            again.home, again.order_id, again.via_plugin = customer.home, customer.order_id, customer.via_plugin
            self.world.customers.append(again)

    def _any_open(self, home: Installation) -> Customer | None:
        shown = [one for one in self._activities.customers(home) if one.invoice_id and not one.is_forgotten]
        unpaid = [one for one in shown if one.invoice_id in self.world.watch.unpaid]
        return self.world.random.choice(unpaid or shown) if shown else None

    def _pay_during(self, task: Any, customer: Customer) -> None:
        """The customer pays while the shop gives the order up, after a number of that call's steps."""
        self.world.run_steps(task, self.world.random.randint(0, MOST_STEPS_BEFORE_PAYMENT))
        self._activities.wallets.pay(customer, pending_seconds=self.world.random.choice((0.0, 0.0, 20.0)))

    # A plugin.

    def order(self, server: LnpayProcess, customer: Customer, is_heard: bool) -> None:
        """A plugin creates an invoice for an order, and another one each time it asks again."""
        body: dict[str, Any] = {
            "amount": customer.amount.replace(",", "."),
            "currency": server.home.settings.currency.upper(),
            "metadata": {"orderId": customer.order_id},
        }
        if customer.expires_in is not None:
            body["checkout"] = {"expirationMinutes": customer.expires_in / 60}
        answer = self._call(server, "POST", "invoices", body)
        if answer is None or not is_heard:
            return
        methods = self._call(server, "GET", f"invoices/{answer['id']}/payment-methods")
        if methods is not None and customer.invoice_id is None:
            bolt11 = methods[0]["destination"]
            seconds = customer.expires_in or int(DEFAULT_EXPIRATION_MINUTES * 60)
            expires_at = self.world.watch.deadline_of(bolt11, seconds)
            if answer["expirationTime"] != int(expires_at.timestamp()):
                raise Violation(f"{customer} was shown a deadline other than the one requested")
            self._activities.show(customer, answer["id"], bolt11, expires_at)

    def start_look(self, home: Installation) -> None:
        """A plugin reads the state of an order, and ships it if its invoice is paid."""
        customer = self._any_of_plugin(home)
        if customer is not None:
            server = self._activities.server(home)
            self.world.scheduler.spawn("plugin looks", server, lambda: self._look(server, customer))

    def _look(self, server: LnpayProcess, customer: Customer) -> None:
        path = f"invoices/{customer.invoice_id}"
        invoice, methods = self._call(server, "GET", path), self._call(server, "GET", f"{path}/payment-methods")
        self.world.counts["orders read by plugins"] += 1
        is_paid = invoice is not None and (
            invoice["status"] == "Settled" or invoice["additionalStatus"] in ("PaidLate", "PaidPartial", "PaidOver")
        )
        is_booked = methods is not None and any(one["status"] == "Settled" for one in methods[0]["payments"])
        if is_paid or is_booked:
            self.world.watch.ship(customer)

    def start_giving_up(self, home: Installation) -> None:
        """A plugin marks an order as invalid, sometimes while its customer pays: a payment after that is late."""
        customer = self._any_of_plugin(home)
        if customer is None:
            return
        server = self._activities.server(home)
        task = self.world.scheduler.spawn("plugin gives up", server, lambda: self._give_up(server, customer))
        if customer.plan != "never" and self.world.random.random() < 0.5:
            self._pay_during(task, customer)

    def _give_up(self, server: LnpayProcess, customer: Customer) -> None:
        customer.given_up_at = customer.given_up_at or self.world.simulator.clock.now()
        answer = self._call(server, "POST", f"invoices/{customer.invoice_id}/status", {"status": "Invalid"})
        if answer is not None:
            customer.is_given_up = True
            self.world.counts["orders marked invalid"] += 1

    def _any_of_plugin(self, home: Installation) -> Customer | None:
        own = [one for one in self._activities.customers(home) if one.via_plugin and one.invoice_id]
        own = [one for one in own if not one.is_forgotten]
        return self.world.random.choice(own) if own else None

    def _call(self, server: LnpayProcess, method: str, path: str, body: object = None) -> Any:
        """The answer to one of the plugin's calls; None if it is refused."""
        home = server.home
        answer = self._activities.request(
            server,
            method,
            f"{API_PREFIX}/stores/{home.store}/{path}",
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", "Authorization": f"token {home.api_key}"},
        )
        return answer.get_json() if answer.status_code == 200 else None
