"""One seed: a small world, what happens in it, and how it must end."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

from flask import Flask
from werkzeug.test import TestResponse

from config.delivery import deliver
from lnpay import budget
from lnpay.backend import Backend
from lnpay.bootstrap import build_backend
from lnpay.deliveries import send_again, send_due
from lnpay.errors import LnpayError, ShopGone
from lnpay.model import Event
from lnpay.passes import expired_pass, main_pass, refund_pass
from lnpay.refunds import WAITING, send_due_refunds
from lnpay.refunds_by_hand import approve, change_address, retry
from lnpay.sandbox.bolt11_writer import format_amount
from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.envelope import parse_units
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.invoices import PaymentRefused
from lnpay.sandbox.models import Subscription
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.webhooks import Attempt
from lnpay.strike import Bucket
from lnpay.web import create_app
from lnpay.webhook_invoice import SUBSCRIBED_EVENTS
from tests.simulation.draws import (
    BEHAVIOURS,
    draw_chances,
    draw_config,
    draw_doubt,
    draw_fault,
    draw_scene,
    draw_settings,
)
from tests.simulation.ending import come_to_rest, moments
from tests.simulation.host import Disk, Host
from tests.simulation.scheduler import Process, Scheduler, Task, Violation
from tests.simulation.watch import Customer, Watch
from tests.world import WEBHOOK_SECRET, WorldSettings

WEBHOOK_TIMEOUT = timedelta(seconds=5)
MOST_TASKS = 6

PASSES: dict[str, Callable[[Backend], object]] = {"main": main_pass, "expired": expired_pass, "refund": refund_pass}

TIGHT_LIMITS = {
    Bucket.OTHER: budget.Limit(50, timedelta(minutes=10), 60),
    Bucket.PAYMENT_QUOTE: budget.Limit(12, timedelta(minutes=1), 5),
    Bucket.PAYMENT_EXECUTE: budget.Limit(12, timedelta(minutes=1), 5),
}

EXPECTED_STATUSES = {
    "/generate-invoice": {200, 400, 409, 502, 503},
    "/webhook": {200, 503},
    "/refund": {200, 303, 400, 409, 503},
    "/invoices": {200, 503},
}

_APPS: dict[str, Flask] = {}


class LnpayProcess(Process):
    """A server, a worker or a command line; its parts are built when it first does something."""

    def __init__(self, name: str, world: SimulatedWorld) -> None:
        super().__init__(name)
        self._world = world
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """The parts of this process."""
        if self._backend is None:
            self._backend = self._world.build_backend()
        return self._backend

    def request(self, method: str, path: str, **options: Any) -> TestResponse:
        """Answer one HTTP request. Flask's app has no memory of its own, so that it outlives the process."""
        app = _APPS.get(self.name)
        if app is None:
            app = _APPS[self.name] = create_app(self.backend)
        app.extensions["lnpay"] = self.backend
        return app.test_client(use_cookies=False).open(path, method=method, **options)


@dataclass
class Report:
    """What one seed came to."""

    seed: int
    counts: Counter[str]
    violation: str | None
    trace: list[str]
    """Empty where nothing is wrong."""
    digest: int
    """Of the whole trace."""


