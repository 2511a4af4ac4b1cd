"""One LNPay installation in a world: its database, processes, clocks and shop. Two may share an account."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from flask import Flask
from werkzeug.test import TestResponse

from config.delivery import deliver
from lnpay.access.api_keys import create_key
from lnpay.domain.errors import ShopGone, ShopRefused
from lnpay.domain.model import Event
from lnpay.domain.permissions import GRANTABLE, KeyPurpose
from lnpay.domain.settings import Settings
from lnpay.runtime.backend import Backend
from lnpay.runtime.bootstrap import build_backend
from lnpay.web import create_app
from tests.simulation.host import Disk, Host, Network
from tests.simulation.scheduler import Process
from tests.simulation.watch_rows import RowWatch

if TYPE_CHECKING:
    from tests.simulation.watch import Watch

_APPS: dict[str, Flask] = {}

ADD_PLUGIN = """
INSERT INTO webhook_endpoints (public_id, url, secret, form, events, wants_everything, is_enabled,
    automatic_redelivery, set_by, created_at)
VALUES ('plugin', 'https://plugin.test/hook', 'a secret', 'btcpay', '', 1, 1, 1, 'key', '2026-01-01 00:00:00')
"""


class LnpayProcess(Process):
    """A server, a worker or a command; its parts are built when it first does something.

    skew_seconds: how far its clock is ahead of the provider's.
    """

    def __init__(self, name: str, home: Installation, skew_seconds: float) -> None:
        super().__init__(name)
        self.home = home
        self.skew_seconds = skew_seconds
        self._backend: Backend | None = None

    def now(self) -> datetime:
        """The time by this process's clock."""
        return self.home.host.simulator.clock.now() + timedelta(seconds=self.skew_seconds)

    @property
    def backend(self) -> Backend:
        """The parts of this process."""
        if self._backend is None:
            self._backend = build_backend(
                self.home.settings,
                self.home.deliver,
                clock=self.now,
                steady=lambda: self.home.host.simulator.clock.now().timestamp(),
                session=self.home.session,
                run_in_background=lambda task: task(),
                post=self.home.post_to_plugin,
            )
        return self._backend

    def request(self, method: str, path: str, **options: Any) -> TestResponse:
        """Answer one HTTP request. Flask's app keeps no state, so it may outlive the process."""
        name = f"{self.home.name} {self.name}"
        app = _APPS.get(name)
        if app is None:
            app = _APPS[name] = create_app(self.backend)
        app.extensions["lnpay"] = self.backend
        return app.test_client(use_cookies=False).open(path, method=method, **options)


@dataclass(eq=False)
class Installation:
    """One LNPay installation with its own shop."""

    name: str
    host: Host
    disk: Disk
    settings: Settings
    watch: Watch
    names: tuple[str, ...]
    is_copied: bool = False
    """Whether a raw copy of the database has been taken, or put back, in this world."""
    processes: dict[str, LnpayProcess] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Invoices about which the shop has answered 410."""
    plugin_chance: random.Random | None = None
    """Decides what a shop plugin answers at its webhook endpoint; None: there is no plugin."""
    api_key: str = ""
    """The API key of the shop and its plugin; empty: no key was ever created, so the API is open."""
    store: str = ""
    """The plugin's id of the store."""
    plugin_trouble: float = 0.4
    """The probability that the plugin rejects a message."""
    has_policy: bool = False
    """Whether the shop's LATE_PAYMENTS differs from the default."""
    has_requests: bool = False
    """Whether the world has receive requests: it starts with them, or may switch to them."""
    has_changed_over: bool = False

    def __post_init__(self) -> None:
        self.rows = RowWatch(self.name, self.disk.renew(), self.watch, self.host.scheduler)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", Network(self.host, self.rows))
        self.host.add(self.disk, self.rows)
        self.copy: sqlite3.Connection | None = None
        if self.plugin_chance is not None:
            self.rows.eye.execute(ADD_PLUGIN)
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a process, replacing any of that name. Its clock is the machine's."""
        old = self.processes.get(name)
        self.processes[name] = LnpayProcess(name, self, old.skew_seconds if old else 0.0)

    def create_key(self) -> None:
        """Create an API key for the shop and its plugin."""
        backend = self.processes["operator"].backend
        created = create_key(backend.repository, KeyPurpose.CUSTOM, "a shop", backend.clock(), permissions=GRANTABLE)
        self.api_key, self.store = created.secret, created.store_id

    def deliver(self, event: Event) -> None:
        """The hook as shipped. Checks that the sender of a message has claimed it."""
        self.watch.check_teller(event.body["data"]["invoice_id"], self.name)
        self.rows.use_claim(event.id)
        try:
            deliver(event)
        except ShopGone:
            self.gone.add(str(event.body["data"]["invoice_id"]))
            raise

    def post_to_plugin(self, url: str, content: bytes, headers: Mapping[str, str], is_public_only: bool) -> int:
        """Deliver a message to the plugin's webhook endpoint: it is accepted, or refused, or the answer is lost."""
        assert self.plugin_chance is not None
        self.rows.use_claim(headers["webhook-id"])
        self.host.scheduler.point(f"-> POST {urlsplit(url).path}")
        is_trouble = self.plugin_chance.random() < self.plugin_trouble
        if not is_trouble or self.plugin_chance.random() < 0.5:
            self.watch.tell_plugin(json.loads(content), self.name)
        self.host.scheduler.point("<- plugin")
        if is_trouble:
            raise ShopRefused("the plugin did not answer")
        return 200

    @property
    def may_be_copied(self) -> bool:
        """Whether no copy has been taken or put back so far."""
        return self.copy is None and not self.is_copied

    def take_copy(self) -> None:
        """Copy the database as a disk snapshot would: no mark distinguishes the copy from the original."""
        self.copy = sqlite3.connect(":memory:")
        self.rows.eye.backup(self.copy)

    def put_copy_back(self) -> None:
        """Replace the database with the copy. Every process ends, and a new one starts on the copy."""
        assert self.copy is not None
        for process in list(self.processes.values()):
            self.host.scheduler.kill_process(process)
        self.copy.backup(self.rows.eye)
        self.copy.close()
        self.copy = None
        self.rows.begin_again()
        for name in self.names:
            self.start(name)

    def close(self) -> None:
        """End it."""
        self.session.close()
        if self.copy is not None:
            self.copy.close()
