"""A bare client of the simulated services: what a test says to them, over any transport."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import requests

from lnpay.sandbox import Simulator

SECRET = "a secret of the tests"
TIMEOUT_SECONDS = 5


@dataclass
class Client:
    """Calls a simulator at `url`; `simulator` is there to look behind the curtain."""

    simulator: Simulator
    session: requests.Session
    url: str
    key: str = field(default="any key")

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Any request."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        options.setdefault("timeout", TIMEOUT_SECONDS)
        return self.session.request(method, self.url + path, headers=headers, **options)

    def get(self, path: str, **parameters: str) -> requests.Response:
        """GET with query parameters."""
        return self.call("GET", path, params=parameters)

    def control(self, path: str, **body: Any) -> Any:
        """POST to the control API; its answer."""
        answer = self.call("POST", f"/_control{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, sats: int = 51636, **fields: Any) -> requests.Response:
        """POST an invoice in bitcoin."""
        amount = {"amount": f"{sats // 10**8}.{sats % 10**8:08d}", "currency": "BTC"}
        return self.call("POST", "/v1/invoices", json={"amount": amount, **fields})

    def invoice(self, sats: int = 51636, **fields: Any) -> dict[str, Any]:
        """A new invoice."""
        answer = self.ask(sats, **fields)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def quote(self, invoice_id: str, **body: Any) -> dict[str, Any]:
        """A new quote of an invoice."""
        answer = self.call("POST", f"/v1/invoices/{invoice_id}/quote", json=body or None)
        assert answer.status_code == 201, answer.text
        quoted: dict[str, Any] = answer.json()
        return quoted

    def paid_invoice(self, **fields: Any) -> str:
        """The id of an invoice that the wallet has paid."""
        invoice_id = str(self.invoice(**fields)["invoiceId"])
        self.simulator.pay_invoice(self.quote(invoice_id)["lnInvoice"])
        return invoice_id

    def ask_receive_request(self, sats: int | None = 51636, **fields: Any) -> requests.Response:
        """POST a receive request, `fields` in its `bolt11`. sats: None leaves the amount to the payer."""
        bolt11 = {"amount": {"amount": f"{sats / 10**8:.8f}", "currency": "BTC"}, **fields} if sats else fields
        return self.call("POST", "/v1/receive-requests", json={"bolt11": bolt11, "targetCurrency": "BTC"})

    def receive_request(self, sats: int | None = 51636, **fields: Any) -> dict[str, Any]:
        """A new receive request."""
        answer = self.ask_receive_request(sats, **fields)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def receives(self, query: str = "") -> list[dict[str, Any]]:
        """What arrived, for the requests that a query string names."""
        answer = self.call("GET", f"/v1/receive-requests/receives?{query}")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def ask_payment_quote(
        self, address: str = "customer@wallet.example", btc: str = "0.00010000", key: str | None = None, **body: Any
    ) -> requests.Response:
        """POST a payment quote to an address."""
        amount = {"amount": btc, "currency": "BTC"}
        return self.call(
            "POST",
            "/v1/payment-quotes/lightning/lnurl",
            json={"lnAddressOrUrl": address, "sourceCurrency": "BTC", "amount": amount, **body},
            headers={"idempotency-key": key or str(uuid.uuid4())},
        )

    def payment_quote(self, address: str = "customer@wallet.example", **options: Any) -> str:
        """The id of a new payment quote."""
        answer = self.ask_payment_quote(address, **options)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["paymentQuoteId"])

    def execute(self, quote_id: str) -> requests.Response:
        """PATCH execute."""
        return self.call("PATCH", f"/v1/payment-quotes/{quote_id}/execute")

    def subscribe(self, **fields: Any) -> requests.Response:
        """POST a subscription to everything about invoices and payments."""
        types = ["invoice.created", "invoice.updated", "payment.created", "payment.updated"]
        return self.call(
            "POST",
            "/v1/subscriptions",
            json={
                "webhookUrl": "https://shop.example/webhook",
                "webhookVersion": "v1",
                "secret": SECRET,
                "enabled": True,
                "eventTypes": types,
                **fields,
            },
        )


def error_of(answer: requests.Response) -> tuple[int, str]:
    """Status and code of an error envelope, which must agree with each other."""
    data = answer.json()["data"]
    assert data["status"] == answer.status_code
    return answer.status_code, data["code"]
