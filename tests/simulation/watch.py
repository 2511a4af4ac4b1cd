"""Checks the promises against the provider's ledger and the shop's memory, after each step."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.models import Invoice, Payment
from tests.simulation import requests
from tests.simulation.limits import check_limits
from tests.simulation.policies import check_accepted
from tests.simulation.scheduler import Violation

if TYPE_CHECKING:
    from tests.simulation.installation import Installation


SHIPPED_ON = ("InvoiceReceivedPayment", "InvoiceProcessing", "InvoicePaymentSettled", "InvoiceSettled")
"""The events on which some BTCPay Server plugin ships, or books an order as paid, in their required order."""


CLOCK_SLACK = timedelta(seconds=10)
"""How precisely LNPay knows the provider's time."""


@dataclass(eq=False)
class Customer:
    """A customer of the shop `home`, and what the shop showed.

    plan: one of draws.PLANS. is_forgotten: a restored database has no record of it. expires_in: the seconds to pay that
    the shop asks for; None: those of its settings. via_plugin: ordered through a plugin of BTCPay Server.
    is_given_up: the shop has cancelled the order or marked it as invalid. given_up_at, cancel_asked_at: when the shop
    first asked to mark it as invalid, and to cancel it. refunds_asked: the merchant's request under each
    Idempotency-Key.
    """

    number: int
    home: str
    order_id: str
    amount: str
    address: str | None
    plan: str
    invoice_id: str | None = None
    bolt11: str = ""
    expires_at: datetime | None = None
    is_forgotten: bool = False
    expires_in: int | None = None
    via_plugin: bool = False
    is_given_up: bool = False
    given_up_at: datetime | None = None
    cancel_asked_at: datetime | None = None
    refunds_asked: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"customer {self.number}"


