"""A simulated world behind a real socket, and worker scripts run as cron runs them: from somewhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from lnpay.domain.model import Invoice, Order
from lnpay.invoices.create import create_invoice
from lnpay.sandbox import SandboxServer, Simulator, VirtualClock
from tests.scenarios.live import ROOT, build_live_backend, environment

LIMIT_SECONDS = 60
"""For one run, on a machine that does other things too."""


@dataclass
class Cron:
    """A provider, a database, and a folder that is not the project's."""

    server: SandboxServer
    folder: Path
    environ: dict[str, str]
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def simulator(self) -> Simulator:
        return self.server.simulator

    @property
    def database_url(self) -> str:
        return self.environ["DATABASE_URL"]

    def sell(self, *, ln_address: str | None = None) -> Invoice:
        """An open invoice, made by a server that has ended since."""
        backend = build_live_backend(self.server.url, self.database_url, self.simulator.clock.now)
        try:
            order = Order(Decimal("12.34"), "usd", None, ln_address)
            return create_invoice(backend.issuer, self.simulator.new_id(), order)
        finally:
            backend.close()

    def pay(self, invoice: Invoice) -> None:
        self.simulator.pay_invoice(invoice.issue.bolt11)

    def state(self, invoice: Invoice) -> str:
        backend = build_live_backend(self.server.url, self.database_url, self.simulator.clock.now)
        try:
            with backend.repository.reading() as tx:
                found = tx.invoices.find(invoice.id)
            assert found is not None
            return found.state
        finally:
            backend.close()

    def start(self, script: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start a worker; it is ended with the test."""
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "workers" / script), *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a worker to its end."""
        process = self.start(script, *arguments, **environ)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def cron(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cron]:
    """A provider whose clock is CLOCK_BEHIND_SECONDS (of the test's module) behind until `advance` moves it.

    The workers live by the real clock: one that differs from the provider's is trouble.
    """
    clock = VirtualClock(datetime.now(UTC) - timedelta(seconds=getattr(request.module, "CLOCK_BEHIND_SECONDS", 0)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with SandboxServer(Simulator(clock=clock)) as server:
        made = Cron(server, elsewhere, environment(server.url, f"sqlite:///{tmp_path}/invoices.sqlite", 1))
        yield made
        made.end()
