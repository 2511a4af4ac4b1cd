"""python main.py report as a process: over a real network, on a terminal, and into a pipe that closes early."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from bench.million import fill
from lnpay.domain.model import Order
from lnpay.invoices.create import create_invoice
from lnpay.invoices.settle import reconcile_invoice
from lnpay.sandbox import SandboxServer, Simulator, VirtualClock
from tests.scenarios.live import ROOT, build_live_backend, environment

pty = pytest.importorskip("pty", reason="there are no such terminals on Windows")

COUNT = 3_000
UNTIL = datetime(2026, 11, 23, tzinfo=UTC)
REPORT = (sys.executable, str(ROOT / "main.py"), "report", "--from", "2025-11-01", "--to", "2026-11-30")
LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a shop after a year; Strike is away."""
    url = f"sqlite:///{tmp_path_factory.mktemp('shop') / 'invoices.sqlite'}"
    fill(url, COUNT, until=UNTIL)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE invoices SET correlation_id = correlation_id || '-of-a-shop-of-many-words'")
    return environment("http://127.0.0.1:1", url, 1)


def test_a_sale_is_compared_over_a_real_network(tmp_path: Path) -> None:
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
    url = f"sqlite:///{tmp_path}/invoices.sqlite"
    with SandboxServer(Simulator(clock=VirtualClock(two_hours_ago))) as server:
        sell(server, url)

        days = ("--from", str(two_hours_ago.date()))
        command = [sys.executable, str(ROOT / "main.py"), "report", *days]
        ended = subprocess.run(
            command, env=environment(server.url, url, 1), capture_output=True, text=True, timeout=LIMIT_SECONDS
        )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 payment and 0 refunds" in ended.stdout
    assert ended.stdout.endswith("Books balance.\n")


def sell(server: SandboxServer, database_url: str) -> None:
    """An order that is paid in time, in a server that has ended since."""
    simulator = server.simulator
    backend = build_live_backend(server.url, database_url, simulator.clock.now)
    invoice = create_invoice(backend.issuer, simulator.new_id(), Order(Decimal("12.34"), "usd", None, None))
    simulator.pay_invoice(invoice.issue.bolt11)
    reconcile_invoice(backend.settlement, invoice.strike_invoice_id)
    backend.close()


def test_a_reader_who_goes_away_is_no_error(environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*REPORT, "--csv"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("time,kind")

    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(LIMIT_SECONDS), err) == (0, "")


def test_a_terminal_of_80_columns_shows_every_amount_whole(environ: dict[str, str]) -> None:
    text, code = on_terminal([*REPORT, "--no-reconcile"], environ)

    assert code == 0
    assert "reading the database" in text
    shown = [line.split("\r")[-1] for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
    lines = [line for line in shown if line.startswith(" 2025-")]
    assert len(lines) == 50
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert all(re.search(r"order-.*… +-?[0-9]+\.[0-9]{2} (USD|EUR) +-?[0-9,]+ ", line) for line in lines)


def on_terminal(command: list[str], environ: dict[str, str]) -> tuple[str, int]:
    """What a command shows on a terminal of 80 columns, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={**environ, "COLUMNS": "80", "TERM": "xterm"}, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown = b""
    # An OSError is how Linux says that the other side of a terminal is gone.
    with os.fdopen(ours, "rb", buffering=0) as screen, suppress(OSError):
        while piece := screen.read(4096):
            shown += piece
    return shown.decode(), process.wait(LIMIT_SECONDS)
