"""A day of a shop in a few minutes: sales, late payments, processes killed, clocks hours off, a shop that is down."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import SandboxServer, wait_until
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.strike.invoices import PaymentRefused
from tests.scenarios.live import ROOT, environment, free_port, is_up, subscribe
from tests.soak.clocks import ProviderClock, SharedTime

HOURS_OFF = 3.0
"""How far a clock may be off, in either direction."""

STEP_SECONDS = 30.0
"""How far the time jumps in one step, while all processes work."""

PAUSE_SECONDS = 0.2
"""How many real seconds all processes work between two steps."""

TIME_TO_PAY_SECONDS = 300

WORKERS = ("main_worker", "expired_worker", "refund_failure_worker")

REST_HOURS = 30.0
"""All work must be done within this many hours of the last sale."""


@dataclass
class Program:
    """One of LNPay's processes. slot: of its clock. port: of a server."""

    name: str
    slot: int
    command: list[str]
    port: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where a server listens."""
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Sale:
    """The invoice that a customer was shown. pays_at: None if the customer never pays."""

    invoice_id: str
    address: str
    bolt11: str
    expires_at: datetime
    pays_at: datetime | None
    pending_seconds: float
    has_tried: bool = False


@dataclass
class Soak:
    """A shop with two servers and three workers over one database. `counts` says what has happened."""

    folder: Path
    hours: float
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    sales: list[Sale] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.shared = SharedTime(self.folder / "time")
        self.simulator = Simulator(
            clock=ProviderClock(self.shared), seed=self.seed, config=SimulatorConfig(filter_policy="block_compound")
        )
        servers = [Program(f"server {number}", number, ["main.py"], free_port()) for number in (1, 2)]
        workers = [
            Program(name, slot, [f"workers/{name}.py", "--watch", "1"]) for slot, name in enumerate(WORKERS, start=3)
        ]
        self.servers, self.programs = servers, [*servers, *workers]

    def run(self) -> None:
        """Let the hours pass, then come to rest. Raises AssertionError if anything is lost or duplicated."""
        with SandboxServer(self.simulator) as provider, self._running(provider):
            subscribe(provider, self.servers[0].url, ("invoice.updated", "payment.updated"))
            for slot, hours in enumerate((1, -1, -0.8, 0.6, -0.4), start=1):
                self.shared.write(slot, hours * HOURS_OFF * 3600)
            end = self.shared.now() + timedelta(hours=self.hours)
            while self.shared.now() < end:
                self._step(provider)
            self._come_to_rest(provider)
        self.check()

    # Processes.

    @contextmanager
    def _running(self, provider: SandboxServer) -> Iterator[None]:
        try:
            for program in self.programs:
                self._start(provider, program)
            ready = wait_until(lambda: all(is_up(server.url) for server in self.servers), 60)
            assert ready, self._log_of("server 1")
            yield
        finally:
            for program in self.programs:
                if program.process is not None:
                    program.process.terminate()
            for program in self.programs:
                if program.process is not None:
                    self._end(program.process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)

    def _start(self, provider: SandboxServer, program: Program) -> None:
        database = f"sqlite:///{self.folder}/invoices.sqlite"
        settings = {"TIME_OFFSET": str(TIME_TO_PAY_SECONDS), "DELIVERY_EVENTS": "invoice.settled,refund.sent"}
        with (self.folder / f"{program.name}.log").open("ab") as output:
            program.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.soak.process",
                    f"{self.folder}/time",
                    f"{program.slot}",
                    *program.command,
                ],
                cwd=ROOT,
                env=environment(provider.url, database, program.port or free_port(), **settings),
                stdout=output,
                stderr=output,
            )

    def _kill_one(self, provider: SandboxServer) -> None:
        program = self.random.choice(self.programs)
        assert program.process is not None
        program.process.kill()
        program.process.wait(30)
        self.counts["processes killed"] += 1
        self._start(provider, program)

    def _log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-5_000:]

    # What happens.

    def _step(self, provider: SandboxServer) -> None:
        chance = self.random.random()
        if chance < 0.5:
            self._sell()
        elif chance < 0.53:
            self._kill_one(provider)
        elif chance < 0.56:
            self._move_a_clock()
        elif chance < 0.6:
            self._go_wrong()
        self._pay_what_is_due()
        self._advance(provider, STEP_SECONDS)
        time.sleep(PAUSE_SECONDS)

    def _advance(self, provider: SandboxServer, seconds: float) -> None:
        url = f"{provider.url}/_control/clock/advance"
        requests.post(url, json={"seconds": seconds}, timeout=30).raise_for_status()

    def _sell(self) -> None:
        server = self.random.choice(self.servers)
        number = len(self.sales) + self.counts["sales refused"]
        body = {"amount_fiat": self.random.choice(("0.5", "12.34", "80")), "correlation_id": f"order-{number}",
                "ln_address": f"customer-{number}@wallet.test"}  # fmt: skip
        try:
            answer = requests.post(f"{server.url}/generate-invoice", json=body, timeout=30)
        except requests.RequestException:
            self.counts["sales refused"] += 1
            return
        assert answer.status_code in (200, 502, 503), answer.text
        if answer.status_code != 200:
            self.counts["sales refused"] += 1
            return
        self.counts[f"sales of {server.name}"] += 1
        self.sales.append(self._sale(answer.json()["data"], body["ln_address"]))

    def _sale(self, data: dict[str, Any], address: str) -> Sale:
        expires_at = datetime.fromisoformat(data["expiration_time"])
        left = (expires_at - self.shared.now()).total_seconds()
        plan = self.random.choice(("in time", "in time", "late", "late", "never"))
        seconds = {"in time": left * 0.6, "late": left + self.random.uniform(30, 2_500)}.get(plan)
        return Sale(
            data["invoice"]["invoiceId"], address, data["quote"]["lnInvoice"], expires_at,
            None if seconds is None else self.shared.now() + timedelta(seconds=seconds),
            self.random.choice((0.0, 0.0, 60.0, 5_000.0)),
        )  # fmt: skip

    def _pay_what_is_due(self) -> None:
        for sale in self.sales:
            if sale.has_tried or sale.pays_at is None or sale.pays_at > self.shared.now():
                continue
            sale.has_tried = True
            try:
                self.simulator.pay_invoice(sale.bolt11, pending_seconds=sale.pending_seconds)
            except PaymentRefused:
                self.counts["payments that Strike refused as too late"] += 1

    def _move_a_clock(self) -> None:
        hours = self.random.choice((0.0, self.random.uniform(-HOURS_OFF, HOURS_OFF)))
        self.shared.write(self.random.choice(self.programs).slot, hours * 3600)
        self.counts["clocks moved"] += 1

    def _go_wrong(self) -> None:
        kind = self.random.choice(("shop", "execute", "read", "webhook"))
        self.counts["faults injected"] += 1
        if kind == "shop":
            self.simulator.shop.answer_with(500, 5)
            return
        fault = {
            "execute": Fault("PATCH", "/v1/payment-quotes/*/execute", "lost_answer", times=2),
            "read": Fault("GET", "/v1/invoices", "error", status=503, times=3),
            "webhook": Fault("POST", "*", "webhook_drop", times=3),
        }[kind]
        self.simulator.faults.add(fault)

    def _come_to_rest(self, provider: SandboxServer) -> None:
        self.simulator.faults.remove()
        self.simulator.shop.answer_with(200, 0)
        end = self.shared.now() + timedelta(hours=REST_HOURS)
        while self.shared.now() < end:
            self._pay_what_is_due()
            is_at_rest = all(sale.has_tried or sale.pays_at is None for sale in self.sales)
            if is_at_rest and self.simulator.next_scheduled_at() is None and not list(self.wrong()):
                return
            if is_at_rest:
                self._decide_what_is_unclear(provider)
            self._advance(provider, STEP_SECONDS * 4)
            time.sleep(PAUSE_SECONDS)

    def _decide_what_is_unclear(self, provider: SandboxServer) -> None:
        """Decide unclear refunds as an operator does, by the provider's ledger, which stands for Strike's dashboard.

        Only an hour after the last execution by any clock: LNPay refuses an earlier decision.
        """
        with closing(sqlite3.connect(self.folder / "invoices.sqlite")) as database:
            unclear = database.execute(
                "SELECT i.strike_invoice_id, r.address FROM refunds r JOIN invoices i ON i.id = r.invoice_id "
                "WHERE r.state = 'in_flight' AND r.stuck_at < ?",
                (f"{self.shared.now() - timedelta(hours=1 + 2 * HOURS_OFF):%Y-%m-%d %H:%M:%S}",),
            ).fetchall()
        for strike_id, address in unclear:
            is_sent = any(one.destination == address for one in self.simulator.ledger.entries if one.kind == "out")
            operator = Program(
                "operator", len(self.programs) + 1,
                ["main.py", "refunds", "settle" if is_sent else "retry", strike_id, "--note", "as the ledger shows"],
            )  # fmt: skip
            self._start(provider, operator)
            assert operator.process is not None
            # Refused while a worker has it; then the next round tries again.
            self.counts["unclear refunds, decided by the operator"] += operator.process.wait(60) == 0

    # What must hold.

    def check(self) -> None:
        """Raise AssertionError unless nothing is lost or duplicated."""
        wrong = list(self.wrong())
        assert not wrong, "; ".join(wrong[:10])
        self.counts["sales"] = len(self.sales)

    def wrong(self) -> Iterator[str]:
        """A sentence for everything that is lost or duplicated."""
        told: dict[str, set[str]] = {}
        for one in self.simulator.shop.accepted():
            if one.json()["type"] == "invoice.settled":
                headers = {name.lower(): value for name, value in one.headers.items()}
                told.setdefault(one.json()["data"]["invoice_id"], set()).add(headers["webhook-id"])
        sent: Counter[str] = Counter()
        for payment in self.simulator.payments.payments.values():
            if payment.state != "FAILED":
                sent[payment.quote.destination] += payment.quote.sats
        self.counts["paid in time"] = self.counts["paid late"] = 0
        for sale in self.sales:
            yield from self._wrong_with(sale, told.get(sale.invoice_id, set()), sent)

    def _wrong_with(self, sale: Sale, told: set[str], sent: Counter[str]) -> Iterator[str]:
        invoice = self.simulator.invoices.by_id[sale.invoice_id]
        received = self.simulator.ledger.received(sale.invoice_id)
        is_late = invoice.state == "PAID" and invoice.transactions[0].created_at > sale.expires_at
        refunded = sent[sale.address]
        if invoice.state != "PAID":
            if told or refunded:
                yield f"{sale.invoice_id} was not paid: notified {told}, refunded {refunded}"
            return
        self.counts["paid late" if is_late else "paid in time"] += 1
        if is_late and (told or refunded != received):
            yield f"{sale.invoice_id} was paid late with {received}: notified {told}, refunded {refunded}"
        if not is_late and (len(told) != 1 or refunded):
            yield f"{sale.invoice_id} was paid in time: notified {told}, refunded {refunded}"
