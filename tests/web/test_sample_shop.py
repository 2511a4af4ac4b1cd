"""An early shop, over real HTTP: it knows four fields of the request, a few of the answer, and one webhook.

It is written after the public sample shop's contract: the customer's page posts an order to the shop; the shop posts it
on, shows the picture, amount and time of the answer, and asks itself whether its webhook was called for the invoice.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import zxingcpp
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from PIL import Image
from werkzeug.serving import make_server

from lnpay.sandbox.server import wait_until
from tests.sandbox_process import RunningSandbox, running_sandbox

ORDER = {
    "amount_fiat": "12.34",
    "ln_address": "customer@wallet.example",
    "description": "Two coffees",
    "correlation_id": "order-1042",
}


class OldShop:
    """The shop. `backend` is where it posts its orders; `is_paid` is what its webhook has learnt."""

    def __init__(self) -> None:
        self.backend = ""
        self.is_paid: dict[str, bool] = {}
        self.calls: list[str | None] = []
        self.app = Flask("old_shop")
        self.app.post("/submit")(self.submit)
        self.app.post("/webhook")(self.webhook)
        self.app.get("/check_payment_status")(self.check)
        self._server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def submit(self) -> ResponseReturnValue:
        """Take an order from the customer's page and pass it on as it is."""
        answer = requests.post(f"{self.backend}/generate-invoice", json=request.get_json(), timeout=30).json()
        if "data" not in answer:
            return jsonify(message="Invalid API response", status="error"), 500
        data = answer["data"]
        self.is_paid[data["quote"]["lnInvoice"]] = False
        return jsonify(
            time=data["expiration_time"],
            amount_btc=data["quote"]["sourceAmount"]["amount"],
            qr_code=data["qr_code"],
            invoice=data["quote"]["lnInvoice"],
        )

    def webhook(self) -> ResponseReturnValue:
        """Trust what is posted, like the sample."""
        told = request.get_json()
        if not told or "invoice" not in told:
            return jsonify(status="error"), 400
        self.calls.append(request.headers.get("webhook-id"))
        if told.get("status") == "success":
            self.is_paid[told["invoice"]] = True
        return jsonify(status="success")

    def check(self) -> ResponseReturnValue:
        """Answer what the customer's page polls every few seconds."""
        return jsonify(success=self.is_paid.get(request.args["invoice"], False))

    def order(self, **changes: str) -> requests.Response:
        """What the customer's page does."""
        return requests.post(f"{self.url}/submit", json={**ORDER, **changes}, timeout=30)

    def shows_paid(self, invoice: str) -> bool:
        """What the customer's page sees."""
        answer = requests.get(f"{self.url}/check_payment_status", params={"invoice": invoice}, timeout=30)
        return bool(answer.json()["success"])

    def close(self) -> None:
        """Shut the shop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def shop() -> Iterator[OldShop]:
    made = OldShop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def sandbox(shop: OldShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(folder, DELIVERY_URL=f"{shop.url}/webhook") as running:
        shop.backend = running.url
        yield running


def test_an_order_is_shown_paid_and_told(shop: OldShop, sandbox: RunningSandbox) -> None:
    shown = shop.order().json()
    picture = Image.open(io.BytesIO(base64.b64decode(shown["qr_code"])))
    (code,) = zxingcpp.read_barcodes(picture)
    assert code.text.lower().removeprefix("lightning:") == shown["invoice"]
    assert float(shown["amount_btc"]) > 0
    assert shown["time"].endswith("+00:00")
    assert not shop.shows_paid(shown["invoice"])

    sandbox.pay(shown["invoice"])

    assert wait_until(lambda: shop.shows_paid(shown["invoice"]), 30)
    assert len(shop.calls) == 1


def test_a_late_payment_is_never_told_as_paid(shop: OldShop, sandbox: RunningSandbox) -> None:
    shown = shop.order(correlation_id="order-late").json()

    sandbox.pay(shown["invoice"], late=True)

    def is_refunded() -> bool:
        return bool(requests.get(f"{sandbox.world}/_control/ledger", timeout=30).json()["sent_sats"])

    assert wait_until(is_refunded, 60)
    assert not shop.shows_paid(shown["invoice"])


def test_the_placeholder_address_of_the_first_version_prevents_no_sale(shop: OldShop, sandbox: RunningSandbox) -> None:
    shown = shop.order(correlation_id="order-placeholder", ln_address="refund ln address here")

    assert shown.status_code == 200


def test_an_invalid_amount_is_an_error_that_the_shop_can_show(shop: OldShop, sandbox: RunningSandbox) -> None:
    assert shop.order(correlation_id="order-bad", amount_fiat="-1").status_code == 500