class SimulatedWorld:
    """Everything of one seed."""

    def __init__(self, seed: int, disk: Disk) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.scene = draw_scene(self.random)
        self.simulator = Simulator(
            clock=VirtualClock(running=False), seed=seed, config=draw_config(self.random, self.scene)
        )
        self.scheduler = Scheduler(self.simulator.clock, random.Random(f"schedule {seed}"))
        self.host = Host(disk, self.simulator, self.scheduler)
        self.watch = Watch(self.simulator, disk.renew())
        self.host.on_commit = self.watch.check_rows
        self.settings = WorldSettings(disk.url, **draw_settings(self.random))
        self.chances = draw_chances(self.random)
        if self.scene.is_tight:
            self.chances.pause = 0.0
        self.processes = {name: LnpayProcess(name, self) for name in self._names()}
        self.customers = [self._draw_customer(number) for number in range(self.scene.customers)]
        self.faults: list[Fault] = []
        self.waiting: list[tuple[datetime, Task, Attempt]] = []
        self.gone: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.wants = 0

    def _names(self) -> list[str]:
        names = ["server 1", "server 2", "operator"]
        return names + [f"{kind} {number}" for kind in PASSES for number in (1, 2) if self.scene.has_workers]

    def build_backend(self) -> Backend:
        """The parts of one process over the machine's database."""
        return build_backend(
            self.settings,
            self._deliver,
            clock=self.host.now,
            session=self.host.session,
            run_in_background=lambda task: task(),
        )

    def _deliver(self, event: Event) -> None:
        """The merchant's hook as it is shipped."""
        try:
            deliver(event)
        except ShopGone:
            self.gone.add(str(event.body["data"]["invoice_id"]))
            raise

    # What the seed chooses.

    def _draw_customer(self, number: int) -> Customer:
        chance = self.random
        address = chance.choice((None, "not an address", *["own"] * 8, "dear"))
        if address == "own":
            address = f"c{number}@wallet.test"
            self._behave(address)
        elif address == "dear":
            address = f"dear{number}@wallet.test"
        customer = Customer(
            number,
            f"order-{number}",
            chance.choice(("0.02", "1.50", "12.34", "12.34", "80", "0,5")),
            address,
            chance.choice(("in time", "in time", "late", "late", "late", "late", "some time", "never")),
        )
        if address is not None and "@" in address:
            self.watch.owners[address] = customer
        return customer

    def _behave(self, address: str) -> None:
        self.simulator.config.payout_behaviours[address] = self.random.choice(BEHAVIOURS)

    # The time of disorder.

    def run(self) -> Report:
        """Let everything happen, then hold the end against the promises."""
        violation = None
        try:
            with ExitStack() as stack:
                stack.enter_context(self.host.in_charge(self.seed))
                if self.scene.is_tight:
                    stack.enter_context(mock.patch.object(budget, "LIMITS", TIGHT_LIMITS))
                self._disorder()
                come_to_rest(self)
        except Violation as error:
            violation = str(error)
        self._count()
        trace = list(self.scheduler.trace)
        digest = zlib.crc32("\n".join(trace).encode())
        return Report(self.seed, self.counts, violation, trace if violation else [], digest)

    def _disorder(self) -> None:
        if self.scene.has_webhooks:
            self._subscribe()
        if self.random.random() < 0.5:
            self._set(draw_doubt(self.random))
        for _ in range(self.random.choice((0, 0, 1, 2, 3, 5))):
            self._add_fault()
        self.scheduler.chances = self.chances
        left = self.scene.activities
        while left > 0 or self.scheduler.tasks:
            left -= self._one_step(left > 0)
            self.check()

    def _one_step(self, may_start: bool) -> bool:
        """Whether something new was begun."""
        runnable = self.scheduler.runnable()
        if runnable and (not may_start or self.random.random() < 0.85 or len(self.scheduler.tasks) >= MOST_TASKS):
            task = self.random.choice(runnable)
            self.scheduler.step(task)
            self._judge(task)
            return False
        if may_start and (len(self.scheduler.tasks) < MOST_TASKS) and self.random.random() < 0.75:
            self._start_something()
            return True
        self._let_time_pass()
        return False

    def _let_time_pass(self) -> None:
        now, chance = self.simulator.clock.now(), self.random.random()
        if chance < 0.6:
            wake_at = self.scheduler.next_wake_at()
            later = [moment for moment in (wake_at, *moments(self)) if moment is not None and moment > now]
            seconds = (min(later) - now).total_seconds() + 0.001 if later else 1.0
        elif chance < 0.8:
            seconds = self.random.uniform(0.01, 20)
        elif chance < 0.98:
            seconds = self.random.uniform(20, 300)
        else:
            seconds = self.random.uniform(1_000, 9_000)
        self._advance(seconds)

    def _advance(self, seconds: float) -> None:
        self.simulator.clock.advance(seconds)
        self.simulator.tick()

    def _judge(self, task: Task) -> None:
        """Look at how a task ended, if it did; a crashed process is started again."""
        if not task.process.is_alive and self.processes[task.process.name] is task.process:
            self.processes[task.process.name] = LnpayProcess(task.process.name, self)
        if task.violation is not None:
            raise task.violation
        if task.is_over and task.error is not None and not isinstance(task.error, LnpayError):
            raise Violation(f"{task.name} raised {type(task.error).__name__}: {task.error}") from task.error

    def check(self) -> None:
        """Hold what is now against the promises."""
        self._record_webhooks()
        self.watch.check_world()
        if self.host.errors.found:
            error = self.host.errors.found[0]
            raise Violation(f"a mistake was caught and logged: {type(error).__name__}: {error}") from error

    def _start_something(self) -> None:
        choices = [(weight, start) for weight, start in self._choices() if weight]
        self.random.choices([start for _, start in choices], [weight for weight, _ in choices])[0]()

    def _choices(self) -> list[tuple[float, Callable[[], None]]]:
        """What may begin now; what gets things on is likelier."""
        is_any_unshown = any(customer.invoice_id is None for customer in self.customers)
        is_any_payable = any(customer.invoice_id in self.watch.unpaid for customer in self.customers)
        is_any_unseen = self._is_any_unseen()
        is_any_owed = bool(self.watch.rows("SELECT 1 FROM refunds WHERE state <> 'sent' LIMIT 1"))
        is_any_untold = bool(self.watch.rows("SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1"))
        has_webhooks, has_workers = self.scene.has_webhooks, self.scene.has_workers
        due_at = self.simulator.next_webhook_at()
        is_webhook_due = due_at is not None and due_at <= self.simulator.clock.now()
        return [
            (6 if is_any_unshown else 0.2, self._start_order),
            (5 if is_any_payable else 0.1, self._start_payment),
            ((4 if is_any_unseen else 0.5) * has_workers, self._start_looker),
            ((4 if is_any_owed else 0.2) * has_workers, self._start_refund_worker),
            (3 if is_any_owed else 0.2, self._start_refunder),
            (2 if is_any_untold else 0.2, self._start_teller),
            (3 * is_webhook_due, self._start_webhook),
            (1.2, self._add_fault),
            (0.4, self._trouble_shop),
            (0.3, self._trouble_rates),
            (0.5 * is_any_owed, self._start_operator),
            (1.0 * is_any_owed, self._start_refund_page),
            (0.3, self._change_address_behaviour),
            (0.2, self._look_at_invoice),
            (0.3 * has_webhooks, self._forge_webhook),
            (0.3 * (not self.scene.is_tight), self._jump_clock),
        ]

    def _is_any_unseen(self) -> bool:
        watched = self.watch.rows("SELECT strike_invoice_id FROM invoices WHERE state IN ('unpaid', 'expired')")
        book = self.simulator.invoices.by_id
        return any(row[0] is not None and book[row[0]].state == "PAID" for row in watched)

    def _server(self) -> LnpayProcess:
        return self.processes[self.random.choice(("server 1", "server 2"))]

    # Customers and shops.

    def _start_order(self) -> None:
        unshown = [one for one in self.customers if one.invoice_id is None]
        customer = self.random.choice(unshown if unshown and self.random.random() < 0.8 else self.customers)
        body: dict[str, Any] = {
            "amount_fiat": customer.amount,
            "correlation_id": customer.order_id,
            "description": customer.order_id,
        }
        if customer.address is not None:
            body["ln_address"] = customer.address
        is_other = self.random.random() < 0.05
        if is_other:
            body["amount_fiat"] = "3.33"
        is_heard = self.random.random() < 0.9

        def ask(server: LnpayProcess) -> None:
            answer = self._request(server, "POST", "/generate-invoice", json=body)
            if answer.status_code == 200 and is_heard:
                self._show(customer, answer.get_json()["data"], body["amount_fiat"])

        for _ in range(self.random.choice((1, 1, 1, 2))):
            server = self._server()
            self.scheduler.spawn(f"{customer} asks", server, lambda server=server: ask(server))  # type: ignore[misc]

    def _show(self, customer: Customer, data: dict[str, Any], amount: str) -> None:
        invoice, quote = data["invoice"], data["quote"]
        sats = parse_units(invoice["amount"]["amount"], "BTC") or 0
        if not quote["lnInvoice"].startswith(f"lnbc{format_amount(sats)}1"):
            raise Violation(f"{customer} is shown a payment request that does not ask for {sats} sats")
        expires_at = datetime.fromisoformat(data["expiration_time"])
        shown = (invoice["invoiceId"], quote["lnInvoice"], expires_at)
        if customer.invoice_id is not None and (customer.invoice_id, customer.bolt11, customer.expires_at) != shown:
            raise Violation(f"{customer} is shown two invoices for one order")
        customer.invoice_id, customer.bolt11, customer.expires_at = shown
        if invoice["invoiceId"] not in self.watch.customers and customer.plan != "never":
            self.watch.unpaid.add(invoice["invoiceId"])
        self.watch.customers[invoice["invoiceId"]] = customer

    def _request(self, server: LnpayProcess, method: str, path: str, **options: Any) -> TestResponse:
        answer = server.request(method, path, **options)
        self.scheduler.note(f"answers {answer.status_code} to {method} {path[:20]}")
        expected = next(statuses for start, statuses in EXPECTED_STATUSES.items() if path.startswith(start))
        if answer.status_code not in expected:
            raise Violation(f"{method} {path} is answered {answer.status_code}: {answer.text[:200]}")
        return answer

    def _look_at_invoice(self) -> None:
        customer = self.random.choice(self.customers)
        if customer.invoice_id is not None:
            server, path = self._server(), f"/invoices/{customer.invoice_id}"
            self.scheduler.spawn("shop looks", server, lambda: self._request(server, "GET", path))

    def _start_payment(self) -> None:
        shown = [one for one in self.customers if one.invoice_id is not None and one.plan != "never"]
        payable = [one for one in shown if one.invoice_id in self.watch.unpaid]
        if not shown:
            return
        customer = self.random.choice(payable if payable and self.random.random() < 0.95 else shown)
        self.watch.unpaid.discard(customer.invoice_id or "")
        assert customer.expires_at is not None
        if customer.plan == "late" and self.simulator.clock.now() <= customer.expires_at:
            # It is late enough when the customer comes back.
            left = (customer.expires_at - self.simulator.clock.now()).total_seconds()
            self._advance(left + self.random.choice((0.001, 1.0, 60.0)))
        seconds = self.random.choice((0.0, 0.0, 0.0, 0.0, 20.0, 400.0))
        try:
            self.simulator.pay_invoice(
                customer.bolt11, pending_seconds=seconds, reverts=bool(seconds) and self.random.random() < 0.2
            )
            self.scheduler.note(f"{customer} pays ({customer.plan}, pending {seconds:.0f} s)")
        except PaymentRefused as refusal:
            self.scheduler.note(f"{customer} cannot pay: {refusal.reason}")

    def _start_refund_page(self) -> None:
        rows = self.watch.rows(
            "SELECT r.token, i.strike_invoice_id FROM refunds r JOIN invoices i ON i.id = r.invoice_id"
        )
        if not rows:
            return
        row = self.random.choice(rows)
        customer = self.watch.customers[row[1]]
        self.wants += 1
        name = self.random.choice(("dear", "good", "good", "bad", "more"))
        address = {"dear": f"dear{900 + self.wants}@wallet.test", "bad": "nonsense"}.get(
            name, f"c{customer.number}-{self.wants}@wallet.test"
        )
        if name == "more":
            self._behave(address)
        self.watch.owners[address] = customer
        server = self._server()
        for _ in range(self.random.choice((1, 2))):
            self.scheduler.spawn(
                f"{customer} gives", server,
                lambda: self._request(server, "POST", f"/refund/{row[0]}", data={"ln_address": address}),
            )  # fmt: skip

    def new_address(self, strike_id: str) -> str:
        """Another address of the same customer; nothing is wrong with it."""
        customer = self.watch.customers[strike_id]
        self.wants += 1
        address = f"c{customer.number}-{self.wants}@wallet.test"
        self.watch.owners[address] = customer
        return address

    def give_good_address(self, token: str, strike_id: str) -> None:
        """The customer gives an address on the page."""
        address = self.new_address(strike_id)
        self._request(self._server(), "POST", f"/refund/{token}", data={"ln_address": address})

    def _change_address_behaviour(self) -> None:
        behaviours = self.simulator.config.payout_behaviours
        if behaviours:
            self._behave(self.random.choice(sorted(behaviours)))

    # Whoever does the work.

    def _start_teller(self) -> None:
        server = self._server()
        self.scheduler.spawn(f"{server.name} tells", server, lambda: send_due(server.backend.outbox, senders=1))

    def _start_refunder(self) -> None:
        server = self._server()
        self.scheduler.spawn(
            f"{server.name} refunds", server, lambda: send_due_refunds(server.backend.refund_desk, WAITING)
        )

    def _start_looker(self) -> None:
        self._start_worker(self.random.choice(("main", "expired")))

    def _start_refund_worker(self) -> None:
        self._start_worker(self.random.choice(("refund", "refund", "refund", "expired")))

    def _start_worker(self, kind: str) -> None:
        process = self.processes[f"{kind} {self.random.choice((1, 2))}"]
        if not any(task.process is process for task in self.scheduler.tasks):
            self.scheduler.spawn(f"{process.name} works", process, lambda: PASSES[kind](process.backend))

    def _start_operator(self) -> None:
        rows = self.watch.rows(
            "SELECT i.strike_invoice_id, r.state FROM refunds r JOIN invoices i ON i.id = r.invoice_id"
        )
        if not rows:
            return
        strike_id, state = self.random.choice(rows)
        process = self.processes["operator"]
        command = self._command(process, strike_id, state)
        self.scheduler.spawn("operator", process, command)

    def _command(self, process: LnpayProcess, strike_id: str, state: str) -> Callable[[], object]:
        address = self.new_address(strike_id)
        if state == "held":
            return lambda: approve(process.backend.repository, strike_id, self.host.now())
        if state in ("needs_address", "failed") and self.random.random() < 0.7:
            return lambda: change_address(process.backend.repository, strike_id, address, self.host.now())
        if state == "failed":
            return lambda: retry(process.backend.repository, strike_id, "it failed", self.host.now())
        return lambda: send_again(process.backend.repository, strike_id, self.host.now())

    # The provider.

    def _subscribe(self) -> None:
        desk = self.simulator.webhooks
        subscription = Subscription(
            self.simulator.new_id(), "https://lnpay.test/webhook", "v1", WEBHOOK_SECRET, True,
            list(SUBSCRIBED_EVENTS), self.simulator.now(),
        )  # fmt: skip
        desk.subscriptions[subscription.subscription_id] = subscription

    def _start_webhook(self) -> None:
        self.simulator.tick()
        attempt = self.simulator.webhooks.claim(self.simulator.clock.now())
        if attempt is not None:
            server = self._server()
            task = self.scheduler.spawn("webhook", server, lambda: self.receive(server, attempt))
            self.waiting.append((self.simulator.clock.now() + WEBHOOK_TIMEOUT, task, attempt))

    def receive(self, server: LnpayProcess, attempt: Attempt) -> int:
        """Let one webhook of the provider arrive. Returns our answer's status."""
        headers = self.simulator.webhooks.headers_of(attempt)
        if attempt.is_forged:
            return self._receive_forged(server, attempt.body, headers)
        return self._request(server, "POST", "/webhook", data=attempt.body, headers=headers).status_code

    def _receive_forged(self, server: LnpayProcess, body: bytes, headers: dict[str, str]) -> int:
        answer = server.request("POST", "/webhook", data=body, headers=headers)
        self.counts["forged webhooks"] += 1
        if answer.status_code != 401:
            raise Violation(f"a forged webhook is answered {answer.status_code}")
        return answer.status_code

    def _forge_webhook(self) -> None:
        entity = self.random.choice([*self.watch.customers, *self.simulator.payments.payments, "nothing"])
        body = json.dumps({"eventType": "invoice.updated", "data": {"entityId": entity}}).encode()
        signature = self.random.choice(("", "00" * 32, "x", WEBHOOK_SECRET))
        server = self._server()
        self.scheduler.spawn(
            "forger", server, lambda: self._receive_forged(server, body, {"X-Webhook-Signature": signature})
        )

    def _record_webhooks(self) -> None:
        """Note the answers that Strike has got by now, and those for which it does not wait any longer."""
        now = self.simulator.clock.now()
        for one in list(self.waiting):
            due_at, task, attempt = one
            if task.is_over or due_at <= now:
                self.waiting.remove(one)
                status = task.result if task.is_over and due_at > now else None
                self.simulator.webhooks.record(attempt, status if isinstance(status, int) else None)

    # Trouble.

    def _add_fault(self) -> None:
        self._set(draw_fault(self.random, self.scene))

    def _set(self, fault: Fault) -> None:
        self.scheduler.note(f"fault {fault.kind} {fault.status} on {fault.method} {fault.path_pattern} x{fault.times}")
        self.faults.append(self.simulator.faults.add(fault))

    def _trouble_shop(self) -> None:
        status = self.random.choice((500, 500, 503, 404, 302, 410, 200))
        self.simulator.shop.answer_with(status, self.random.choice((1, 3, None)) if status != 410 else 1)
        self.scheduler.note(f"the shop answers {status}")

    def _trouble_rates(self) -> None:
        source = self.random.choice(("coingecko", "coinbase", "strike"))
        rates = self.simulator.rates
        if self.random.random() < 0.5:
            rates.factors[source] = Decimal(self.random.choice(("0.5", "0.98", "1.04", "1.3", "1")))
        else:
            rates.ages[source] = self.random.choice((20.0, 200.0, 900.0))

    def _jump_clock(self) -> None:
        self.host.skew_seconds = self.random.choice((0.0, self.random.uniform(-300, 300)))
        self.scheduler.note(f"our clock is off by {self.host.skew_seconds:.0f} s")

    def _count(self) -> None:
        counts = self.counts + self.scheduler.counts
        counts["steps"] = self.scheduler.steps
        for fault in self.faults:
            counts[f"fault {fault.kind}"] += fault.hits
        payments = self.simulator.payments.payments.values()
        counts["invoices"] = len(self.watch.customers)
        counts["payments in"] = sum(entry.kind == "in" for entry in self.simulator.ledger.entries)
        counts["payments in, late"] = sum(
            self.watch.is_paid(one) and self.watch.is_late(one) for one in self.watch.customers.values()
        )
        counts["refunds out"] = sum(payment.state == "COMPLETED" for payment in payments)
        counts["refunds failed on the way"] = sum(payment.state == "FAILED" for payment in payments)
        counts["executions asked for"] = len(self.simulator.ledger.executions)
        counts["deliveries tried"] = len(self.simulator.shop.deliveries)
        counts["webhooks sent"] = len(self.simulator.webhooks.sent)
        counts["taken for sent, as the provider said"] = len(self.watch.exempt)
        self.counts = counts
