"""The activities of customers, shops, operators and processes in a world."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from werkzeug.test import TestResponse

from lnpay.deliveries.send import send_again, send_due
from lnpay.domain.states import HoldCause
from lnpay.refunds.by_hand import approve, change_address, retry
from lnpay.refunds.send import WAITING, send_due_refunds
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.strike.bolt11_writer import format_amount
from lnpay.sandbox.strike.envelope import parse_units
from lnpay.sandbox.strike.models import Payment
from tests.simulation.installation import Installation, LnpayProcess
from tests.simulation.merchants import Merchants
from tests.simulation.policies import Policies
from tests.simulation.requests import Receiving
from tests.simulation.scheduler import Task, Violation
from tests.simulation.shop import Shop
from tests.simulation.trouble import Trouble
from tests.simulation.wallets import Wallets
from tests.simulation.watch import Customer

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

EXPECTED_STATUSES = {
    "POST /generate-invoice": {200, 400, 409, 502, 503},
    "POST /webhook": {200, 503},
    "POST /refund": {200, 303, 400, 409, 503},
    "GET /invoices": {200, 503},
    "POST /invoices": {200, 400, 409, 502, 503},
    "POST /api/v1": {200, 400, 422, 503},
    "GET /api/v1": {200, 503},
}

PASSES: dict[str, Callable[..., object]] = {"main": main_pass, "expired": expired_pass, "refund": refund_pass}


class Activities:
    """Starts the activities of people and processes."""

    def __init__(self, world: SimulatedWorld) -> None:
        self.world = world
        self.trouble = Trouble(world, self)
        self.shop = Shop(world, self)
        self.merchants = Merchants(world, self)
        self.policies = Policies(world, self)
        self.wallets = Wallets(world, self)
        self.receiving = Receiving(world, self)
        self.wants = 0

    def start_something(self) -> None:
        """Start one activity."""
        home = self.world.random.choice(self.world.homes)
        choices = [(weight, start) for weight, start in self._choices(home) if weight]
        self.world.random.choices([start for _, start in choices], [weight for weight, _ in choices])[0](home)

    def _choices(self, home: Installation) -> list[tuple[float, Callable[[Installation], object]]]:
        """The activities that may start now; those that make progress are more likely."""
        world, scene, query, trouble = self.world, self.world.scene, home.rows.query, self.trouble
        customers = self.customers(home)
        has_plugin = home.plugin_chance is not None
        is_any_unshown = any(customer.invoice_id is None for customer in customers)
        is_any_payable = any(customer.invoice_id in world.watch.unpaid for customer in customers)
        is_any_unseen = self._is_any_unseen(home)
        is_any_owed = bool(query("SELECT 1 FROM refunds WHERE state NOT IN ('sent', 'canceled') LIMIT 1"))
        quote_asked = "SELECT 1 FROM refunds WHERE state = 'requested' AND unanswered_quotes > 0 LIMIT 1"
        is_quote_asked = scene.has_restore and bool(query(quote_asked))
        is_any_untold = bool(query("SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1"))
        noise = 1.0 if scene.kind == "any" else 0.3
        due_at = world.simulator.next_webhook_at()
        is_webhook_due = due_at is not None and due_at <= world.simulator.clock.now()
        return [
            (6 if is_any_unshown else 0.2, self._start_order),
            (5 if is_any_payable else 0.1, self.wallets.start_payment),
            ((4 if is_any_unseen else 0.5) * scene.has_workers, self._start_looker),
            ((4 if is_any_owed else 0.2) * scene.has_workers, self._start_refund_worker),
            (3 if is_any_owed else 0.2, self._start_refunder),
            (2 if is_any_untold else 0.2, self._start_teller),
            (3 * is_webhook_due, trouble.start_webhook),
            (1.2 * noise, lambda home: trouble.add_fault()),
            (0.4 * noise, trouble.trouble_shop),
            (0.3 * noise, trouble.trouble_rates),
            (0.5 * is_any_owed, self._start_operator),
            (1.0 * is_any_owed, self._start_refund_page),
            (0.3 * noise, trouble.change_address_behaviour),
            (0.2, self._look_at_invoice),
            ((5 if is_any_payable else 0.5) * scene.has_cancelling, self.shop.start_cancel),
            (4.0 * scene.has_merchants, self.merchants.start_refund),
            (2.0 * (scene.has_merchants and is_any_owed), self.merchants.start_cancel),
            (2.0 * (scene.has_merchants and is_any_owed), self.merchants.start_late_claim),
            (1.0 * has_plugin, self.shop.start_look),
            (0.6 * has_plugin, self.shop.start_giving_up),
            (0.3 * scene.has_webhooks, trouble.forge_webhook),
            (0.4 * noise, trouble.move_clock),
            (0.5 * scene.has_odd_rows, trouble.add_foreign_row),
            (
                (40 if is_quote_asked else 2 if is_any_owed else 0.5) * (scene.has_restore and home.may_be_copied),
                trouble.take_copy,
            ),
            (1.0 * (home.copy is not None), trouble.put_copy_back),
            (1.5 * home.has_policy, self.policies.move_market),
            (6.0 * self.wallets.has_more_to_pay(home), self.wallets.pay_more),
            (0.4 * (home.has_requests and not home.has_changed_over), self.receiving.change_over),
            (1.0 * home.has_requests, self.receiving.add_fault),
        ]

    def customers(self, home: Installation) -> list[Customer]:
        """All customers of an installation's shop."""
        return [one for one in self.world.customers if one.home == home.name]

    def _is_any_unseen(self, home: Installation) -> bool:
        watched = home.rows.query("SELECT strike_invoice_id FROM invoices WHERE state IN ('unpaid', 'expired')")
        return any(row[0] is not None and self.world.watch.state_of(row[0]) == "PAID" for row in watched)

    def server(self, home: Installation) -> LnpayProcess:
        """One of the servers."""
        return home.processes[self.world.random.choice(("server 1", "server 2"))]

    def request(self, server: LnpayProcess, method: str, path: str, **options: Any) -> TestResponse:
        """Make one HTTP request to LNPay, and check that its status is a permitted one."""
        if server.home.api_key and "headers" not in options:
            options["headers"] = {"Authorization": f"Bearer {server.home.api_key}"}
        answer = server.request(method, path, **options)
        self.world.scheduler.note(f"answers {answer.status_code} to {method} {path[:20]}")
        wanted = f"{method} {path}"
        expected = next(statuses for start, statuses in EXPECTED_STATUSES.items() if wanted.startswith(start))
        if answer.status_code not in expected:
            raise Violation(f"{method} {path} was answered {answer.status_code}: {answer.text[:200]}")
        return answer

    # Customers and shops.

    def _start_order(self, home: Installation) -> None:
        chance = self.world.random
        customers = [one for one in self.customers(home) if not (one.is_forgotten or one.is_given_up)]
        if not customers:
            return
        unshown = [one for one in customers if one.invoice_id is None]
        customer = chance.choice(unshown if unshown and chance.random() < 0.8 else customers)
        body: dict[str, Any] = {
            "amount_fiat": customer.amount,
            "correlation_id": customer.order_id,
            "description": customer.order_id,
        }
        if customer.address is not None:
            body["ln_address"] = customer.address
        if customer.expires_in is not None:
            body["expires_in"] = customer.expires_in
        is_other = chance.random() < 0.05
        if is_other:
            body.update(chance.choice(({"amount_fiat": "3.33"}, {"expires_in": 77})))
        is_heard = chance.random() < 0.9

        def ask(server: LnpayProcess) -> None:
            if customer.via_plugin:
                self.shop.order(server, customer, is_heard)
                return
            answer = self.request(server, "POST", "/generate-invoice", json=body)
            if answer.status_code == 200 and is_heard:
                self._show(customer, answer.get_json()["data"], body.get("expires_in"))

        for _ in range(chance.choice((1, 1, 1, 2))):
            server = self.server(home)
            self.world.scheduler.spawn(f"{customer} asks", server, lambda server=server: ask(server))  # type: ignore[misc]

    def _show(self, customer: Customer, data: dict[str, Any], expires_in: int | None) -> None:
        invoice, quote = data["invoice"], data["quote"]
        sats = parse_units(invoice["amount"]["amount"], "BTC") or 0
        if not quote["lnInvoice"].startswith(f"lnbc{format_amount(sats)}1"):
            raise Violation(f"{customer} was shown a payment request for an amount other than {sats} sats")
        expires_at = datetime.fromisoformat(data["expiration_time"])
        self.world.watch.check_deadline(customer, quote["lnInvoice"], expires_in, expires_at)
        self.show(customer, invoice["invoiceId"], quote["lnInvoice"], expires_at)

    def show(self, customer: Customer, invoice_id: str, bolt11: str, expires_at: datetime) -> None:
        """The customer sees an invoice that can be paid until `expires_at`."""
        watch = self.world.watch
        shown = (invoice_id, bolt11)
        if customer.invoice_id not in (None, invoice_id) and watch.is_cancelled(customer.invoice_id):
            known = watch.customers.get(invoice_id)
            is_same = known is not None and (known.home, known.order_id) == (customer.home, customer.order_id)
            customer = known if known is not None and is_same else self._show_another(customer)
        if customer.invoice_id is not None and (customer.invoice_id, customer.bolt11) != shown:
            raise Violation(f"{customer} was shown two invoices for one order")
        self.receiving.check_shown(customer, invoice_id, bolt11)
        if watch.customers.get(invoice_id, customer) is not customer:
            raise Violation(f"{customer} was shown the invoice of {watch.customers[invoice_id]}")
        customer.invoice_id, customer.bolt11 = shown
        if customer.expires_at is None:
            customer.expires_at = expires_at
        if invoice_id not in watch.customers and customer.plan != "never":
            watch.unpaid.add(invoice_id)
        watch.customers[invoice_id] = customer

    def _show_another(self, customer: Customer) -> Customer:
        """A customer who asked while the shop cancelled the order gets a new invoice, and does not pay it."""
        another = replace(
            customer, number=len(self.world.customers), invoice_id=None, bolt11="", expires_at=None, plan="never"
        )
        self.world.customers.append(another)
        return another

    def _look_at_invoice(self, home: Installation) -> None:
        customer = self.world.random.choice(self.customers(home))
        if customer.invoice_id is not None and not customer.is_forgotten:
            server, path = self.server(home), f"/invoices/{customer.invoice_id}"
            self.world.scheduler.spawn("shop looks", server, lambda: self.request(server, "GET", path))

    def _start_refund_page(self, home: Installation) -> None:
        world, chance = self.world, self.world.random
        rows = home.rows.query(
            "SELECT r.token, i.strike_invoice_id FROM refunds r JOIN invoices i ON i.id = r.invoice_id"
        )
        if not rows:
            return
        row = chance.choice(rows)
        customer = world.watch.customers[row[1]]
        self.wants += 1
        name = chance.choice(("dear", "good", "good", "bad", "more"))
        address = {"dear": f"dear{900 + self.wants}@wallet.test", "bad": "nonsense"}.get(
            name, f"c{customer.number}-{self.wants}@wallet.test"
        )
        if name == "more":
            world.behave(address)
        world.watch.owners[address] = customer
        server = self.server(home)
        for _ in range(chance.choice((1, 2))):
            world.scheduler.spawn(
                f"{customer} gives", server,
                lambda: self.give(server, row[0], address),
            )  # fmt: skip

    def new_address(self, strike_id: str) -> str:
        """Another, good address of the same customer."""
        customer = self.world.watch.customers[strike_id]
        self.wants += 1
        address = f"c{customer.number}-{self.wants}@wallet.test"
        self.world.watch.owners[address] = customer
        return address

    def give_good_address(self, home: Installation, token: str, strike_id: str) -> None:
        """The customer gives an address on the page."""
        address = self.new_address(strike_id)
        self.give(self.server(home), token, address)

    def give(self, server: LnpayProcess, token: str, address: str) -> None:
        """The customer enters an address on the page behind a refund's link."""
        # Each customer has a different IP address, because LNPay limits requests per address.
        here = ip_address((10 << 24) + zlib.crc32(token.encode()) % (1 << 24))
        self.request(
            server, "POST", f"/refund/{token}", data={"ln_address": address}, environ_base={"REMOTE_ADDR": str(here)}
        )

    # The programs that do the work.

    def _start_teller(self, home: Installation) -> None:
        server = self.server(home)
        self.world.scheduler.spawn(f"{server.name} tells", server, lambda: send_due(server.backend.outbox, senders=1))

    def _start_refunder(self, home: Installation) -> None:
        server = self.server(home)
        self.world.scheduler.spawn(
            f"{server.name} refunds", server, lambda: send_due_refunds(server.backend.refund_sender, WAITING)
        )

    def _start_looker(self, home: Installation) -> None:
        for kind in self.world.random.choice((("main",), ("expired",), ("main", "expired"))):
            self.start_worker(home, kind)

    def _start_refund_worker(self, home: Installation) -> None:
        self.start_worker(home, self.world.random.choice(("refund", "refund", "refund", "expired")))

    def start_worker(self, home: Installation, kind: str) -> Task | None:
        process = home.processes[f"{kind} {self.world.random.choice((1, 2))}"]
        if any(task.process is process for task in self.world.scheduler.tasks):
            return None
        return self.world.scheduler.spawn(f"{process.name} works", process, lambda: PASSES[kind](process.backend))

    def _start_operator(self, home: Installation) -> None:
        rows = home.rows.query(
            "SELECT i.strike_invoice_id, r.state, r.address, r.held_because FROM refunds r "
            "JOIN invoices i ON i.id = r.invoice_id WHERE r.kind <> 'merchant'"
        )
        if not rows:
            return
        strike_id, state, address, held_because = self.world.random.choice(rows)
        if held_because == HoldCause.LATE_PAYMENT:
            self.policies.start_decision(home, strike_id, address)
            return
        process = home.processes["operator"]
        command = self._command(process, strike_id, state, address)
        self.world.scheduler.spawn("operator", process, command)

    def _command(self, process: LnpayProcess, strike_id: str, state: str, address: str) -> Callable[[], object]:
        fresh = self.new_address(strike_id)
        if state == "held":
            return lambda: self.approve(process, strike_id, address)
        if state in ("needs_address", "failed") and self.world.random.random() < 0.7:
            return lambda: change_address(process.backend.repository, strike_id, fresh, process.backend.clock())
        if state == "failed":
            return lambda: retry(process.backend.repository, strike_id, "it failed", process.backend.clock())
        return lambda: send_again(process.backend.repository, strike_id, process.backend.clock())

    def approve(
        self,
        process: LnpayProcess,
        strike_id: str,
        address: str,
        refund_id: int | None = None,
        payments: list[Payment] | None = None,
    ) -> None:
        """The operator approves a held refund, if the provider's dashboard does not show it.

        payments: those on the dashboard that may be this refund; None: all to the customer, or to the address if the
        customer may get several refunds.
        """
        customer = self.world.watch.customers[strike_id]
        if payments is None:
            payments = self.world.watch.payments_of(customer)
            if customer.refunds_asked or self.world.watch.requests.find(strike_id):
                payments = [one for one in payments if one.quote.destination == address]
        if all(payment.state == "FAILED" for payment in payments):
            self.world.watch.approved.add((strike_id, address))
            approve(process.backend.repository, strike_id, process.backend.clock(), refund_id=refund_id)

    # What the world asks for.

    def add_fault(self) -> None:
        """Draw and set a fault."""
        self.trouble.add_fault()

    def set_fault(self, fault: Fault) -> None:
        """Set this fault."""
        self.trouble.set_fault(fault)

    def record_webhooks(self) -> None:
        """Record the answers that the provider has received by now."""
        self.trouble.record_webhooks()
