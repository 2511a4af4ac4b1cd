"""Secrets stay secret: the entire output of a day's processes is searched for them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lnpay.sandbox import SandboxServer, Simulator
from lnpay.sandbox.server import wait_until
from tests.scenarios.live import ROOT, environment, main_process

SECRETS = {
    "STRIKE_API_KEY": "strike-key-that-stays-secret",
    "WEBHOOK_SECRET": "webhook-secret-stays-secret",
    "WEBHOOK_SECRET_OLD": "old-webhook-secret-stays-secret",
    "DELIVERY_SECRET": "whsec_bm9ib2R5LXNlZXMtdGhpcy1zZWNyZXQtb2YtdGhlLXNob3A=",
    "API_KEYS": "api-key-of-the-shop-stays-secret",
    "ADMIN_PASSWORD": "password-of-the-operator-stays-secret",
    "METRICS_TOKEN": "token-of-the-figures-stays-secret",
    "COINGECKO_API_KEY": "coingecko-key-stays-secret",
}
BEARER = {"Authorization": f"Bearer {SECRETS['API_KEYS']}"}

PROGRAMS = (
    ("workers/main_worker.py",),
    ("workers/expired_worker.py",),
    ("workers/refund_failure_worker.py",),
    ("main.py", "doctor"),
    ("main.py", "doctor", "--json"),
    ("main.py", "report", "--reconcile"),
    ("main.py", "refunds", "list"),
    ("webhook_settings.py", "list"),
    ("webhook_settings.py", "test"),
)


class Shop:
    """One LNPay in real processes, and all their output."""

    def __init__(self, provider: SandboxServer, url: str, settings: dict[str, str], folder: Path) -> None:
        self.provider = provider
        self.url = url
        self._settings = settings
        self.folder = folder
        self.heard: list[str] = []
        self._browser = requests.Session()

    def run(self, *arguments: str) -> None:
        """Run a program of ours."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self._settings, capture_output=True, timeout=60
        )
        said = (done.stdout + done.stderr).decode()
        assert said.strip()
        self.heard.append(said)

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        """Ask over HTTP, as a browser that keeps its session."""
        answer = self._browser.request(method, self.url + path, timeout=30, **options)  # type: ignore[arg-type]
        self.heard.append(f"{answer.headers}\n{answer.text}")
        return answer

    def sell(self, **fields: str) -> dict[str, dict[str, str]]:
        """An order of the shop."""
        answer = self.ask("POST", "/generate-invoice", headers=BEARER, json={"amount_fiat": "1.20", **fields})
        assert answer.status_code == 200, answer.text
        sold: dict[str, dict[str, str]] = answer.json()["data"]
        return sold

    def pay(self, sold: dict[str, dict[str, str]], late_seconds: float = 0) -> None:
        """The customer pays, and LNPay learns of it by the webhook."""
        self.provider.simulator.pay_invoice(sold["quote"]["lnInvoice"], late_seconds=late_seconds)
        invoice = f"/invoices/{sold['invoice']['invoiceId']}"
        assert wait_until(lambda: self.ask("GET", invoice, headers=BEARER).json()["state"] != "unpaid", 20)


def live_through_a_day(shop: Shop) -> None:
    """Payments in time and late, unauthorised callers at every route, a failing shop, and every page and command."""
    shop.run("webhook_settings.py", "subscribe")
    shop.pay(shop.sell())
    shop.provider.simulator.shop.answer_with(500, 1)
    shop.pay(shop.sell(ln_address="alice@wallet.example"), late_seconds=600)
    shop.pay(shop.sell(ln_address="no address"), late_seconds=600)
    for header in ({}, {"Authorization": "Bearer of a stranger"}):
        assert shop.ask("POST", "/generate-invoice", json={"amount_fiat": "1"}, headers=header).status_code == 401
        assert shop.ask("GET", "/metrics", headers=header).status_code == 401
    assert shop.ask("POST", "/webhook", data=b"{}", headers={"X-Webhook-Signature": "0" * 64}).status_code == 401
    for path in ("/", "/docs", "/openapi.json", "/readyz", "/lnpay.js", "/checkout/none", "/refund/none"):
        shop.ask("GET", path)
    assert shop.ask("GET", "/metrics", headers={"Authorization": f"Bearer {SECRETS['METRICS_TOKEN']}"}).ok
    look_at_the_operators_pages(shop)
    for program in PROGRAMS:
        shop.run(*program)
    shop.run("main.py", "backup", str(shop.folder / "backup.sqlite"))


def look_at_the_operators_pages(shop: Shop) -> None:
    """Log in, after a wrong password, and follow every link."""
    assert shop.ask("POST", "/admin/login", data={"password": "a wrong one"}).status_code == 401
    assert shop.ask("POST", "/admin/login", data={"password": SECRETS["ADMIN_PASSWORD"]}).ok
    seen: set[str] = set()
    waiting = ["/admin", "/admin/invoices"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        text = shop.ask("GET", page).text
        found = re.findall(r'href="[./]*((?:admin/)?invoices/[0-9a-f-]{36})"', text)
        waiting += [path for one in found if (path := "/admin/" + one.removeprefix("admin/")) not in {*seen, *waiting}]
    assert len(seen) == 2 + 3


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_said_anywhere_in_a_whole_day(tmp_path: Path, log_format: str) -> None:
    database_url, log = f"sqlite:///{tmp_path}/invoices.sqlite", tmp_path / "log"
    changes = {**SECRETS, "LOG_LEVEL": "debug", "LOG_FORMAT": log_format, "TIME_OFFSET": "60"}
    with SandboxServer(Simulator()) as provider, main_process(provider.url, database_url, log, **changes) as url:
        settings = environment(provider.url, database_url, int(url.rpartition(":")[2]), **changes)
        shop = Shop(provider, url, settings, tmp_path)
        live_through_a_day(shop)

    said = "\n".join([*shop.heard, log.read_text()])
    backup = (tmp_path / "backup.sqlite").read_bytes()
    assert "invoice issued" in said
    for name, secret in SECRETS.items():
        # DELIVERY_SECRET is known by what follows its prefix, too.
        for part in {secret, secret.removeprefix("whsec_")}:
            assert part not in said, name
            assert part.encode() not in backup, name
