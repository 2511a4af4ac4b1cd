"""Servers and workers killed with SIGKILL at random instants, over real HTTP, while customers pay in time and late.

CHAOS_SECONDS=180 makes it longer, CHAOS_SEED=7 another one. At the end everything is dead; one process then does what
is left, and every payment is held against the provider's ledger and the shop's own list.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

import requests

from lnpay.sandbox import (
    Fault,
    SandboxServer,
    Simulator,
    SimulatorConfig,
)
from lnpay.sandbox.server import wait_until
from lnpay.strike.client import SUBSCRIBED_EVENTS
from tests.chaos.balance import Books, Sale
from tests.scenarios.live import ROOT, START_SECONDS, environment, free_port, is_up, subscribe

SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))

TIME_TO_PAY_SECONDS = 10
WORKERS = ("main_worker", "expired_worker", "refund_failure_worker")
FATES = ("complete", "complete", "pending3", "pendingfail3", "fail")


@dataclass
class Fleet:
    """Two servers and the three workers, each in its own process and restarted after it is killed."""

    provider_url: str
    database_url: str
    output: IO[bytes]
    ports: list[int] = field(default_factory=lambda: [free_port(), free_port()])
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def urls(self) -> list[str]:
        """Of the servers."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def start(self) -> None:
        """Start everything, and wait for the servers."""
        for number in range(len(self.ports)):
            self._spawn(f"server {number}")
        for url in self.urls:
            assert wait_until(lambda url=url: is_up(url), 3 * START_SECONDS)  # type: ignore[misc]
        for name in WORKERS:
            self._spawn(name)

    def kill_one(self, rng: random.Random) -> None:
        """Kill one of them at a random moment, and start it again."""
        name = rng.choice(sorted(self.running))
        self._kill(name)
        self.kills[name] += 1
        self._spawn(name)

    def kill_all(self) -> None:
        """Kill them all for good."""
        for name in list(self.running):
            self._kill(name)

    def _kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait(30)

    def _spawn(self, name: str) -> None:
        is_worker = name in WORKERS
        port = self.ports[0] if is_worker else self.ports[int(name.removeprefix("server "))]
        program = [f"workers/{name}.py", "--watch", "1"] if is_worker else ["main.py"]
        self.running[name] = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env=environment(
                self.provider_url, self.database_url, port, TIME_OFFSET=str(TIME_TO_PAY_SECONDS), LOG_LEVEL="error"
            ),
            stdout=self.output,
            stderr=self.output,
        )


class Customers:
    """Threads that buy and pay, every second time too late, until time is up."""

    def __init__(self, simulator: Simulator, urls: list[str]) -> None:
        self.late: list[Sale] = []
        self.paid: list[Sale] = []
        self._simulator = simulator
        self._urls = urls
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._buy, args=(number,), daemon=True) for number in range(2)]

    def start(self) -> None:
        """Start buying."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the current purchase."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def pay_late(self, *, is_waiting: bool = False) -> None:
        """Pay what is too late by now; is_waiting: and let the time pass for the others."""
        for sale in list(self.late):
            if is_waiting or self._simulator.now() > sale.expires_at:
                missing = (sale.expires_at - self._simulator.now()).total_seconds()
                self._simulator.pay_invoice(sale.payment_request, late_seconds=max(0.0, missing + 1))
                self.late.remove(sale)
                self.paid.append(sale)

    def _buy(self, thread: int) -> None:
        rng = random.Random(f"{SEED} {thread}")
        number = 0
        while not self._over.is_set():
            number += 1
            sale = self._order(rng, f"{thread}-{number}")
            if sale is None:
                continue
            # In time means well in time: which of two instants in one second was the first is not tested here.
            if number % 2 and (sale.expires_at - self._simulator.now()).total_seconds() > 1:
                self._simulator.pay_invoice(sale.payment_request)
                self.paid.append(sale)
            else:
                self.late.append(sale)
            self._over.wait(rng.uniform(0.05, 0.3))

    def _order(self, rng: random.Random, name: str) -> Sale | None:
        """Request the same order from either server, until one answers."""
        address = f"{rng.choice(FATES)}@customer{name}.example.com"
        body = {"amount_fiat": "12.34", "correlation_id": f"order-{name}", "ln_address": address}
        while not self._over.is_set():
            try:
                answer = requests.post(f"{rng.choice(self._urls)}/generate-invoice", json=body, timeout=5)
            except requests.RequestException:
                self._over.wait(0.1)
                continue
            if answer.ok:
                data = answer.json()["data"]
                return Sale(
                    address,
                    data["invoice"]["invoiceId"],
                    data["quote"]["lnInvoice"],
                    datetime.fromisoformat(data["expiration_time"]),
                )
            self._over.wait(0.1)
        return None


def test_programs_that_are_killed_all_the_time_lose_no_payment_and_pay_nothing_back_twice(
    database_url: str, tmp_path: Path
) -> None:
    # Quotes that outlive any outage of the fleet: those that do not would leave some refunds to a person.
    simulator = Simulator(seed=SEED, config=SimulatorConfig(rate_limits="off", payment_quote_seconds=3600))
    rng = random.Random(SEED)
    with ExitStack() as stack:
        provider = stack.enter_context(SandboxServer(simulator))
        output = stack.enter_context((tmp_path / "log").open("ab"))
        fleet = Fleet(provider.url, database_url, output)
        stack.callback(fleet.kill_all)
        fleet.start()
        subscribe(provider, fleet.urls[0], SUBSCRIBED_EVENTS)
        for kind in ("lost_answer", "error_after"):
            simulator.faults.add(Fault("*", "/v1/payment*", kind, times=None, probability=0.05))

        customers = Customers(simulator, fleet.urls)
        customers.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.3, 1.5))
            customers.pay_late()
            fleet.kill_one(rng)
        customers.stop()
        fleet.kill_all()
        simulator.faults.remove()
        customers.pay_late(is_waiting=True)

        books = Books(simulator, customers.paid)
        rounds = books.drain(provider, database_url, TIME_TO_PAY_SECONDS)
        print(
            f"{fleet.kills.total()} kills {dict(fleet.kills)}, {len(books.paid)} payments, {len(books.late())} late, "
            f"{len(simulator.ledger.executions)} executions, {len(simulator.shop.deliveries)} deliveries, "
            f"{rounds} rounds to drain"
        )
        assert books.late()
        assert books.in_time()
        assert books.violations() == []
