"""Strike locks an account out for an hour past 1,000 calls in ten minutes: a crowd of invoices must not get there."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from sqlalchemy import event

from lnpay.domain.model import (
    Event,
    Issue,
    Order,
    Rate,
)
from lnpay.domain.states import InvoiceState
from lnpay.runtime.worker_passes import main_pass
from lnpay.sandbox import SimulatorConfig
from lnpay.sandbox.strike.models import Invoice as StrikeInvoice
from lnpay.sandbox.strike.models import Money
from tests.world import World

ORDER = Order(Decimal("12.34"), "usd", None, None)
SATS = 20_000

# Strike, "Rate limits", all others in production.
CALLS_PER_WINDOW = 1_000
WINDOW = timedelta(minutes=10)


@dataclass
class Crowd:
    """A world with many open invoices that records every call to the provider."""

    world: World
    invoices: list[StrikeInvoice] = field(default_factory=list)
    calls: list[tuple[datetime, str, int]] = field(default_factory=list)
    """When, what (method and path without ids) and the answer's status."""

    def __post_init__(self) -> None:
        self.world.session.hooks["response"].append(self._note)
        # These tests are about numbers of calls: no power fails, and thousands of commits need not reach the disk.
        engine = self.world.backend.repository.engine
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))

    def _note(self, response: requests.Response, *_: Any, **__: Any) -> None:
        path = (response.request.path_url or "").partition("?")[0]
        # The ticker, which is asked for the time, is counted in a bucket of its own.
        if path.startswith("/v1/") and path != "/v1/rates/ticker":
            what = "list" if path == "/v1/invoices" else "read"
            self.calls.append((self.world.simulator.clock.now(), what, response.status_code))

    def open(self, count: int) -> None:
        """Open invoices at the provider and in our book, a moment apart, with as long to pay as the world allows."""
        simulator, now = self.world.simulator, self.world.simulator.clock.now
        rate = Rate(Decimal(60_000), "usd", "coingecko", now())
        with self.world.backend.repository.transaction() as tx:
            for _ in range(count):
                simulator.clock.advance(0.002)
                number = len(self.invoices)
                theirs = simulator.invoices.create(Money(SATS, "BTC"), f"order-{number}", None)
                draft = tx.invoices.add_draft(
                    f"order-{number}", f"order-{number}", f"token-{number}", ORDER, SATS, rate, now()
                )
                assert draft is not None
                assert tx.invoices.issue(draft, issue_of(theirs, self.world.changes["time_offset_seconds"]))
                self.invoices.append(theirs)

    def pay(self, invoices: list[StrikeInvoice]) -> None:
        """Customers pay."""
        simulator = self.world.simulator
        for invoice in invoices:
            quote = simulator.invoices.quote(invoice)
            simulator.pay_invoice(quote.payment_request)

    def count_states(self) -> dict[InvoiceState, int]:
        """How many of our invoices are in each state."""
        with self.world.backend.repository.reading() as tx:
            return {state: count for state, count in tx.invoices.counts().items() if count}

    def count_calls(self) -> Counter[str]:
        """Calls so far, by kind."""
        return Counter(what for _, what, _ in self.calls)

    def most_in_ten_minutes(self) -> int:
        """The most calls in any ten minutes."""
        times = sorted(at for at, _, _ in self.calls)
        return max((bisect_left(times, at + WINDOW) - first for first, at in enumerate(times)), default=0)

    def statuses(self) -> set[int]:
        """Every status with which the provider answered."""
        return {status for _, _, status in self.calls}


def issue_of(theirs: StrikeInvoice, seconds: int) -> Issue:
    """The issue that LNPay stores for a provider's invoice. These payment requests are never read again."""
    return Issue(
        strike_invoice_id=theirs.invoice_id,
        bolt11="lnbc1",
        payment_hash=theirs.invoice_id,
        strike_invoice={},
        strike_quote={},
        opened_at=theirs.created_at,
        expires_at=theirs.created_at + timedelta(seconds=seconds),
        payable_until=theirs.created_at + timedelta(seconds=seconds),
    )


@pytest.fixture
def make_crowd(make_world: Callable[..., World]) -> Callable[..., Crowd]:
    """A crowd with an hour and a half to pay, under production's rate limits."""

    def make(**config: Any) -> Crowd:
        return Crowd(make_world(config=SimulatorConfig(**config), time_offset_seconds=5_400))

    return make


def watch(crowd: Crowd, *, every_seconds: float, seconds: float) -> Iterator[int]:
    """Make passes as `--watch` does. Yields the number of each pass before it is made."""
    for number in range(int(seconds / every_seconds)):
        yield number
        main_pass(crowd.world.backend)
        crowd.world.wait(every_seconds)


def test_150_payments_among_10_000_open_invoices_take_two_pages_and_150_reads(
    make_crowd: Callable[..., Crowd],
) -> None:
    crowd = make_crowd()
    crowd.open(10_000)
    crowd.pay(crowd.invoices[::67])

    summary = main_pass(crowd.world.backend)

    assert summary.counts["settled"] == summary.counts["delivered"] == 150
    assert crowd.count_calls()["list"] <= 2
    assert crowd.count_calls()["read"] == 150


def test_1_500_payments_at_once_are_spread_over_passes_within_the_budget(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd()
    told: list[Event] = []
    crowd.world.deliver = told.append
    crowd.open(1_500)
    crowd.pay(crowd.invoices)

    for _ in watch(crowd, every_seconds=60, seconds=1_800):
        assert crowd.most_in_ten_minutes() < CALLS_PER_WINDOW

    assert crowd.count_states() == {InvoiceState.SETTLED: 1_500}
    assert len({event.id for event in told}) == len(told) == 1_500
    assert crowd.statuses() == {200}


def test_ten_minutes_of_watching_1_000_invoices_take_less_than_half_of_the_budget(
    make_crowd: Callable[..., Crowd],
) -> None:
    crowd = make_crowd()
    crowd.open(1_000)

    for number in watch(crowd, every_seconds=5, seconds=600):
        if number % 2 == 0:
            crowd.pay([crowd.invoices[number * 8]])

    main_pass(crowd.world.backend)
    assert crowd.count_states() == {InvoiceState.SETTLED: 60, InvoiceState.UNPAID: 940}
    assert crowd.statuses() == {200}
    assert len(crowd.calls) < CALLS_PER_WINDOW / 2


def test_watching_without_the_list_stays_within_the_budget(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(filter_policy="block_all")
    crowd.open(1_000)
    paid = crowd.invoices[::20]

    for number in watch(crowd, every_seconds=5, seconds=2_400):
        if number % 4 == 0 and paid:
            crowd.pay([paid.pop()])

    assert crowd.count_states() == {InvoiceState.SETTLED: 50, InvoiceState.UNPAID: 950}
    assert crowd.statuses() == {200, 403}
    assert crowd.most_in_ten_minutes() < CALLS_PER_WINDOW


def test_several_watchers_share_one_budget(make_crowd: Callable[..., Crowd]) -> None:
    crowd = make_crowd(filter_policy="block_all")
    crowd.open(1_000)
    others = [World(crowd.world.database_url, crowd.world.simulator, crowd.world.changes) for _ in range(2)]
    crowds = [Crowd(other) for other in others]

    for _ in watch(crowd, every_seconds=5, seconds=750):
        for other in others:
            main_pass(other.backend)

    crowd.calls = sorted(call for one in (crowd, *crowds) for call in one.calls)
    assert crowd.statuses() == {200, 403}
    assert crowd.most_in_ten_minutes() < CALLS_PER_WINDOW
    for other in others:
        other.close()
