"""From nothing to a shop that was notified of a payment, in the two commands of the README."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from lnpay.sandbox.server import wait_until
from tests.sandbox_process import ROOT, RunningSandbox, is_up

INSTALL_SECONDS = 300
PAY_SECONDS = 30
OFFLINE = ("No matching distribution", "Could not find a version", "Temporary failure in name resolution")


class NoPackages(Exception):
    """pip reaches neither a registry nor a cache."""


@dataclass(frozen=True)
class FirstSale:
    """How long it took, and what it left on the disk."""

    seconds: float
    databases: tuple[str, ...]
    """Every SQLite file that there is then, from the folder on."""


def first_sale(folder: Path) -> FirstSale:
    """Clone into `folder` (which must not exist), start the sandbox, sell, pay, and see the shop notified.

    Raises NoPackages; AssertionError with what was printed when anything else goes wrong.
    """
    port = _port_for_later()
    sandbox = RunningSandbox(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    clean = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "MAKEFLAGS", "PYTHONPATH")
    }
    log = folder.parent / "log.txt"
    started = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60)  # noqa: S607
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "sandbox"], cwd=folder, env={**clean, "PORT": str(port)},  # noqa: S607
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: make.poll() is not None or is_up(f"{sandbox.url}/healthz"), INSTALL_SECONDS)
        said = log.read_text("utf-8", "replace")
        if any(words in said for words in OFFLINE):
            raise NoPackages(said)
        assert make.poll() is None, said
        assert is_up(sandbox.url), said
        sell_and_pay(sandbox)
        seconds = time.monotonic() - started
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGTERM)
        try:
            make.wait(60)
        except subprocess.TimeoutExpired:  # how a sandbox ends is not what is measured here
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()
    databases = tuple(sorted(str(path.relative_to(folder)) for path in folder.parent.rglob("*.sqlite")))
    return FirstSale(seconds, databases)


def sell_and_pay(sandbox: RunningSandbox) -> None:
    """Order something, pay it, and wait until the shop is notified."""
    answer = requests.post(f"{sandbox.url}/generate-invoice", json={"amount_fiat": "12.50"}, timeout=30)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    sandbox.pay(data["quote"]["lnInvoice"])
    url = f"{sandbox.url}/invoices/{data['invoice']['invoiceId']}"

    def is_notified() -> bool:
        return bool((requests.get(url, timeout=5).json()["delivery"] or {}).get("state") == "delivered")

    assert wait_until(is_notified, PAY_SECONDS)


def _port_for_later() -> int:
    """The first of two ports that are free, and that no outgoing connection is given while packages are installed."""
    while True:
        first = random.randrange(10_240, 30_000)
        ports = ("127.0.0.1", first), ("127.0.0.1", first + 1)
        with suppress(OSError), socket.create_server(ports[0]), socket.create_server(ports[1]):
            return first
