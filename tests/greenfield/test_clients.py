"""Unchanged clients of BTCPay Server's API, from npm and PyPI, against a real server and the simulated Strike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import btcpay
import pytest
from requests import HTTPError

from lnpay.access.api_keys import create_key, revoke_key
from lnpay.domain.permissions import KeyPurpose, Permission
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import expired_pass, main_pass
from lnpay.sandbox import SandboxServer
from lnpay.sandbox.server import wait_until
from lnpay.sandbox.simulator import Simulator
from tests.endpoint_shop import FOUR
from tests.greenfield.shop import is_settled
from tests.scenarios.live import build_live_backend, serving, subscribe
from tests.world import empty_database

NODE = Path(__file__).parent / "node"


@dataclass
class Stand:
    """LNPay at `url` with a simulated Strike behind it, and the key of a shop."""

    url: str
    backend: Backend
    simulator: Simulator
    key: str
    key_id: int
    store: str

    def pay(self, invoice: Any) -> None:
        """The customer's wallet pays."""
        with self.backend.repository.reading() as tx:
            row = tx.invoices.find_by_strike_id(invoice["id"])
        assert row is not None
        self.simulator.pay_invoice(row.issue.bolt11)

    def work(self) -> None:
        """What cron does."""
        main_pass(self.backend)
        expired_pass(self.backend)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with ExitStack() as stack:
        simulator = Simulator(seed=1)
        provider = stack.enter_context(SandboxServer(simulator))
        database = tmp_path / "shop.sqlite"
        database.write_bytes(empty_database())
        backend = build_live_backend(
            provider.url, f"sqlite:///{database}", simulator.clock.now, webhook_allow_private=True
        )
        url = stack.enter_context(serving(backend))
        subscribe(provider, url)
        created = create_key(backend.repository, KeyPurpose.WOOCOMMERCE, "A shop", backend.clock())
        yield Stand(url, backend, simulator, created.secret, created.key.id, created.store_id)


