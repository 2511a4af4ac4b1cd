"""Shops with webhook endpoints: what reached each, and what each answers."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lnpay.deliveries.endpoints import create_endpoint
from lnpay.domain.model import WebhookEndpoint
from lnpay.domain.states import EndpointForm, EndpointSetter
from tests.world import World

FOUR = ["InvoiceReceivedPayment", "InvoiceProcessing", "InvoicePaymentSettled", "InvoiceSettled"]
"""The events that a BTCPay plugin receives for an order that is paid in time, in this order."""


@dataclass(frozen=True)
class Call:
    """One message as it arrived, and the status that answered it."""

    url: str
    content: bytes
    headers: Mapping[str, str]
    status: int

    @property
    def body(self) -> dict[str, Any]:
        """The message."""
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed


@dataclass
class EndpointShops:
    """Every endpoint of a world. answers: what a URL answers, by its message; 200 if nothing is said."""

    calls: list[Call] = field(default_factory=list)
    answers: dict[str, Callable[[dict[str, Any]], int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, url: str, content: bytes, headers: Mapping[str, str]) -> int:
        """Take a message, as World.endpoint."""
        answer = self.answers.get(url)
        status = 200 if answer is None else answer(json.loads(content))
        with self._lock:
            self.calls.append(Call(url, content, dict(headers), status))
        return status

    def accepted(self, url: str) -> list[dict[str, Any]]:
        """The messages that an endpoint has accepted, in order."""
        return [one.body for one in self.calls if one.url == url and 200 <= one.status < 300]

    def types(self, url: str) -> list[str]:
        """Their types."""
        return [one["type"] for one in self.accepted(url)]

    def by_invoice(self, url: str) -> dict[str, list[str]]:
        """The types of what an endpoint of BTCPay's form has accepted, in order, by invoice."""
        found: dict[str, list[str]] = defaultdict(list)
        for body in self.accepted(url):
            found[body["invoiceId"]].append(body["type"])
        return dict(found)


def open_shops(world: World) -> EndpointShops:
    """Let the endpoints of a world be answered."""
    shops = EndpointShops()
    world.endpoint = shops
    return shops


def add_endpoint(
    world: World, url: str = "https://shop.test/hook", form: EndpointForm = EndpointForm.BTCPAY, **more: Any
) -> WebhookEndpoint:
    """An endpoint, set by the operator unless `by` says otherwise."""
    return create_endpoint(world.backend.outbox, url=url, form=form, **{"by": EndpointSetter.OPERATOR, **more})
