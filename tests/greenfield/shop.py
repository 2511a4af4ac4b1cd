"""A shop plugin's view of LNPay: its key, its store, and calls as the plugins' client makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from werkzeug.test import TestResponse

from lnpay.access.api_keys import create_key
from lnpay.domain.model import Invoice
from lnpay.domain.permissions import KeyPurpose, Permissions
from tests.world import World


@dataclass(frozen=True)
class Plugin:
    """A plugin that is connected to the LNPay of a world."""

    world: World
    key: str
    store: str

    @classmethod
    def connect(
        cls, world: World, made_for: KeyPurpose = KeyPurpose.WOOCOMMERCE, permissions: Permissions | None = None
    ) -> Plugin:
        """Create a key and use it."""
        created = create_key(world.backend.repository, made_for, "A shop", world.clock(), permissions=permissions)
        return cls(world, created.secret, created.store_id)

    def call(self, method: str, path: str, body: object = None, *, store: str | None = None) -> TestResponse:
        """A call below /api/v1, with {store} filled in. body: JSON, or JSON text as it is."""
        text = body if isinstance(body, str) else None if body is None else json.dumps(body)
        return self.world.client.open(
            f"/api/v1/{path.replace('{store}', store or self.store)}",
            method=method,
            data=text,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                "Authorization": f"token {self.key}",
            },
        )

    def get(self, path: str) -> Any:
        """The answer to a GET that must succeed, by exactly 200."""
        return self.succeed("GET", path)

    def succeed(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of an answer that must be exactly 200."""
        answer = self.call(method, path, body)
        assert (answer.status_code, answer.mimetype) == (200, "application/json"), answer.text
        return answer.get_json()

    def create(self, **fields: Any) -> Any:
        """A new invoice for 12.34 USD."""
        return self.succeed("POST", "stores/{store}/invoices", {"amount": "12.34", "currency": "USD", **fields})

    def read(self, invoice: Any) -> Any:
        """The same invoice as it is now."""
        return self.get(f"stores/{{store}}/invoices/{invoice['id']}")

    def row(self, invoice: Any) -> Invoice:
        """Our row of an invoice."""
        return self.world.invoice(invoice["id"])

    def pay(self, invoice: Any, *, late_seconds: float = 0) -> None:
        """The customer pays."""
        self.world.pay(self.row(invoice), late_seconds=late_seconds)


def is_settled(invoice: Any) -> bool:
    """Whether the plugins' client takes an invoice for paid: also `Expired`, when it was paid late."""
    words = (invoice["status"], invoice["additionalStatus"])
    return words[0] == "Settled" or words == ("Expired", "PaidLate")
