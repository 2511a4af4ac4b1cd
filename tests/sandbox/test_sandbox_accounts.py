"""Kinds of accounts: one that cannot issue an invoice in bitcoin, in both ways to start a sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from config import sandbox
from lnpay.sandbox.config import ACCOUNTS, SimulatorConfig
from lnpay.sandbox.server import wait_until
from tests.sandbox_process import free_ports, is_up, running_sandbox

ROOT = Path(__file__).resolve().parents[2]
HEADERS = {"Authorization": "Bearer any key"}


def currencies(url: str) -> dict[str, dict[str, Any]]:
    """The rows of the account's profile, by their currency."""
    profile = requests.get(f"{url}/v1/accounts/handle/corner-shop/profile", headers=HEADERS, timeout=30).json()
    return {row["currency"]: row for row in profile["currencies"]}


@pytest.fixture
def simulator_url() -> Iterator[str]:
    """`python -m lnpay.sandbox --account us`."""
    port = free_ports()
    command = [sys.executable, "-m", "lnpay.sandbox", "--port", str(port), "--account", "us"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: is_up(f"http://127.0.0.1:{port}"), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_simulator_alone_has_the_account_that_was_asked_for(simulator_url: str) -> None:
    rows = currencies(simulator_url)

    assert (rows["BTC"]["isAvailable"], rows["BTC"]["isInvoiceable"]) == (True, False)
    assert (rows["USD"]["isDefaultCurrency"], rows["USD"]["isInvoiceable"]) == (True, True)
    assert not rows["EUR"]["isAvailable"]


def test_lnpay_with_the_sandbox_has_the_account_of_the_environment(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, SANDBOX_ACCOUNT="us", RECEIVE_WITH="invoice") as running:
        rows = currencies(running.world)
        order = {"amount_fiat": "12.30", "correlation_id": "order-1"}
        refused = requests.post(f"{running.url}/generate-invoice", json=order, timeout=30)

    assert (rows["BTC"]["isInvoiceable"], rows["USD"]["isInvoiceable"]) == (False, True)
    assert (refused.status_code, refused.json()["status"]) == (502, "error")


def test_an_unknown_account_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "--sandbox"]
    environment = {**os.environ, "SANDBOX_ACCOUNT": "swiss", "PORT": str(free_ports(2))}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "SANDBOX_ACCOUNT must be one of bitcoin, us" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_account_is_offered_and_fits_the_simulator() -> None:
    assert tuple(ACCOUNTS) == sandbox.ACCOUNTS
    for changes in ACCOUNTS.values():
        SimulatorConfig().update(changes)
