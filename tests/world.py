"""A whole small world in one process: LNPay, the simulated provider and shop, and a clock that a test moves.

Nothing of ours is replaced: the backend talks to the simulator as over HTTP, and its rows are in a real database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from urllib.parse import unquote

import requests
from flask import Flask
from flask.testing import FlaskClient
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import func, select
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from lnpay.domain.errors import ShopGone, ShopRefused
from lnpay.domain.events import EventType
from lnpay.domain.model import (
    Delivery,
    Event,
    Invoice,
    Refund,
)
from lnpay.domain.settings import Settings
from lnpay.repository import Repository, tables
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.sandbox.clock import VirtualClock
from lnpay.sandbox.config import SimulatorConfig
from lnpay.sandbox.faults import Fault
from lnpay.sandbox.simulator import Simulator
from lnpay.sandbox.transport import WsgiAdapter
from lnpay.web import create_app

WEBHOOK_SECRET = "a-secret-of-the-tests"
BASE_URL = "http://provider.test"
LNPAY_URL = "http://lnpay.test"


class KeptRule(Rule):
    """A route that is compiled once for all apps of the tests: to compile every route takes most of `create_app`.

    What is compiled to build a URL reads everything else from the rule that it is called with.
    """

    _compiled: ClassVar[dict[object, Callable[..., tuple[str, str]]]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (self.rule, tuple(self._trace), tuple(sorted((self.defaults or {}).items())), append_unknown)
        if key not in self._compiled:
            self._compiled[key] = super()._compile_builder(append_unknown)
        return self._compiled[key]


class KeptTemplates(BytecodeCache):
    """A template that is compiled once for all apps of the tests: an app has an environment of its own."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what another app has compiled from the same text."""
        if bucket.key in self._compiled:
            bucket.bytecode_from_string(self._compiled[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what this app has compiled."""
        self._compiled[bucket.key] = bucket.bytecode_to_string()


Flask.url_rule_class = KeptRule
Flask.jinja_options = {"bytecode_cache": KeptTemplates()}
# Every app works out the key of its sessions, which is slow on purpose: here the password is always the same.
hashlib.scrypt = cache(hashlib.scrypt)  # type: ignore[assignment]


@cache
def empty_database() -> bytes:
    """An SQLite file with every table and no row. Copying it takes a tenth of the time of migrating a new one."""
    with TemporaryDirectory() as folder:
        repository = Repository(f"sqlite:///{folder}/empty.sqlite")
        repository.upgrade()
        repository.close()
        return Path(folder, "empty.sqlite").read_bytes()


def world_settings(database_url: str, **changes: Any) -> Settings:
    """Settings of a backend in a test: those of the simulated world, and otherwise the defaults."""
    world = {
        "strike_api_key": "a-key-of-the-tests",
        "strike_api_url": f"{BASE_URL}/v1",
        "webhook_secret": WEBHOOK_SECRET,
        "delivery_url": f"{BASE_URL}/shop/webhook",
        "coingecko_api_url": f"{BASE_URL}/coingecko/api/v3",
        "coinbase_api_url": f"{BASE_URL}/coinbase/v2",
    }
    return Settings(database_url=database_url, **{**world, **changes})


ALL_EVENTS = frozenset(str(event_type) for event_type in EventType)


class RecordingAdapter(WsgiAdapter):
    """A transport that remembers what was asked, in order: "POST /v1/invoices"."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator.wsgi_app, simulator.clock)
        self.calls: list[str] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Answer a request as WsgiAdapter does."""
        self.calls.append(f"{request.method} {unquote(request.path_url)}")
        return super().send(request, *args, **options)


@dataclass
class World:
    """One world. `restart` gives a new process over the same database and the same provider.

    skew_seconds: how far the clock of this LNPay is ahead of the provider's; a change of it is a step of that clock.
    """

    database_url: str
    simulator: Simulator
    changes: dict[str, Any] = field(default_factory=dict)
    skew_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.adapter = RecordingAdapter(self.simulator)
        self.session.mount(BASE_URL, self.adapter)
        self.deliver: Callable[[Event], None] = self.post_to_shop
        self.endpoint: Callable[[str, bytes, Mapping[str, str]], int] = lambda *_: 200
        self.neighbours: list[Backend] = []
        self.restart()

    @classmethod
    def make(cls, folder: Path, *, seed: int = 1, config: SimulatorConfig | None = None, **changes: Any) -> World:
        """A world over a new SQLite file in `folder`; `changes` are settings."""
        simulator = Simulator(clock=VirtualClock(running=False), seed=seed, config=config)
        url = changes.pop("database_url", None)
        if url is None:
            url = f"sqlite:///{folder}/invoices.sqlite"
            Path(folder, "invoices.sqlite").write_bytes(empty_database())
        return cls(url, simulator, changes)

    def restart(self, **changes: Any) -> None:
        """Forget everything that was in memory, as after a crash; `changes` are settings."""
        self.changes.update(changes)
        if hasattr(self, "backend"):
            self.backend.close()
        self.backend: Backend = self._process(self.clock)
        self.client: FlaskClient = create_app(self.backend).test_client()

    def clock(self) -> datetime:
        """The clock of the machine that this LNPay runs on."""
        return self.simulator.clock.now() + timedelta(seconds=self.skew_seconds)

    def neighbour(self, *, skew_seconds: float) -> Backend:
        """One more process over the same database, on a machine whose clock is so far ahead of the provider's."""
        skew = timedelta(seconds=skew_seconds)
        self.neighbours.append(self._process(lambda: self.simulator.clock.now() + skew))
        return self.neighbours[-1]

    def _process(self, clock: Callable[[], datetime]) -> Backend:
        return build_backend(
            world_settings(self.database_url, **self.changes),
            lambda event: self.deliver(event),
            clock=clock,
            steady=lambda: self.simulator.clock.now().timestamp(),
            session=self.session,
            run_in_background=lambda task: task(),
            post=lambda *sent: self.post_to_endpoint(*sent),
        )

    def post_to_endpoint(self, url: str, content: bytes, headers: Mapping[str, str], is_public_only: bool) -> int:
        """What calling a webhook endpoint does, without a network. A test replaces `endpoint` with its own shop."""
        return self.endpoint(url, content, headers)

    def post_to_shop(self, event: Event) -> None:
        """What config/delivery.py does, without a network."""
        try:
            answer = self.session.post(event.url, data=event.content, headers=event.headers, timeout=15)
        except requests.RequestException as error:
            raise ShopRefused("the shop could not be reached") from error
        if answer.status_code == 410:
            raise ShopGone("the shop answered 410")
        if not 200 <= answer.status_code < 300:
            raise ShopRefused(f"the shop answered {answer.status_code}")

    def ask(self, **fields: Any) -> TestResponse:
        """POST /generate-invoice for 12.34 in the shop's currency, with `fields` changed or added."""
        return self.client.post("/generate-invoice", json={"amount_fiat": "12.34", **fields})

    def sell(self, **fields: Any) -> Invoice:
        """An open invoice, as `ask` makes it."""
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        return self.invoice(answer.get_json()["data"]["invoice"]["invoiceId"])

    def invoice(self, strike_invoice_id: str) -> Invoice:
        """Our row of an invoice as it is now."""
        with self.backend.repository.reading() as tx:
            invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        assert invoice is not None
        return invoice

    def deliveries(self, invoice: Invoice) -> list[Delivery]:
        """Every message that the shop is or was owed about an invoice."""
        with self.backend.repository.reading() as tx:
            return tx.deliveries.of_invoice(invoice.id)

    def refund(self, invoice: Invoice) -> Refund | None:
        """Our row of what is owed back for an invoice."""
        with self.backend.repository.reading() as tx:
            return tx.refunds.find_by_invoice(invoice.id)

    def count_rows(self) -> int:
        """Rows of orders, refunds and messages in the database."""
        with self.backend.repository.engine.connect() as connection:
            counted = (tables.invoices, tables.refunds, tables.deliveries)
            return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in counted)

    def fault(self, method: str, path: str, kind: str, **more: Any) -> Fault:
        """Have something go wrong at the provider; `more` are fields of Fault."""
        return self.simulator.faults.add(Fault(method, path, kind, **more))

    def calls(self, start: str = "") -> list[str]:
        """What was asked of the provider so far, as "GET /v1/invoices?..."; only what begins with `start`."""
        return [call for call in self.adapter.calls if call.startswith(start)]

    def pay(self, invoice: Invoice, *, late_seconds: float = 0) -> None:
        """The customer's wallet pays, after waiting `late_seconds`."""
        self.simulator.pay_invoice(invoice.issue.bolt11, late_seconds=late_seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.simulator.clock.advance(seconds)

    def subscribe(self) -> None:
        """Have the provider send its webhooks to this LNPay; `pump` lets them arrive."""
        self.session.post(
            f"{BASE_URL}/v1/subscriptions",
            headers={"Authorization": "Bearer a-key-of-the-tests"},
            json={
                "webhookUrl": "https://lnpay.test/webhook",
                "webhookVersion": "v1",
                "secret": WEBHOOK_SECRET,
                "enabled": True,
                "eventTypes": [
                    "invoice.created",
                    "invoice.updated",
                    "payment.created",
                    "payment.updated",
                    "receive-request.receive-completed",
                ],
            },
        ).raise_for_status()

    def pump(self) -> list[int]:
        """Let every webhook arrive that is due now. Returns our answers' statuses."""
        statuses: list[int] = []

        def send(url: str, body: bytes, headers: dict[str, str]) -> int:
            answer = self.client.post("/webhook", data=body, headers=headers)
            statuses.append(answer.status_code)
            return answer.status_code

        self.simulator.pump_webhooks(send)
        return statuses

    def told(self) -> list[dict[str, Any]]:
        """The bodies of every message that the shop took, in order."""
        return [delivery.json() for delivery in self.simulator.shop.accepted()]

    def close(self) -> None:
        """End the world."""
        for process in (self.backend, *self.neighbours):
            process.close()
        self.session.close()
