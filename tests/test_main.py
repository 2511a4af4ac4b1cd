"""main.py as a process of its own: how it ends, and what runs inside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from lnpay.access.api_keys import create_key
from lnpay.domain.permissions import KeyPurpose
from lnpay.domain.states import DeliveryState
from lnpay.repository import Repository
from lnpay.sandbox import SandboxServer, Simulator
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.server import wait_until
from tests.scenarios.live import ROOT, ask, environment, free_port, is_up, subscribe

LIMIT_SECONDS = 60
"""For a start or an end, on a machine that does other things too."""


class Running:
    """`python main.py` beside a simulated provider."""

    def __init__(
        self, server: SandboxServer, folder: Path, arguments: tuple[str, ...], changes: dict[str, str]
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.server = server
        self.database_url = f"sqlite:///{folder}/invoices.sqlite"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            cwd=folder,
            env=environment(server.url, self.database_url, port, **changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert wait_until(lambda: self.process.poll() is not None or is_up(self.url), LIMIT_SECONDS)

    @property
    def simulator(self) -> Simulator:
        return self.server.simulator

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Ask it to end. Gives its exit code, output and errors."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, out, err


@contextmanager
def running(folder: Path, *arguments: str, **changes: str) -> Iterator[Running]:
    with SandboxServer(Simulator()) as server:
        main = Running(server, folder, arguments, changes)
        try:
            yield main
        finally:
            if main.process.poll() is None:
                os.kill(main.process.pid, signal.SIGKILL)
                main.process.communicate()


def sell_and_pay(main: Running) -> str:
    """Sell something, pay for it, and give Strike's id of the invoice."""
    answer = ask(main.url)
    assert answer.ok, answer.text
    data = answer.json()["data"]
    main.simulator.pay_invoice(data["quote"]["lnInvoice"])
    return str(data["invoice"]["invoiceId"])


def state(main: Running, invoice_id: str) -> dict[str, Any]:
    return dict(requests.get(f"{main.url}/invoices/{invoice_id}", timeout=10).json())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_in_order(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path) as main:
        code, out, err = main.end(how)

    assert (code, out) == (0, f"LNPay listens on {main.url} (Ctrl-C to stop)\n")
    assert "Traceback" not in err


def test_a_request_in_hand_is_answered_before_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as main:
        main.simulator.faults.add(Fault("POST", "/v1/invoices/*/quote", "delay_after", seconds=1))
        answers: list[int] = []
        customer = threading.Thread(target=lambda: answers.append(ask(main.url).status_code))
        customer.start()
        assert wait_until(lambda: main.simulator.invoices.by_id)

        code, _, err = main.end()
        customer.join()

    assert (answers, code) == ([200], 0), err


def test_a_message_in_hand_is_finished_before_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as main:
        subscribe(main.server, main.url)
        main.simulator.faults.add(Fault("POST", "/shop/webhook", "delay_after", seconds=1))
        invoice_id = sell_and_pay(main)
        assert wait_until(lambda: main.simulator.shop.deliveries)

        code, _, err = main.end()

    repository = Repository(main.database_url)
    with repository.reading() as tx:
        invoice = tx.invoices.find_by_strike_id(invoice_id)
        assert invoice is not None
        (delivery,) = tx.deliveries.of_invoice(invoice.id)
    repository.close()
    assert (delivery.state, delivery.attempts, code) == (DeliveryState.DELIVERED, 1, 0), err


def test_with_workers_inside_no_webhook_is_needed(tmp_path: Path) -> None:
    with running(tmp_path, "--with-workers") as main:
        invoice_id = sell_and_pay(main)

        assert wait_until(lambda: main.simulator.shop.accepted(), LIMIT_SECONDS)
        assert state(main, invoice_id)["state"] == "settled"
        assert main.end()[0] == 0


def test_with_a_webhook_no_worker_is_needed(tmp_path: Path) -> None:
    with running(tmp_path) as main:
        subscribe(main.server, main.url)
        invoice_id = sell_and_pay(main)

        assert wait_until(lambda: main.simulator.shop.accepted(), LIMIT_SECONDS)
        assert state(main, invoice_id)["state"] == "settled"


def test_a_restart_finds_what_was_owed(tmp_path: Path) -> None:
    with running(tmp_path) as main:
        subscribe(main.server, main.url)
        main.simulator.shop.answer_with(500, 1)
        sell_and_pay(main)
        assert wait_until(lambda: main.simulator.shop.deliveries)
        os.kill(main.process.pid, signal.SIGKILL)
        main.process.communicate()

        again = Running(main.server, tmp_path, (), {})

        assert wait_until(lambda: main.simulator.shop.accepted(), LIMIT_SECONDS)
        again.end()


@pytest.mark.parametrize(
    ("changes", "is_open"),
    [
        ({"HOST": "0.0.0.0"}, True),  # noqa: S104
        ({"WEBHOOK_URL": "https://pay.shop.example/webhook"}, True),
        ({"HOST": "0.0.0.0", "API_KEYS": "a-key-of-the-tests-for-shops"}, False),  # noqa: S104
        ({}, False),
    ],
)
def test_a_start_that_lets_strangers_make_invoices_says_so(
    tmp_path: Path, changes: dict[str, str], is_open: bool
) -> None:
    with running(tmp_path, **changes) as main:
        _, _, err = main.end()

    assert ("ANYONE CAN CREATE INVOICES FOR YOUR ORDERS" in err) is is_open


def test_a_start_with_a_key_in_the_database_warns_of_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as main:
        main.end()
    repository = Repository(f"sqlite:///{tmp_path}/invoices.sqlite")
    create_key(repository, KeyPurpose.CUSTOM, "My shop", datetime.now(UTC))
    repository.close()

    with running(tmp_path, HOST="0.0.0.0") as main:  # noqa: S104
        _, _, err = main.end()

    assert "ANYONE CAN CREATE INVOICES" not in err


def test_no_secret_is_in_what_it_says(tmp_path: Path) -> None:
    with running(tmp_path, LOG_LEVEL="debug", API_KEYS="an-api-key-of-the-tests") as main:
        main.simulator.config.api_keys = {"another": ["*"]}
        headers = {"Authorization": "Bearer an-api-key-of-the-tests"}
        requests.post(f"{main.url}/generate-invoice", json={"amount_fiat": "1"}, headers=headers, timeout=20)
        ask(main.url)
        requests.post(f"{main.url}/webhook", data="{}", headers={"X-Webhook-Signature": "0" * 64}, timeout=20)

        _, out, err = main.end()

    secrets = ("an-api-key-of-the-tests", "a-key-of-the-tests", "a-secret-of-the-tests")
    assert not [secret for secret in secrets if secret in out + err]
