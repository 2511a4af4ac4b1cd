"""A complete, healthy installation over real HTTP, in which a test breaks one thing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from config.settings import load_settings
from lnpay.doctor import Finding, Verdict, examine
from lnpay.domain.model import Heartbeat, Invoice
from lnpay.domain.states import InvoiceState
from lnpay.repository import Repository, Transaction
from lnpay.runtime.worker_passes import WORKER_INTERVALS, make_pass
from lnpay.sandbox import SandboxServer, Simulator
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import wait_until
from lnpay.strike.client import SUBSCRIBED_EVENTS
from tests.scenarios.live import ask, build_live_backend, free_port, serving, subscribe
from tests.world import WEBHOOK_SECRET, empty_database

SECRETS = {
    "STRIKE_API_KEY": "a-key-of-the-tests",
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
    "DELIVERY_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "API_KEYS": "an-api-key-of-the-tests-1,an-api-key-of-the-tests-2",
    "ADMIN_PASSWORD": "a-password-of-the-tests",
    "METRICS_TOKEN": "a-token-of-the-tests",
    "COINGECKO_API_KEY": "a-gecko-key-of-the-tests",
}
WAIT_SECONDS = 30.0
"""For what takes a moment, on a machine that does other things too."""

HIDDEN_IN_DELIVERY_URL = ("shop-user", "shop-password", "shop-token")


class Installation:
    """LNPay with its settings file, a provider and a shop; one order is already paid."""

    def __init__(self, folder: Path, world: SandboxServer, port: int) -> None:
        self.world = world
        self.simulator: Simulator = world.simulator
        self.env_file = folder / "settings.env"
        self.database = folder / "invoices.sqlite"
        shop = world.url.replace("http://", "http://shop-user:shop-password@") + "/shop/webhook?token=shop-token"
        self.values = {
            **SECRETS,
            "STRIKE_API_URL": f"{world.url}/v1",
            "COINGECKO_API_URL": f"{world.url}/coingecko/api/v3",
            "COINBASE_API_URL": f"{world.url}/coinbase/v2",
            "WEBHOOK_URL": f"http://127.0.0.1:{port}/webhook",
            "DELIVERY_URL": shop,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "PORT": str(port),
        }
        self.set()
        self.clock_is_ahead = timedelta()
        self._running = ExitStack()

    def set(self, **changes: str) -> None:
        """Write the settings, with `changes`, for the next run of the doctor."""
        self.values.update(changes)
        text = "".join(f"{name}={value}\n" for name, value in self.values.items())
        self.env_file.write_text(text)
        self.env_file.chmod(0o600)

    def start(self, **changes: Any) -> None:
        """Run the server; `changes` apply to it alone."""
        backend = build_live_backend(
            self.world.url,
            self.values["DATABASE_URL"],
            self.simulator.clock.now,
            webhook_url=self.values["WEBHOOK_URL"],
            **changes,
        )
        for name, (one_pass, _) in WORKER_INTERVALS.items():
            make_pass(backend, name, one_pass)
        self._running.enter_context(serving(backend, int(self.values["PORT"])))

    def stop(self) -> None:
        """Stop the server."""
        self._running.close()

    def sell_and_pay(self, **fields: Any) -> Invoice:
        """Sell an invoice that is paid in time; LNPay settles it, and Strike's webhook about it arrives."""
        invoice = self.pay(**fields)
        state = InvoiceState.SETTLED
        assert wait_until(lambda: self.invoice(invoice.strike_invoice_id).state is state, WAIT_SECONDS)
        assert wait_until(lambda: all(event.delivery_success is not False for event in self.events()), WAIT_SECONDS)
        return self.invoice(invoice.strike_invoice_id)

    def pay(self, *, late_seconds: float = 0, **fields: Any) -> Invoice:
        """Sell an invoice and pay it; LNPay may not know yet."""
        url = self.values["WEBHOOK_URL"].removesuffix("/webhook")
        answer = ask(url, **fields)
        assert answer.status_code == 200, answer.text
        invoice = self.invoice(answer.json()["data"]["invoice"]["invoiceId"])
        self.simulator.pay_invoice(invoice.issue.bolt11, late_seconds=late_seconds)
        return invoice

    def was_delivered(self) -> bool:
        """Whether LNPay has recorded that the shop accepted a message."""
        with self.rows() as tx:
            return tx.backlog.last_delivered_at() is not None

    def events(self) -> list[Any]:
        """Strike's events."""
        return list(self.simulator.webhooks.events.values())

    def invoice(self, strike_invoice_id: str) -> Invoice:
        """Our row."""
        with self.rows() as tx:
            invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        assert invoice is not None
        return invoice

    @contextmanager
    def rows(self) -> Iterator[Transaction]:
        """Rows, to read or to change."""
        repository = Repository(self.values["DATABASE_URL"])
        try:
            with repository.transaction() as tx:
                yield tx
        finally:
            repository.close()

    def execute(self, *statements: str) -> None:
        """Change the SQLite file by hand."""
        with closing(sqlite3.connect(self.database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def now(self) -> datetime:
        """This machine's clock."""
        return self.simulator.clock.now() + self.clock_is_ahead

    def let_pass(self, length: timedelta) -> None:
        """Let time pass, while the workers keep making their passes."""
        self.simulator.clock.advance(length.total_seconds())
        with self.rows() as tx:
            for worker in WORKER_INTERVALS:
                tx.heartbeats.beat(Heartbeat(worker, self.now(), None))

    def fault(self, method: str, path: str, kind: str, **more: Any) -> None:
        """Set a fault at the provider or the shop."""
        self.simulator.faults.add(Fault(method, path, kind, times=None, **more))

    def examine(self) -> list[Finding]:
        """The doctor's findings, after checking that they show no secret."""
        findings = examine(load_settings({}, self.env_file), self.now)
        text = json.dumps([asdict(finding) for finding in findings])
        for secret in (*",".join(SECRETS.values()).split(","), *HIDDEN_IN_DELIVERY_URL):
            assert secret not in text
        return findings

    def troubles(self) -> dict[str, Finding]:
        """The findings that are not ok, by name."""
        return {finding.name: finding for finding in self.examine() if finding.verdict is not Verdict.OK}


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    """A healthy installation in `folder`."""
    (folder / "invoices.sqlite").write_bytes(empty_database())
    with SandboxServer(Simulator(seed=1)) as world:
        made = Installation(folder, world, free_port())
        made.start()
        subscribe(world, made.values["WEBHOOK_URL"].removesuffix("/webhook"), SUBSCRIBED_EVENTS)
        made.sell_and_pay()
        assert wait_until(made.was_delivered, WAIT_SECONDS)
        try:
            yield made
        finally:
            made.stop()
