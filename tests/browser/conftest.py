"""A real Chromium in front of a real LNPay, beside the simulated provider, shop and wallet; they share one clock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lnpay.domain.model import Invoice, Refund
from lnpay.runtime.backend import Backend
from lnpay.runtime.worker_passes import expired_pass, main_pass, refund_pass
from lnpay.sandbox import SandboxServer
from lnpay.sandbox.server import wait_until
from lnpay.sandbox.simulator import Simulator
from tests.scenarios.live import ask, build_live_backend, serving, subscribe
from tests.world import empty_database

PHONE = {"width": 320, "height": 640}

PICTURES = os.environ.get("LNPAY_PICTURES")
"""A folder for screenshots; none are kept otherwise."""


@dataclass
class Stand:
    """A shop's stand: LNPay at `url`, the simulated world behind it, and a customer's browser in front of it."""

    url: str
    backend: Backend
    simulator: Simulator
    new_context: Callable[..., BrowserContext]

    def sell(self, **fields: Any) -> Invoice:
        """A new open invoice over 12.34."""
        answer = ask(self.url, **{"description": "Two cappuccinos", "ln_address": "ann@wallet.test", **fields})
        assert answer.status_code == 200, answer.text
        return self.invoice(answer.json()["data"]["invoice"]["invoiceId"])

    def invoice(self, strike_invoice_id: str) -> Invoice:
        """Our row as it is now."""
        with self.backend.repository.reading() as tx:
            invoice = tx.invoices.find_by_strike_id(strike_invoice_id)
        assert invoice is not None
        return invoice

    def refund(self, invoice: Invoice) -> Refund | None:
        """What is owed back for an invoice."""
        with self.backend.repository.reading() as tx:
            return tx.refunds.find_by_invoice(invoice.id)

    def page_url(self, invoice: Invoice) -> str:
        """The address of the payment page."""
        return f"{self.url}/checkout/{invoice.token}"

    def open(self, invoice: Invoice, query: str = "", **options: Any) -> Page:
        """Open the payment page in a browser of its own; `options` are Playwright's for a context."""
        page = self.new_context(**options).new_page()
        page.goto(self.page_url(invoice) + query)
        return page

    def pay(self, invoice: Invoice, **options: Any) -> None:
        """The customer's wallet pays; see Simulator.pay_invoice."""
        self.simulator.pay_invoice(invoice.issue.bolt11, **options)

    def wait(self, seconds: float) -> None:
        """Let time pass, for LNPay as for the provider."""
        self.simulator.clock.advance(seconds)

    def work(self) -> None:
        """What cron does."""
        for one_pass in (main_pass, expired_pass, refund_pass):
            one_pass(self.backend)

    def work_until(self, is_done: Callable[[], bool]) -> None:
        """What cron does, again and again."""

        def look() -> bool:
            self.work()
            return is_done()

        assert wait_until(look, 10)


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Open the browser with a new profile; `options` are Playwright's."""
    with ExitStack() as stack:

        def make(**options: Any) -> BrowserContext:
            context = browser.new_context(**{"locale": "en-US", **options})
            context.set_default_timeout(10_000)
            stack.callback(context.close)
            return context

        yield make


@pytest.fixture
def make_stand(new_context: Callable[..., BrowserContext], tmp_path: Path) -> Iterator[Callable[..., Stand]]:
    """Make stands with settings of their own: make_stand(currency="jpy")."""
    with ExitStack() as stack:

        def make(**changes: Any) -> Stand:
            simulator = Simulator(seed=1)
            world = stack.enter_context(SandboxServer(simulator))
            database = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
            database.write_bytes(empty_database())
            backend = build_live_backend(world.url, f"sqlite:///{database}", simulator.clock.now, **changes)
            url = stack.enter_context(serving(backend))
            subscribe(world, url, ("invoice.updated", "receive-request.receive-completed"))
            return Stand(url, backend, simulator, new_context)

        yield make


@pytest.fixture
def stand(make_stand: Callable[..., Stand]) -> Stand:
    """A stand with the usual settings."""
    return make_stand()


def picture(page: Page, name: str) -> None:
    """A screenshot of the whole page, where LNPAY_PICTURES says."""
    if PICTURES:
        page.mouse.move(0, 0)
        # Until nothing moves any more.
        page.wait_for_timeout(700)
        page.screenshot(full_page=True, path=Path(PICTURES) / f"{name}.png")


def assert_stage(page: Page, stage: str) -> None:
    """Wait until a payment page shows this stage."""
    expect(page.locator(f"#page[data-stage={stage}]")).to_be_visible(timeout=10_000)


def assert_accessible(page: Page) -> None:
    """Have axe look for what keeps people out."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def assert_fits(page: Page) -> None:
    """Check that nothing is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
