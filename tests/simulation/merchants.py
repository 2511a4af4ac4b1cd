"""What merchants do with paid orders: refund them, in full, in part or twice, and cancel refunds that are being
sent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.watch import Customer

if TYPE_CHECKING:
    from tests.simulation.activities import Activities
    from tests.simulation.world import SimulatedWorld

LONG_AFTER = timedelta(hours=11)
"""More than any clock is off, so that the claim deadline has passed by all of them."""


class Merchants:
    """Starts the requests of merchants, and of the customers whom they refund."""

    def __init__(self, world: SimulatedWorld, activities: Activities) -> None:
        self.world = world
        self._activities = activities
        self._known: dict[int, str] = {}
        """The claim links of the refunds created, by refund id."""

    def start_refund(self, home: Installation) -> None:
        """A merchant refunds an order, sometimes twice at once, with the same key or with different ones."""
        world, chance = self.world, self.world.random
        paid = [one for one in self._activities.customers(home) if world.watch.is_paid(one)]
        settled = {row[0] for row in home.rows.query("SELECT strike_invoice_id FROM invoices WHERE state = 'settled'")}
        known = [one for one in paid if one.invoice_id in settled]
        if not paid or (not known and chance.random() < 0.8):
            return
        customer = chance.choice(known or paid)
        for _ in range(chance.choice((1, 1, 2, 3))):
            key, body = self._request(customer)
            self._spawn_ask(self._activities.server(home), customer, key, body)

    def _spawn_ask(self, server: LnpayProcess, customer: Customer, key: str, body: dict[str, Any]) -> None:
        self.world.scheduler.spawn("merchant refunds", server, lambda: self._ask(server, customer, key, body))

    def _request(self, customer: Customer) -> tuple[str, dict[str, Any]]:
        """A new request, or one that was made before."""
        chance, asked = self.world.random, customer.refunds_asked
        if asked and chance.random() < 0.4:
            key = chance.choice(sorted(asked))
            return key, asked[key]
        received = self.world.simulator.ledger.received(customer.invoice_id or "")
        sats = chance.choice((None, None, received, received + 1, max(1, received // 2), max(1, received // 2 + 1), 1))
        body: dict[str, Any] = {} if sats is None else {"amount_sats": sats}
        if chance.random() < 0.6:
            body["ln_address"] = self._activities.new_address(customer.invoice_id or "")
        key = f"refund-{customer.number}-{len(asked)}"
        asked[key] = body
        return key, body

    def _ask(self, server: LnpayProcess, customer: Customer, key: str, body: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {server.home.api_key}"}
        path = f"/invoices/{customer.invoice_id}/refunds"
        answer = self._activities.request(server, "POST", path, json=body, headers=headers)
        self.world.counts[f"refunds of merchants, answered {answer.status_code}"] += 1
        if answer.status_code == 200:
            refund = answer.get_json()
            self.world.watch.see_refund(customer, key, refund["id"], refund["amount_sats"])
            self._known[refund["id"]] = server.home.name

    def start_cancel(self, home: Installation) -> None:
        """A merchant cancels a refund, perhaps while it is being sent."""
        own = [refund_id for refund_id, name in self._known.items() if name == home.name]
        if own:
            refund_id, server = self.world.random.choice(own), self._activities.server(home)
            self.world.scheduler.spawn("merchant cancels", server, lambda: self._cancel(server, refund_id))

    def _cancel(self, server: LnpayProcess, refund_id: int) -> None:
        answer = self._activities.request(server, "POST", f"/refunds/{refund_id}/cancel")
        if answer.status_code == 200:
            self.world.counts["refunds canceled"] += 1
            self.world.watch.bar(answer.get_json()["ln_address"])

    def start_late_claim(self, home: Installation) -> None:
        """A customer gives an address long after the deadline for claiming the refund."""
        rows = home.rows.query(
            "SELECT r.token, i.strike_invoice_id, r.claim_expires_at FROM refunds r JOIN invoices i "
            "ON i.id = r.invoice_id WHERE r.state = 'needs_address' AND r.claim_expires_at IS NOT NULL"
        )
        if not rows or self.world.scheduler.tasks:
            return
        row, clock = self.world.random.choice(rows), self.world.simulator.clock
        ends_at = datetime.fromisoformat(row["claim_expires_at"]).replace(tzinfo=clock.now().tzinfo) + LONG_AFTER
        self.world.advance(max(0.0, (ends_at - clock.now()).total_seconds()))
        address = self._activities.new_address(row["strike_invoice_id"])
        self.world.watch.bar(address)
        self.world.counts["claims after their end"] += 1
        server = self._activities.server(home)
        self.world.scheduler.spawn(
            "customer claims late", server, lambda: self._activities.give(server, row["token"], address)
        )