@pytest.fixture
def heard() -> Iterator[tuple[str, list[str]]]:
    """A shop's address, and the types of the events that it has taken."""
    types: list[str] = []

    class Shop(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take an event."""
            types.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["type"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", types
        server.shutdown()


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client, installed as its lock file says."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "drive.js"):
        shutil.copy(NODE / name, folder)
    npm = shutil.which("npm")
    command = [npm or "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    if npm is None or subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("npm cannot install the client here, so it is not tested")
    return folder


@dataclass(frozen=True)
class Node:
    """The npm client, connected."""

    stand: Stand
    folder: Path

    def run(self, service: str, name: str, **argument: Any) -> Any:
        """Call one of its functions. Gives {"value"} or {"error"}."""
        ended = subprocess.run(
            ["node", "drive.js", service, name, json.dumps({"storeId": self.stand.store, **argument})],  # noqa: S607
            cwd=self.folder,
            env={**os.environ, "LNPAY_URL": self.stand.url, "LNPAY_KEY": self.stand.key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def call(self, service: str, name: str, **argument: Any) -> Any:
        """The value of a call that must succeed."""
        answer = self.run(service, name, **argument)
        assert "value" in answer, answer
        return answer["value"]


@pytest.fixture
def node(stand: Stand, node_folder: Path) -> Node:
    return Node(stand, node_folder)


class TestNode:
    def test_it_sells_from_the_first_question_to_the_last_event(self, node: Node, heard: tuple[str, list[str]]) -> None:
        url, types = heard
        assert node.call("HealthService", "healthGetHealth") == {"synchronized": True}
        assert node.call("ServerInfoService", "serverInfoGetServerInfo")["fullySynched"] is True
        key = node.call("ApiKeysService", "getApiKeysService")
        assert {one.partition(":")[2] for one in key["permissions"]} == {node.stand.store}
        assert [one["id"] for one in node.call("StoresService", "storesGetStores")] == [node.stand.store]

        webhook = node.call("WebhooksService", "postWebhooksService", requestBody={"url": url, "secret": "s" * 48})
        assert webhook["secret"] == "s" * 48
        made = node.call(
            "InvoicesService",
            "invoicesCreateInvoice",
            requestBody={"amount": "12.34", "currency": "USD", "metadata": {"orderId": "1042", "n": [1.5, None]}},
        )
        read = {"invoiceId": made["id"]}
        assert node.call("InvoicesService", "invoicesGetInvoice", **read)["status"] == "New"
        assert made["metadata"] == {"orderId": "1042", "n": [1.5, None]}

        node.stand.pay(made)
        assert wait_until(lambda: types[-1:] == ["InvoiceSettled"], 30), types

        paid = node.call("InvoicesService", "invoicesGetInvoice", **read)
        assert is_settled(paid)
        assert types == ["InvoiceCreated", *FOUR]
        assert node.call("InvoicesService", "invoicesGetInvoices") == [paid]
        (method,) = node.call("InvoicesService", "invoicesGetInvoicePaymentMethods", **read)
        assert [one["status"] for one in method["payments"]] == ["Settled"]

    def test_it_has_a_message_sent_again(self, node: Node, heard: tuple[str, list[str]]) -> None:
        url, types = heard
        made = node.call("WebhooksService", "postWebhooksService", requestBody={"url": url})
        hook = {"webhookId": made["id"]}
        sold = node.call("InvoicesService", "invoicesCreateInvoice", requestBody={"amount": "1", "currency": "USD"})
        assert wait_until(lambda: types == ["InvoiceCreated"], 30), types

        (first,) = node.call("WebhooksService", "getWebhooksService", **hook, count="1")
        one = {**hook, "deliveryId": first["id"]}
        assert (first["status"], first["httpCode"], first["errorMessage"]) == ("HttpSuccess", 200, None)
        assert node.call("WebhooksService", "getWebhooksService1", **one) == first
        new_id = node.call("WebhooksService", "postWebhooksService1", **one)
        assert wait_until(lambda: types == ["InvoiceCreated"] * 2, 30), types

        said = node.call("WebhooksService", "getWebhooksService2", **hook, deliveryId=new_id)
        assert (said["deliveryId"], said["originalDeliveryId"], said["isRedelivery"]) == (new_id, first["id"], True)
        assert said["invoiceId"] == sold["id"]
        lost = node.run("WebhooksService", "postWebhooksService1", **hook, deliveryId="unknown")["error"]
        assert (lost["status"], lost["body"]["code"]) == (404, "webhookdelivery-not-found")

    def test_it_changes_and_removes_webhooks(self, node: Node, heard: tuple[str, list[str]]) -> None:
        url, _ = heard
        made = node.call("WebhooksService", "postWebhooksService", requestBody={"url": url})
        one = {"webhookId": made["id"]}

        changed = node.call("WebhooksService", "putWebhooksService", **one, requestBody={"url": url, "enabled": False})

        assert changed["enabled"] is False
        assert "secret" not in changed
        assert node.call("WebhooksService", "webhokksGetWebhooks") == [changed]
        assert node.call("WebhooksService", "webhokksGetWebhook", **one) == changed
        node.call("WebhooksService", "deleteWebhooksService", **one, requestBody={})
        assert node.run("WebhooksService", "webhokksGetWebhook", **one)["error"]["status"] == 404

    def test_it_marks_an_invoice_invalid_and_changes_its_metadata(self, node: Node) -> None:
        made = node.call("InvoicesService", "invoicesCreateInvoice", requestBody={"amount": "1", "currency": "USD"})
        one = {"invoiceId": made["id"]}

        changed = node.call("InvoicesService", "invoicesUpdateInvoice", **one, requestBody={"metadata": {"orderId": 7}})
        marked = node.call("InvoicesService", "invoicesMarkInvoiceStatus", **one, requestBody={"status": "Invalid"})

        assert changed["metadata"] == {"orderId": 7}
        assert (marked["status"], marked["additionalStatus"]) == ("Invalid", "Marked")

    def test_it_is_refused_as_it_expects(self, node: Node) -> None:
        wrong = node.run("InvoicesService", "invoicesCreateInvoice", requestBody={"amount": "0", "currency": "USD"})
        foreign = node.run("StoresService", "storesGetStore", storeId="another")
        revoke_key(node.stand.backend.repository, node.stand.key_id, node.stand.backend.clock())
        revoked = node.run("StoresService", "storesGetStores")

        assert [(one["error"]["status"]) for one in (wrong, foreign, revoked)] == [422, 403, 401]
        assert wrong["error"]["body"][0]["path"] == "amount"
        assert foreign["error"]["body"]["missingPermission"] == Permission.VIEW_STORE_SETTINGS

    def test_a_late_payment_is_never_settled(self, node: Node, heard: tuple[str, list[str]]) -> None:
        url, types = heard
        node.call("WebhooksService", "postWebhooksService", requestBody={"url": url})
        made = node.call("InvoicesService", "invoicesCreateInvoice", requestBody={"amount": "1", "currency": "USD"})
        node.stand.simulator.clock.advance(2_000)
        node.stand.work()
        assert wait_until(lambda: types[-1:] == ["InvoiceExpired"], 30), types

        node.stand.pay(made)
        node.stand.work()

        read = node.call("InvoicesService", "invoicesGetInvoice", invoiceId=made["id"])
        assert not is_settled(read)
        assert (read["status"], read["additionalStatus"]) == ("Expired", "None")
        assert types == ["InvoiceCreated", "InvoiceExpired"]


class TestPython:
    @pytest.fixture(autouse=True)
    def connected(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(btcpay, "api_key", stand.key)
        monkeypatch.setattr(btcpay, "store_id", stand.store)
        monkeypatch.setattr(btcpay, "host_url", f"{stand.url}/")

    def test_it_sells(self, stand: Stand) -> None:
        made = btcpay.Invoices.create_invoice(amount=12.34, currency="USD", metadata={"orderId": "1042"})
        stand.pay(made)
        assert wait_until(lambda: is_settled(btcpay.Invoices.get_invoice(made["id"])), 30)

        (listed,) = btcpay.Invoices.get_invoices()
        (method,) = btcpay.Invoices.get_invoice_payment_methods(made["id"])

        assert (listed["id"], listed["amount"], listed["status"]) == (made["id"], "12.34", "Settled")
        assert method["due"] == "0"

    def test_it_marks_and_changes_an_invoice(self, stand: Stand) -> None:
        made = btcpay.Invoices.create_invoice(amount="1", currency="USD")

        changed = btcpay.Invoices.update_invoice(made["id"], {"metadata": {"a": 1}})
        marked = btcpay.Invoices.mark_invoice_status(made["id"], "invalid")

        assert changed["metadata"] == {"a": 1}
        assert marked["status"] == "Invalid"
        with pytest.raises(HTTPError, match="422"):
            btcpay.Invoices.mark_invoice_status(made["id"], "settled")

    def test_it_is_refused_with_an_unknown_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(btcpay, "api_key", "unknown")

        with pytest.raises(HTTPError, match="401"):
            btcpay.Invoices.get_invoices()
