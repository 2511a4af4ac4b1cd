"""`python main.py --sandbox` for the developer of a shop: where to begin, and a clock that people move."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from standardwebhooks import Webhook

from lnpay.access.api_keys import create_key
from lnpay.domain.permissions import KeyPurpose
from lnpay.repository import Repository
from lnpay.sandbox.server import wait_until
from tests.sandbox_process import ROOT, RunningSandbox, running_sandbox
from tests.world import World

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DAY = 86_400


class Shop:
    """The developer's: it verifies each message by its own clock, as the shop guide says."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = Webhook(SECRET).verify(body.decode(), dict(self.headers))
                shop.orders.append(message["data"]["correlation_id"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/webhook"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def sandbox(folder: Path, shop: Shop) -> Iterator[RunningSandbox]:
    with running_sandbox(folder, DELIVERY_URL=shop.url, DELIVERY_SECRET=SECRET) as running:
        yield running


def sell(sandbox: RunningSandbox, order: str) -> dict[str, str]:
    """Order something. Gives the payment request and the page."""
    answer = requests.post(
        f"{sandbox.url}/generate-invoice", json={"amount_fiat": "12.30", "correlation_id": order}, timeout=30
    )
    data = answer.json()["data"]
    return {"request": data["quote"]["lnInvoice"], "page": data["checkout_url"]}


def test_it_prints_where_to_begin_and_every_address_answers(sandbox: RunningSandbox, folder: Path) -> None:
    said = (folder / "sandbox.log").read_text("utf-8")
    addresses = dict(re.findall(r"^(Tour|Shop|Wallet|Ledger|Faults|API|Admin) +(http://\S+)", said, re.MULTILINE))

    assert list(addresses) == ["Tour", "Shop", "Wallet", "Ledger", "Faults", "API", "Admin"]
    assert addresses["Tour"] == f"{sandbox.world}/"
    assert addresses["Faults"] == f"{sandbox.world}/faults"
    assert addresses["API"] == f"{sandbox.url}/docs"
    for address in addresses.values():
        assert requests.get(address, timeout=30).status_code == 200, address


def test_the_tour_leads_to_the_faults_and_to_the_api(sandbox: RunningSandbox) -> None:
    page = requests.get(f"{sandbox.world}/", timeout=30).text

    assert 'href="/faults"' in page
    assert f'href="{sandbox.url}/docs"' in page


def test_its_payment_page_says_that_no_real_money_moves_and_leads_to_the_wallet(sandbox: RunningSandbox) -> None:
    sold = sell(sandbox, "order-ribbon")

    page = requests.get(sold["page"], timeout=30).text

    assert "Sandbox: no real money." in page
    [wallet] = re.findall(r'href="([^"]+/wallet[^"]*)"', page)
    assert sold["request"] in requests.get(wallet, timeout=30).text


def test_the_commands_work_in_it_with_the_settings_that_its_page_names(sandbox: RunningSandbox, shop: Shop) -> None:
    sandbox.pay(sell(sandbox, "order-refunded")["request"])
    assert wait_until(lambda: "order-refunded" in shop.orders, 30)
    page = (ROOT / "docs" / "sandbox.md").read_text("utf-8")
    [lines] = re.findall(r"```sh\n(export [^`]*refunds list\n)```", page)
    port = int(sandbox.url.rpartition(":")[2])
    for shown, real in (("5000", port), ("5001", port + 1), (".venv/bin/python", sys.executable)):
        lines = lines.replace(shown, str(real))

    def run(command: str) -> str:
        script = ["bash", "-ec", lines.replace("refunds list", command)]
        return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False).stdout

    assert run("refunds create order-refunded --to alice@example.com").startswith("refund of ")
    assert run("redeliver order-refunded").endswith("invoice.settled: delivered\n")
    state = f"{sandbox.url}/invoices?correlation_id=order-refunded"
    assert wait_until(lambda: requests.get(state, timeout=30).json()["refund"]["state"] == "sent", 30)


def test_a_real_payment_page_says_nothing_of_it(world: World) -> None:
    from lnpay.web import create_app

    invoice = world.sell()

    page = create_app(world.backend).test_client().get(f"/checkout/{invoice.token}").get_data(as_text=True)

    assert "sandbox" not in page.lower()


@pytest.mark.parametrize("seconds", [DAY, 30 * DAY])
def test_a_clock_that_moved_does_not_break_the_developers_shop(
    sandbox: RunningSandbox, shop: Shop, seconds: int
) -> None:
    moved = requests.post(f"{sandbox.world}/_control/clock/advance", json={"seconds": seconds}, timeout=30)
    assert moved.status_code == 200
    order = f"order-{seconds}"

    sandbox.pay(sell(sandbox, order)["request"])

    assert wait_until(lambda: order in shop.orders, 30), "the shop refused the signature"


def test_the_demo_shop_sells_although_a_key_was_created(tmp_path: Path) -> None:
    with running_sandbox(tmp_path) as sandbox:
        database = ROOT / f"sandbox-{sandbox.url.rpartition(':')[2]}.sqlite"
        with closing(Repository(f"sqlite:///{database.as_posix()}")) as repository:
            create_key(repository, KeyPurpose.WOOCOMMERCE, "my shop", datetime.now(UTC))
        order = {"amount_fiat": "12.30", "correlation_id": "order-1"}
        assert requests.post(f"{sandbox.url}/generate-invoice", json=order, timeout=30).status_code == 401

        bought = requests.post(f"{sandbox.world}/shop", data={"product": "Stickers", "amount": "4.50"}, timeout=30)

        assert bought.status_code == 200
        assert "/shop/orders/" in bought.url
    for file in ROOT.glob(f"{database.name}*"):
        file.unlink()
