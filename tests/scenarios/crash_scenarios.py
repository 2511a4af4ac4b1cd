"""Scenarios in which a program of ours is killed at one of its crash points and restarted afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import requests

from lnpay.deliveries.send import CLAIM
from lnpay.domain.model import Invoice
from lnpay.domain.states import DeliveryState, InvoiceState
from lnpay.repository import Repository
from lnpay.runtime.backend import Backend
from lnpay.sandbox import SandboxServer, Simulator, SimulatorConfig
from tests.scenarios.crash_points import start
from tests.scenarios.live import START_SECONDS, ask, build_live_backend, environment, free_port

CHUNKS = 4
"""The crash points of a program are split over this many tests, for machines with several cores."""

PAUSE_SECONDS = CLAIM.total_seconds() + 1
"""From a crash to the restart: long enough for the claim on any delivery to expire."""


@dataclass
class CrashScenario:
    """One shop, one customer, one provider, and an LNPay that may be killed."""

    provider: SandboxServer
    simulator: Simulator
    folder: Path
    crash_at: int
    port: int = field(default_factory=free_port)
    shown: list[str] = field(default_factory=list)
    """Payment requests that the customer saw."""

    @property
    def url(self) -> str:
        """Where LNPay listens while it runs."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        """LNPay's database, which survives a crash."""
        return f"sqlite:///{self.folder}/invoices.sqlite"

    @property
    def trace(self) -> list[str]:
        """The crash points that the program reached."""
        return (self.folder / "trace").read_text().splitlines()

    @contextmanager
    def run_until_crash(self, program: str) -> Iterator[BaseProcess]:
        """Run a program that is killed at the crash point `crash_at`. The block ends once it has ended."""
        settings = environment(self.provider.url, self.database_url, self.port)
        process = start(program, settings, self.folder, crash_at=self.crash_at)
        try:
            yield process
            if not self.crash_at and program == "main.py":
                process.terminate()
            process.join(START_SECONDS)
            # The tests move the provider's clock, so a worker reports that this machine's differs, and exits with 1.
            is_clock_trouble = process.exitcode == 1 and "trouble: this machine's clock is " in self.log
            assert is_clock_trouble or process.exitcode == (-signal.SIGKILL if self.crash_at else 0), self.log
            assert not self.crash_at or len(self.trace) == self.crash_at
        finally:
            process.kill()
            process.join()

    @property
    def log(self) -> str:
        """What the program printed and logged."""
        return (self.folder / "log").read_text()

    def buy(self, ln_address: str | None = None) -> bool:
        """The shop requests its invoice, and the customer sees it. False if there was no answer."""
        try:
            answer = ask(self.url, correlation_id="the-order", ln_address=ln_address)
        except requests.ConnectionError:
            return False
        assert answer.status_code == 200, answer.text
        self.shown.append(answer.json()["data"]["quote"]["lnInvoice"])
        return True

    def pay(self) -> None:
        """The customer pays what was shown, once."""
        if not self.simulator.ledger.entries:
            self.simulator.pay_invoice(self.shown[0])

    def restart(self) -> Backend:
        """LNPay starts again, some time later."""
        self.simulator.clock.advance(PAUSE_SECONDS)
        return self.open_backend()

    def open_backend(self) -> Backend:
        """LNPay in this process. The caller closes it."""
        return build_live_backend(self.provider.url, self.database_url, self.simulator.clock.now)

    def buy_and_pay(self) -> None:
        """What the shop and the customer still do once LNPay runs again."""
        if not self.simulator.ledger.entries:
            assert self.buy()
            self.pay()

    def is_done(self) -> bool:
        """Whether everything that was paid was delivered, as far as LNPay knows."""
        paid = [entry.invoice_id or "" for entry in self.simulator.ledger.entries]
        return bool(paid) and all(self.states_of(one)[1] == [DeliveryState.DELIVERED] for one in paid)

    def check(self) -> None:
        """The shop got the payment under one id, LNPay knows every request shown, and the ledger agrees."""
        ids = Counter(delivery.headers["webhook-id"] for delivery in self.simulator.shop.accepted())
        assert len(ids) == 1
        assert {delivery.json()["invoice"] for delivery in self.simulator.shop.accepted()} == {self.shown[0]}
        assert set(self.shown) == {self.shown[0]}
        (entry,) = self.simulator.ledger.entries
        invoice, deliveries = self.states_of(entry.invoice_id or "")
        assert invoice is not None
        assert invoice.issue.bolt11 == self.shown[0] == entry.payment_request
        assert invoice.state is InvoiceState.SETTLED
        assert invoice.amount_sats == invoice.received_sats == entry.sats
        assert deliveries == [DeliveryState.DELIVERED]

    def states_of(self, strike_invoice_id: str) -> tuple[Invoice | None, list[DeliveryState]]:
        """Our row of an invoice and the states of its messages."""
        repository = Repository(self.database_url)
        with repository.reading() as tx:
            invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
            deliveries = tx.deliveries.of_invoice(invoice.id) if invoice else []
        repository.close()
        return invoice, [delivery.state for delivery in deliveries]


class CrashScenarios:
    """Builds scenarios with one listening simulator, each with a simulated world of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._provider = SandboxServer(Simulator()).start()

    def build(self, crash_at: int) -> CrashScenario:
        """A scenario whose program is killed at crash point `crash_at` (0: never)."""
        simulator = Simulator(config=SimulatorConfig(rate_limits="off"))
        self._provider.simulator = simulator
        folder = self._folder / f"scenario{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        return CrashScenario(self._provider, simulator, folder, crash_at)

    def close(self) -> None:
        """End the simulator."""
        self._provider.stop()


def crash_everywhere(
    scenarios: CrashScenarios,
    live: Callable[[CrashScenario], None],
    chunk: int,
    check: Callable[[CrashScenario], None] = CrashScenario.check,
) -> Iterator[CrashScenario]:
    """Scenarios after a crash, one for each crash point of a chunk. Without a crash, `check` must pass too."""
    uninterrupted = scenarios.build(crash_at=0)
    live(uninterrupted)
    check(uninterrupted)
    for crash_at in range(chunk + 1, len(uninterrupted.trace) + 1, CHUNKS):
        scenario = scenarios.build(crash_at)
        live(scenario)
        yield scenario