class Watch:
    """Keeps the true state of every payment, and compares it with what LNPay does."""

    def __init__(self, simulator: Simulator) -> None:
        self.homes: dict[str, Installation] = {}
        self.customers: dict[str, Customer] = {}
        self.owners: dict[str, Customer] = {}
        self.exempt: set[Customer] = set()
        self.approved: set[tuple[str, str]] = set()
        """The refunds that the operator has approved: the provider's invoice and the address."""
        self.unpaid: set[str] = set()
        """Invoices that were shown, but that no customer has tried to pay yet."""
        self.plugins_heard: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        """The events of each invoice that a plugin has received, by installation."""
        self.accepted: set[str] = set()
        """Invoices that were paid late, and whose payments the shop has accepted."""
        self.prices_told: set[Decimal] = set()
        """Every price of one bitcoin that a source may have quoted."""
        self.requests = requests.Requests(simulator)
        self._sim = simulator
        self._payments = 0
        self._entries = 0
        self._told = 0
        self._refunds: dict[tuple[str | None, str], tuple[int, int]] = {}
        """The refund that each of a merchant's requests has created: its id and its sats."""
        self._barred: set[str | None] = set()
        """Addresses to which nothing may be sent from now on."""
        self._cancelled: set[str] = set()
        """Invoices that were cancelled at the provider, including those that were paid nevertheless."""
        self._webhook_ids: dict[tuple[str, str], tuple[str, bytes]] = {}

    # What is true.

    def invoice_of(self, customer: Customer) -> Invoice:
        """The provider's record of the invoice that a customer was shown."""
        assert customer.invoice_id is not None
        return self._sim.invoices.by_id[customer.invoice_id]

    def state_of(self, strike_id: str) -> str:
        """The state of an invoice at the provider. A receive request is PAID once any payment is final."""
        request = self.requests.find(strike_id)
        return self._sim.invoices.by_id[strike_id].state if request is None else self.requests.state_of(request)

    def price_of(self, customer: Customer) -> int:
        """The sats that a customer was asked for."""
        request = self.requests.find(customer.invoice_id)
        return self.invoice_of(customer).amount.units if request is None else requests.price_of(request)

    def is_cancelled(self, strike_id: str) -> bool:
        """Whether an invoice was ever cancelled: at the provider or, if that cannot cancel it, in LNPay."""
        if self.requests.find(strike_id) is not None:
            return strike_id in self._cancelled
        invoice = self._sim.invoices.by_id[strike_id]
        return strike_id in self._cancelled or "CANCELLED" in (invoice.state, invoice.state_before)

    def deadline_of(self, bolt11: str, seconds: int) -> datetime:
        """The payment deadline, if the shop gives the customer this many seconds."""
        deadline = self.requests.deadline_of(bolt11, seconds)
        if deadline is not None:
            return deadline
        quote = self._sim.invoices.quotes_by_request[bolt11]
        ends_at = quote.created_at.replace(microsecond=0) + timedelta(seconds=quote.seconds)
        return min(quote.invoice.created_at + timedelta(seconds=seconds), quote.expires_at, ends_at)

    def check_deadline(self, customer: Customer, bolt11: str, seconds: int | None, expires_at: datetime) -> None:
        """The customer has the time to pay that the shop asked for. None: that of its settings."""
        seconds = self.homes[customer.home].settings.time_offset_seconds if seconds is None else seconds
        expected = self.deadline_of(bolt11, seconds)
        # The provider writes times with less precision than it keeps.
        if abs(expected - expires_at) > timedelta(milliseconds=1):
            raise Violation(f"{customer} can pay until {expires_at}, but the requested deadline is {expected}")

    def is_paid(self, customer: Customer) -> bool:
        """Whether the customer's money has arrived."""
        return customer.invoice_id is not None and self.state_of(customer.invoice_id) == "PAID"

    def is_late(self, customer: Customer) -> bool:
        """Whether the provider says that the payment was made after the deadline that the customer was shown.

        For a receive request: whether the payments made by then are less than the price.
        """
        request = self.requests.find(customer.invoice_id)
        if request is not None:
            assert customer.expires_at is not None
            return self.is_paid(customer) and not requests.is_whole(request, customer.expires_at)
        paid_at = self.paid_at(self.invoice_of(customer))
        assert customer.expires_at is not None
        return paid_at is not None and paid_at > customer.expires_at

    def is_owed_back(self, customer: Customer) -> bool:
        """Whether the payment came late, and the shop has not accepted it."""
        return self.is_late(customer) and customer.invoice_id not in self.accepted

    def received(self, customer: Customer) -> int:
        """The sats that have arrived for what a customer was shown."""
        return self._sim.ledger.received(customer.invoice_id)

    def paid_at(self, invoice: Invoice) -> datetime | None:
        """When it was paid according to the provider; None if the provider does not say."""
        config = self._sim.config
        if config.transactions != "present" or not invoice.transactions:
            return None
        if "created" in config.transaction_fields_missing:
            return invoice.transactions[0].completed_at
        return invoice.transactions[0].created_at

    def payments_of(self, customer: Customer) -> list[Payment]:
        """Every payment to the customer, regardless of its outcome."""
        payments = self._sim.payments.payments.values()
        return [payment for payment in payments if self._owner_of(payment.quote.destination) is customer]

    def _owner_of(self, destination: str | None) -> Customer:
        owner = self.owners.get(destination or "")
        if owner is None:
            raise Violation(f"money was sent to {destination}, an address that no customer gave")
        return owner

    # After each commit.

    def check_vanished(self, name: str, rows: list[sqlite3.Row]) -> None:
        """No row disappears, except unpaid orders."""
        for row in rows:
            if name != "invoices" or row["state"] in ("settled", "paid_late"):
                raise Violation(f"a row of {name} has vanished")
            strike_id = row["strike_invoice_id"]
            if strike_id is not None and self.state_of(strike_id) in ("PENDING", "PAID"):
                raise Violation("a paid invoice has vanished")

    def check_invoice(self, home: str, strike_id: str, state: str) -> None:
        """An invoice has the right state, and belongs to the installation that sold it."""
        if state == "cancelled" and not self.is_cancelled(strike_id):
            raise Violation("an invoice is cancelled here, but not at the provider")
        if state not in ("settled", "paid_late", "lapsed"):
            return
        at_provider = self.state_of(strike_id)
        if state == "lapsed":
            request = self.requests.find(strike_id)
            # A Strike user may pay a request at any time.
            may_be_seen = request is None or requests.is_any_in_time(request)
            if at_provider in ("PENDING", "PAID") and may_be_seen:
                raise Violation(f"an invoice has lapsed here, but is {at_provider} at the provider")
            return
        if at_provider != "PAID":
            raise Violation(f"an invoice is {state}, but was not paid")
        customer = self.customers.get(strike_id)
        if customer is None:
            raise Violation(f"an invoice is {state}, but was never shown to a customer")
        if customer.home != home:
            raise Violation(f"{home} marked a payment of {customer} to {customer.home} as {state}")
        is_late = self.is_owed_back(customer)
        if is_late != (state == "paid_late"):
            raise Violation(f"{customer} paid {'late' if is_late else 'in time'}, but the invoice is {state}")

    def accept(self, home: str, row: sqlite3.Row) -> None:
        """A late payment was accepted: from now on only the merchant may refund it."""
        check_accepted(self, home, row)
        self.accepted.add(row["strike_invoice_id"])

    def check_teller(self, strike_id: str, home: str) -> None:
        """Each shop is notified of its own orders."""
        customer = self.customers.get(strike_id)
        if customer is not None and customer.home != home:
            raise Violation(f"{home} notified its shop of an order that {customer} placed at {customer.home}")

    def tell_plugin(self, body: dict[str, Any], home: str) -> None:
        """A BTCPay Server plugin ships on any event that names a payment, so none may be about a refunded order."""
        strike_id, kind = body["invoiceId"], body["type"]
        self.check_teller(strike_id, home)
        self.plugins_heard[home, strike_id].append(kind)
        if kind not in SHIPPED_ON:
            return
        self.ship(self.customers[strike_id])

    def ship(self, customer: Customer) -> None:
        """A plugin ships an order, which must be paid in time and not refunded."""
        if not self.is_paid(customer):
            raise Violation(f"a plugin shipped the order of {customer}, who has not paid")
        may_be_refunded = customer.refunds_asked or self.requests.find(customer.invoice_id)
        if self.is_late(customer) or (self.payments_of(customer) and not may_be_refunded):
            raise Violation(f"a plugin shipped the order of {customer}, who is being refunded")

    def see_refund(self, customer: Customer, key: str, refund_id: int, sats: int) -> None:
        """A merchant's request was answered with a refund: always the same one for the same key."""
        seen = self._refunds.setdefault((customer.invoice_id, key), (refund_id, sats))
        if seen != (refund_id, sats):
            raise Violation(f"one request to refund {customer} created two refunds")

    def bar(self, address: str | None) -> None:
        """Send nothing more to this address: its refund was canceled, or claimed too late."""
        if address is not None:
            self._barred.add(address)

    def mark_invalid(self, strike_id: str, ends_at: datetime) -> None:
        """Marking an order as invalid ends its time to pay, but not before the plugin asked for that."""
        customer = self.customers.get(strike_id)
        if customer is None or customer.expires_at is None:
            return
        if customer.given_up_at is None or ends_at < customer.given_up_at - CLOCK_SLACK:
            raise Violation(f"the order of {customer} is invalid from {ends_at} on, before the plugin requested it")
        customer.expires_at = min(ends_at, customer.expires_at)

    def call_off(self, strike_id: str, ends_at: datetime) -> None:
        """Cancelling a receive request ends its time to pay, but not before the shop asked for that."""
        self._cancelled.add(strike_id)
        customer = self.customers.get(strike_id)
        if customer is None or customer.expires_at is None or customer.cancel_asked_at is None:
            raise Violation("a receive request was cancelled without a request of the shop")
        if ends_at < min(customer.cancel_asked_at, customer.expires_at) - CLOCK_SLACK:
            raise Violation(f"the order of {customer} is cancelled from {ends_at} on, before the shop requested it")
        customer.expires_at = min(ends_at, customer.expires_at)

    # After each step.

    def check_world(self) -> None:
        """Never more out than in; the shop gets true and consistent messages; LNPay never causes a lock-out."""
        self._note_cancelled()
        self.note_prices()
        self._check_payments()
        self._check_entries()
        self._check_shop()
        for name, bucket in self._sim.limits._buckets.items():
            if bucket.locked_until:
                raise Violation(f"the provider has locked us out of {name[0]}")

    def note_prices(self) -> None:
        """Remember the prices that the sources quote now."""
        rates = self._sim.rates
        self.prices_told.update(rates.bitcoin_usd * factor for factor in rates.factors.values())

    def _note_cancelled(self) -> None:
        book = self._sim.invoices.by_id
        self._cancelled.update(strike_id for strike_id, invoice in book.items() if invoice.state == "CANCELLED")

    def _check_payments(self) -> None:
        if len(self._sim.payments.payments) == self._payments:
            return
        payments = list(self._sim.payments.payments.values())
        for payment in payments[self._payments :]:
            customer = self._owner_of(payment.quote.destination)
            if not self.is_paid(customer):
                raise Violation(f"{customer} was refunded without having paid")
            if payment.quote.destination in self._barred:
                raise Violation(f"{customer} got a refund that was canceled or claimed too late")
            request = self.requests.find(customer.invoice_id)
            if request is not None:
                requests.check_refund(self, customer, request, payment)
                continue
            if not self.is_owed_back(customer):
                self._check_merchants_refund(customer, payment)
                continue
            received = self._sim.ledger.received(customer.invoice_id)
            if payment.quote.sats != received:
                raise Violation(f"{customer} paid {received} sats and got {payment.quote.sats} back")
            check_limits(self, customer, payment)
            alive = [one for one in self.payments_of(customer) if one.state != "FAILED"]
            if len(alive) > 1:
                raise Violation(f"{customer} was refunded twice: {[one.quote.quote_id[:8] for one in alive]}")
        self._payments = len(payments)

    def _check_merchants_refund(self, customer: Customer, payment: Payment) -> None:
        """The refunds of an order never add up to more than was received, and each is paid once."""
        if not customer.refunds_asked:
            raise Violation(f"{customer} paid in time, but was refunded")
        check_limits(self, customer, payment)
        alive = [one for one in self.payments_of(customer) if one.state != "FAILED"]
        received = self._sim.ledger.received(customer.invoice_id)
        if sum(one.quote.sats for one in alive) > received:
            raise Violation(f"{customer} paid {received} sats and was refunded {[one.quote.sats for one in alive]}")
        if sum(one.quote.destination == payment.quote.destination for one in alive) > 1:
            raise Violation(f"a refund of {customer} was paid twice")
        if len(alive) > len(customer.refunds_asked):
            raise Violation(f"{customer} got more refunds than the merchant requested")

    def _check_entries(self) -> None:
        entries = self._sim.ledger.entries
        for entry in entries[self._entries :]:
            if entry.kind == "out":
                customer = self._owner_of(entry.destination)
                outs = [one for one in entries if one.kind == "out" and self._owner_of(one.destination) is customer]
                if sum(one.sats for one in outs) > self._sim.ledger.received(customer.invoice_id) or (
                    len(outs) > 1 and not customer.refunds_asked and not self.requests.find(customer.invoice_id)
                ):
                    raise Violation(f"{customer} got more back than was received")
        self._entries = len(entries)

    def _check_shop(self) -> None:
        deliveries = self._sim.shop.deliveries
        for delivery in deliveries[self._told :]:
            body = json.loads(delivery.body)
            headers = {name.lower(): value for name, value in delivery.headers.items()}
            what = f"{body['type']} {body['data'].get('refund', {}).get('id', '')}"
            key, said = (body["data"]["invoice_id"], what), (headers["webhook-id"], delivery.body)
            if self._webhook_ids.setdefault(key, said) != said:
                raise Violation(f"{body['type']} was sent under two ids or with two bodies")
            self._check_told(body)
        self._told = len(deliveries)

    def _check_told(self, body: dict[str, Any]) -> None:
        kind = body["type"]
        if kind == "invoice.expired":
            return
        customer = self.customers[body["data"]["invoice_id"]]
        if not self.is_paid(customer):
            raise Violation(f"the shop got {kind}, but {customer} has not paid")
        is_merchants = kind.startswith("refund.") and bool(customer.refunds_asked)
        is_exempt = is_merchants or customer.invoice_id in self.accepted
        request = self.requests.find(customer.invoice_id)
        if request is not None:
            requests.check_told(self, customer, request, body)
        elif self.is_late(customer) == (kind == "invoice.settled") and not is_exempt:
            raise Violation(f"the shop got {kind} for {customer}, which is untrue")
        if body["status"] == "success" and kind != "invoice.settled":
            raise Violation(f"{kind} says success")
        is_sent = any(one.state == "COMPLETED" for one in self.payments_of(customer))
        if kind == "refund.sent" and not is_sent and not self.is_taken_for_sent(customer):
            raise Violation(f"the shop was notified of a refund to {customer}, but nothing was sent")

    def forget_told(self, webhook_ids: set[str], home: str) -> None:
        """The database was restored: only the messages that it knows must be repeated unchanged."""
        for key, said in list(self._webhook_ids.items()):
            customer = self.customers.get(key[0])
            if said[0] not in webhook_ids and (customer is None or customer.home == home):
                del self._webhook_ids[key]

    def is_taken_for_sent(self, customer: Customer) -> bool:
        """Whether the provider calls this customer's failed payment processed without naming it: from its API alone,
        LNPay cannot know better.
        """
        config = self._sim.config
        is_unnamed = config.execute_again_failed == "PAYMENT_PROCESSED" and config.execute_again_done != "with_id"
        if is_unnamed and any(payment.state == "FAILED" for payment in self.payments_of(customer)):
            self.exempt.add(customer)
        return customer in self.exempt
