"""The promises, held against the provider's ledger and the shop's memory after each step."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lnpay.sandbox.models import Invoice, Payment
from lnpay.sandbox.simulator import Simulator
from lnpay.states import DELIVERY_MOVES, INVOICE_MOVES, REFUND_MOVES
from tests.simulation.scheduler import Violation

MOVES: dict[str, dict[str, set[str]]] = {
    "invoices": {str(old): {str(new) for new in moves} for old, moves in INVOICE_MOVES.items()},
    "refunds": {str(old): {str(new) for new in moves} for old, moves in REFUND_MOVES.items()},
    "deliveries": {str(old): {str(new) for new in moves} for old, moves in DELIVERY_MOVES.items()},
}
MOVES["refunds"]["in_flight"].add("requested")  # by hand, through "failed", in one commit

QUERIES = {
    "invoices": "SELECT id, state, strike_invoice_id FROM invoices",
    "refunds": "SELECT id, state, invoice_id FROM refunds",
    "deliveries": "SELECT id, state, webhook_id FROM deliveries",
}


@dataclass(eq=False)
class Customer:
    """Somebody who orders, and what the shop showed. plan: "in time", "late", "never" or "some time"."""

    number: int
    order_id: str
    amount: str
    address: str | None
    plan: str
    invoice_id: str | None = None
    bolt11: str = ""
    expires_at: datetime | None = None

    def __str__(self) -> str:
        return f"customer {self.number}"


class Watch:
    """Knows what is true, and compares."""

    def __init__(self, simulator: Simulator, eye: sqlite3.Connection) -> None:
        self.customers: dict[str, Customer] = {}
        self.owners: dict[str, Customer] = {}
        self.exempt: set[Customer] = set()
        self.unpaid: set[str] = set()
        """Invoices that were shown, and nobody has tried to pay yet."""
        self._sim = simulator
        self._eye = eye
        self._states: dict[str, dict[int, str]] = {name: {} for name in QUERIES}
        self._strike_ids: dict[int, str] = {}
        self._payments = 0
        self._entries = 0
        self._told = 0
        self._webhook_ids: dict[tuple[str, str], tuple[str, bytes]] = {}

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What stands in the database now."""
        return self._eye.execute(query, values).fetchall()

    # What is true.

    def invoice_of(self, customer: Customer) -> Invoice:
        """The provider's record of what a customer was shown."""
        assert customer.invoice_id is not None
        return self._sim.invoices.by_id[customer.invoice_id]

    def is_paid(self, customer: Customer) -> bool:
        """Whether the customer's money has arrived."""
        return customer.invoice_id is not None and self.invoice_of(customer).state == "PAID"

    def is_late(self, customer: Customer) -> bool:
        """Whether the provider says that it was made after the time that the customer was told."""
        paid_at = self.paid_at(self.invoice_of(customer))
        assert customer.expires_at is not None
        return paid_at is not None and paid_at > customer.expires_at

    def paid_at(self, invoice: Invoice) -> datetime | None:
        """When the provider says that it was paid; None where it does not say."""
        config = self._sim.config
        if config.transactions != "present" or not invoice.transactions:
            return None
        if "created" in config.transaction_fields_missing:
            return invoice.transactions[0].completed_at
        return invoice.transactions[0].created_at

    def payments_of(self, customer: Customer) -> list[Payment]:
        """Every payment to the customer, however it went."""
        payments = self._sim.payments.payments.values()
        return [payment for payment in payments if self._owner_of(payment.quote.destination) is customer]

    def _owner_of(self, destination: str | None) -> Customer:
        owner = self.owners.get(destination or "")
        if owner is None:
            raise Violation(f"money goes to {destination}, which nobody gave")
        return owner

    # After each commit.

    def check_rows(self) -> None:
        """Nothing vanishes, nothing moves backwards, and nothing is called what it is not."""
        for name, query in QUERIES.items():
            states = self._states[name]
            now = {row[0]: row for row in self._eye.execute(query)}
            if states.keys() - now.keys():
                raise Violation(f"a row of {name} has vanished")
            for row_id, row in now.items():
                old, new = states.get(row_id), row["state"]
                if old == new:
                    continue
                if old is not None and new not in MOVES[name][old]:
                    raise Violation(f"{name} {row_id}: {old} became {new}")
                states[row_id] = new
                if name == "invoices":
                    self._check_invoice(row)

    def _check_invoice(self, row: sqlite3.Row) -> None:
        if row["state"] not in ("settled", "paid_late"):
            return
        strike_id = row["strike_invoice_id"]
        invoice = self._sim.invoices.by_id[strike_id]
        if invoice.state != "PAID":
            raise Violation(f"an invoice is {row['state']} and was not paid")
        customer = self.customers.get(strike_id)
        if customer is None:
            raise Violation(f"an invoice is {row['state']} that nobody was shown")
        is_late = self.is_late(customer)
        if is_late != (row["state"] == "paid_late"):
            raise Violation(f"{customer} paid {'late' if is_late else 'in time'}, and the invoice is {row['state']}")

    # After each step.

    def check_world(self) -> None:
        """Never more out than in; the shop is told what is true, always alike; no lock-out is our doing."""
        self._check_payments()
        self._check_entries()
        self._check_shop()
        for name, bucket in self._sim.limits._buckets.items():
            if bucket.locked_until:
                raise Violation(f"the provider has locked us out of {name[0]}")

    def _check_payments(self) -> None:
        if len(self._sim.payments.payments) == self._payments:
            return
        payments = list(self._sim.payments.payments.values())
        for payment in payments[self._payments :]:
            customer = self._owner_of(payment.quote.destination)
            if not self.is_paid(customer):
                raise Violation(f"{customer} gets money back and has not paid")
            if not self.is_late(customer):
                raise Violation(f"{customer} paid in time and gets the money back")
            received = self._sim.ledger.received(customer.invoice_id)
            if payment.quote.sats > received:
                raise Violation(f"{customer} paid {received} sats and gets {payment.quote.sats}")
            alive = [one for one in self.payments_of(customer) if one.state != "FAILED"]
            if len(alive) > 1:
                raise Violation(f"{customer} is paid back twice: {[one.quote.quote_id[:8] for one in alive]}")
        self._payments = len(payments)

    def _check_entries(self) -> None:
        entries = self._sim.ledger.entries
        for entry in entries[self._entries :]:
            if entry.kind == "out":
                customer = self._owner_of(entry.destination)
                outs = [one for one in entries if one.kind == "out" and self._owner_of(one.destination) is customer]
                if sum(one.sats for one in outs) > self._sim.ledger.received(customer.invoice_id) or len(outs) > 1:
                    raise Violation(f"{customer} got more back than came in")
        self._entries = len(entries)

    def _check_shop(self) -> None:
        deliveries = self._sim.shop.deliveries
        for delivery in deliveries[self._told :]:
            body = json.loads(delivery.body)
            headers = {name.lower(): value for name, value in delivery.headers.items()}
            key, said = (body["data"]["invoice_id"], body["type"]), (headers["webhook-id"], delivery.body)
            if self._webhook_ids.setdefault(key, said) != said:
                raise Violation(f"{body['type']} was told under two ids or in two ways")
            self._check_told(body)
        self._told = len(deliveries)

    def _check_told(self, body: dict[str, Any]) -> None:
        kind = body["type"]
        if kind == "invoice.expired":
            return
        customer = self.customers[body["data"]["invoice_id"]]
        if not self.is_paid(customer):
            raise Violation(f"the shop is told {kind}, and {customer} has not paid")
        if self.is_late(customer) == (kind == "invoice.settled"):
            raise Violation(f"the shop is told {kind} of {customer}, which is not so")
        if body["status"] == "success" and kind != "invoice.settled":
            raise Violation(f"{kind} says success")
        is_sent = any(one.state == "COMPLETED" for one in self.payments_of(customer))
        if kind == "refund.sent" and not is_sent and not self.is_taken_for_sent(customer):
            raise Violation(f"the shop is told that {customer} was paid back, and nothing was sent")

    def is_taken_for_sent(self, customer: Customer) -> bool:
        """Whether the provider itself calls this customer's failed payment processed: nobody can know better."""
        if self._sim.config.execute_again_failed == "PAYMENT_PROCESSED" and self.payments_of(customer):
            self.exempt.add(customer)
        return customer in self.exempt
