"""The price of bitcoin: what sources answer, which of them is believed, and for how long."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lnpay.domain.errors import (
    LnpayError,
    RateUnavailable,
    StorageUnavailable,
    StrikeUnavailable,
)
from lnpay.domain.model import Rate
from lnpay.http.outgoing import pooled_session
from lnpay.rates import prices as rates_module
from lnpay.rates import sources as rate_sources
from lnpay.rates.prices import Rates, Refresh, start_daemon_thread
from lnpay.rates.sources import (
    Coinbase,
    CoinGecko,
    RateSource,
    RateSourceError,
    StrikeTicker,
)

NOW = datetime(2026, 5, 18, 12, 0, tzinfo=UTC)
NOW_SECONDS = int(NOW.timestamp())


@dataclass
class FakeClock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeSource:
    """Answers with `price` (None: does not know the currency), true at the moment of asking, or raises."""

    clock: FakeClock
    price: str | None = "100000"
    name: str = "first"
    error: Exception | None = None
    age_seconds: int = 0
    asked: int = 0

    def fetch(self, currency: str) -> Rate | None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.price is None:
            return None
        return Rate(Decimal(self.price), currency, self.name, self.clock() - timedelta(seconds=self.age_seconds))


@dataclass
class Background:
    """Keeps what should run beside the request until the test runs it."""

    tasks: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def background() -> Background:
    return Background()


@pytest.fixture
def first(clock: FakeClock) -> FakeSource:
    return FakeSource(clock)


@pytest.fixture
def second(clock: FakeClock) -> FakeSource:
    return FakeSource(clock, price="101000", name="second")


@pytest.fixture
def third(clock: FakeClock) -> FakeSource:
    return FakeSource(clock, price="102000", name="third")


@pytest.fixture
def rates(clock: FakeClock, background: Background, first: FakeSource, second: FakeSource, third: FakeSource) -> Rates:
    return Rates([first, second, third], "usd", clock=clock, run_in_background=background)


class TestChoice:
    def test_the_first_source_counts_and_the_second_is_only_compared(
        self, rates: Rates, first: FakeSource, second: FakeSource, third: FakeSource
    ) -> None:
        assert rates.current() == Rate(Decimal(100_000), "usd", "first", NOW)
        assert (first.asked, second.asked, third.asked) == (1, 1, 0)

    @pytest.mark.parametrize("how", ["failed", "unknown", "old"])
    def test_the_third_is_asked_when_one_of_the_others_cannot_say(
        self, rates: Rates, first: FakeSource, third: FakeSource, how: str
    ) -> None:
        first.error = RateSourceError("answered HTTP 500") if how == "failed" else None
        first.price = None if how == "unknown" else first.price
        first.age_seconds = 301 if how == "old" else 0

        assert rates.current().source == "second"
        assert third.asked == 1

    def test_one_that_is_alone_in_answering_is_believed(
        self, rates: Rates, first: FakeSource, second: FakeSource
    ) -> None:
        first.price = None
        second.error = RateSourceError("was not reached")

        assert rates.current().source == "third"

    def test_a_price_just_within_the_age_is_taken(self, rates: Rates, first: FakeSource) -> None:
        first.age_seconds = 300

        assert rates.current().source == "first"

    def test_no_answer_from_any_source_is_an_error_that_says_when_to_retry(
        self, rates: Rates, first: FakeSource, second: FakeSource, third: FakeSource
    ) -> None:
        for source in (first, second, third):
            source.error = RateSourceError("answered HTTP 500")

        with pytest.raises(RateUnavailable) as refusal:
            rates.current()

        assert refusal.value.retry_after_seconds == 5
        assert "HTTP" not in refusal.value.message

    def test_a_currency_unknown_to_all_sources_is_an_error(
        self, clock: FakeClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        rates = Rates([FakeSource(clock, price=None)], "xyz", clock=clock)

        with pytest.raises(RateUnavailable):
            rates.current()
        assert "no price from any rate source currency=xyz" in caplog.text

    def test_a_failure_is_logged_with_its_source(
        self, rates: Rates, first: FakeSource, caplog: pytest.LogCaptureFixture
    ) -> None:
        first.error = RateSourceError("answered HTTP 500")

        rates.current()

        assert "rate source failed source=first reason=answered HTTP 500" in caplog.text


class TestComparison:
    @pytest.mark.parametrize(("one", "other"), [("100000", "105000"), ("105000", "100000")])
    def test_a_difference_of_the_limit_is_believed(
        self, rates: Rates, first: FakeSource, second: FakeSource, one: str, other: str
    ) -> None:
        first.price, second.price = one, other

        assert rates.current().price == Decimal(one)

    @pytest.mark.parametrize(("one", "other"), [("100000", "105000.01"), ("105000.01", "100000"), ("0.001", "99999")])
    def test_a_larger_one_is_not(
        self, rates: Rates, first: FakeSource, second: FakeSource, one: str, other: str
    ) -> None:
        first.price, second.price = one, other

        with pytest.raises(RateUnavailable):
            rates.current()

    def test_the_log_names_sources_prices_and_setting(
        self, rates: Rates, second: FakeSource, caplog: pytest.LogCaptureFixture
    ) -> None:
        second.price = "120000.5"

        with pytest.raises(RateUnavailable):
            rates.current()

        for word in ("first=100000", "second=120000.5", "RATE_MAX_SPREAD_PERCENT=5", "currency=usd"):
            assert word in caplog.text

    def test_a_disagreement_also_drops_the_stored_price(
        self, rates: Rates, clock: FakeClock, background: Background, second: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(61)
        second.price = "120000"

        assert rates.current().price == 100_000
        background.run()

        with pytest.raises(RateUnavailable):
            rates.current()

    def test_a_price_is_there_again_when_they_agree_again(
        self, rates: Rates, clock: FakeClock, second: FakeSource
    ) -> None:
        second.price = "120000"
        with pytest.raises(RateUnavailable):
            rates.current()

        second.price = "100500"
        clock.pass_seconds(5)

        assert rates.current().price == 100_000

    def test_a_limit_of_zero_turns_it_off(self, clock: FakeClock, first: FakeSource, second: FakeSource) -> None:
        rates = Rates([first, second], "usd", clock=clock, max_spread_percent=Decimal(0))

        assert rates.current().source == "first"
        assert second.asked == 0

    def test_without_it_the_second_still_stands_in(
        self, clock: FakeClock, first: FakeSource, second: FakeSource
    ) -> None:
        rates = Rates([first, second], "usd", clock=clock, max_spread_percent=Decimal(0))
        first.error = RateSourceError("was not reached")

        assert rates.current().source == "second"


class TestLonePrices:
    """A price that no second source confirms is held against the last ones believed."""

    def alone(self, clock: FakeClock, *others: FakeSource, price: str, after_seconds: int) -> None:
        """Only the first source answers from now on, and says `price`."""
        first, *rest = others
        first.price = price
        for one in rest:
            one.error = RateSourceError("was not reached")
        clock.pass_seconds(after_seconds)

    @pytest.mark.parametrize("price", ["1000000", "10000", "105100", "95000"])
    def test_a_jump_within_a_minute_is_not_sold_at(
        self,
        rates: Rates,
        clock: FakeClock,
        background: Background,
        first: FakeSource,
        second: FakeSource,
        third: FakeSource,
        price: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        rates.current()
        self.alone(clock, first, second, third, price=price, after_seconds=61)
        rates.current()
        background.run()

        with pytest.raises(RateUnavailable):
            rates.current()
        assert f"lone rate rejected currency=usd first={price} last=100000 of=first" in caplog.text
        assert rates.status().refreshes[Refresh.DISAGREED] == 1

    @pytest.mark.parametrize("later", [1, 4, 60, 600])
    def test_it_is_not_sold_at_later_either(
        self,
        rates: Rates,
        clock: FakeClock,
        first: FakeSource,
        second: FakeSource,
        third: FakeSource,
        later: int,
    ) -> None:
        rates.current()
        self.alone(clock, first, second, third, price="1000000", after_seconds=301)

        for _ in range(3):
            with pytest.raises(RateUnavailable):
                rates.current()
            clock.pass_seconds(later * 60)

    @pytest.mark.parametrize(
        ("hours", "price", "is_believed"),
        [
            (0.1, "105400", True),
            (0.1, "105600", False),
            (1, "109900", True),
            (1, "110100", False),
            (1, "91000", True),
            (1, "90000", False),
            (24, "224000", True),
            (24, "226000", False),
            (24, "45000", True),
            (24, "44000", False),
            (24 * 7, "1000000", False),
            (24 * 8, "1000000", True),
        ],
    )
    def test_the_older_the_last_price_the_farther_it_may_be(
        self,
        rates: Rates,
        clock: FakeClock,
        first: FakeSource,
        second: FakeSource,
        third: FakeSource,
        hours: float,
        price: str,
        is_believed: bool,
    ) -> None:
        rates.current()
        self.alone(clock, first, second, third, price=price, after_seconds=int(hours * 3600))

        if is_believed:
            assert rates.current().price == Decimal(price)
        else:
            with pytest.raises(RateUnavailable):
                rates.current()

    def test_two_sources_that_agree_are_trusted_at_once(
        self, rates: Rates, clock: FakeClock, first: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(301)
        first.price = None
        rates.current()
        clock.pass_seconds(301)
        first.price = "1000000"
        rates._sources[1].price = "1010000"  # type: ignore[attr-defined]

        assert rates.current().price == 1_000_000

    def test_many_small_steps_do_not_lead_far_away(
        self, rates: Rates, clock: FakeClock, first: FakeSource, second: FakeSource, third: FakeSource
    ) -> None:
        rates.current()
        believed, price = Decimal(100_000), Decimal(100_000)
        for _ in range(12):
            price = believed * Decimal("1.05")
            self.alone(clock, first, second, third, price=str(price), after_seconds=301)
            try:
                believed = rates.current().price
            except RateUnavailable:
                continue

        assert believed <= 110_000

    def test_one_of_two_that_disagreed_is_not_believed_when_the_other_leaves(
        self, rates: Rates, clock: FakeClock, first: FakeSource, second: FakeSource, third: FakeSource
    ) -> None:
        first.price = "1000000"
        with pytest.raises(RateUnavailable):
            rates.current()
        self.alone(clock, first, second, third, price="1000000", after_seconds=60)

        for _ in range(50):
            with pytest.raises(RateUnavailable):
                rates.current()
            clock.pass_seconds(60)
        clock.pass_seconds(660)
        assert rates.current().price == 1_000_000

    @pytest.mark.parametrize(("price", "is_believed"), [("1000000", False), ("101000", True)])
    def test_what_was_sold_at_before_a_restart_counts(
        self, clock: FakeClock, first: FakeSource, price: str, is_believed: bool
    ) -> None:
        sold = Rate(Decimal(100_000), "usd", "second", NOW - timedelta(minutes=1))
        rates = Rates([first], "usd", clock=clock, last_sold=lambda: sold)
        first.price = price

        if is_believed:
            assert rates.current().price == Decimal(price)
        else:
            with pytest.raises(RateUnavailable):
                rates.current()

    def test_what_was_sold_at_is_not_read_where_two_agree(
        self, clock: FakeClock, first: FakeSource, second: FakeSource
    ) -> None:
        def fail() -> Rate | None:
            raise AssertionError("not needed")

        assert Rates([first, second], "usd", clock=clock, last_sold=fail).current().price == 100_000

    def test_where_it_cannot_be_read_a_lone_price_is_not_believed(self, clock: FakeClock, first: FakeSource) -> None:
        def fail() -> Rate | None:
            raise StorageUnavailable("the database is away")

        with pytest.raises(RateUnavailable):
            Rates([first], "usd", clock=clock, last_sold=fail).current()

    @pytest.mark.parametrize(
        ("source", "price", "is_believed"),
        [
            ("first", "104000", True),
            ("first", "106000", False),
            ("second", "190000", True),
            ("second", "210000", False),
        ],
    )
    def test_where_sources_are_not_compared_another_one_may_show_another_market(
        self, clock: FakeClock, first: FakeSource, second: FakeSource, source: str, price: str, is_believed: bool
    ) -> None:
        rates = Rates([first, second], "usd", clock=clock, max_spread_percent=Decimal(0))
        rates.current()
        clock.pass_seconds(301)
        first.price, second.price = price, price
        if source == "second":
            first.error = RateSourceError("was not reached")

        if is_believed:
            assert rates.current().source == source
        else:
            with pytest.raises(RateUnavailable):
                rates.current()

    def test_a_last_price_from_later_is_of_no_known_age(self, clock: FakeClock, first: FakeSource) -> None:
        sold = Rate(Decimal(100_000), "usd", "second", NOW + timedelta(hours=24))
        first.price = "200000"

        assert Rates([first], "usd", clock=clock, last_sold=lambda: sold).current().price == 200_000


class TestAge:
    def test_a_young_price_is_used_as_it_is(
        self, rates: Rates, clock: FakeClock, background: Background, first: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(59)

        rates.current()

        assert first.asked == 1
        assert background.tasks == []

    def test_an_older_one_is_used_while_one_refresh_runs_beside_it(
        self, rates: Rates, clock: FakeClock, background: Background, first: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(60)
        first.price = "100001"

        assert [rates.current().price for _ in range(3)] == [100_000] * 3
        assert len(background.tasks) == 1
        background.run()

        assert rates.current() == Rate(Decimal(100_001), "usd", "first", clock())
        assert background.tasks == []

    def test_a_price_that_is_old_on_arrival_is_not_fetched_again_at_once(
        self, rates: Rates, background: Background, clock: FakeClock, first: FakeSource
    ) -> None:
        """CoinGecko's price is up to a minute old when it comes; asking again at once brings the same one."""
        first.age_seconds = 90
        rates.current()
        clock.pass_seconds(30)

        rates.current()

        assert background.tasks == []

    def test_a_price_of_the_highest_age_is_still_used(self, rates: Rates, clock: FakeClock) -> None:
        rates.current()
        clock.pass_seconds(300)

        assert rates.current().as_of == NOW

    def test_a_price_beyond_it_is_never_used(
        self, rates: Rates, clock: FakeClock, first: FakeSource, second: FakeSource, third: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(301)
        for source in (first, second, third):
            source.error = RateSourceError("was not reached")

        with pytest.raises(RateUnavailable):
            rates.current()

    def test_beyond_it_the_request_itself_fetches(self, rates: Rates, clock: FakeClock, background: Background) -> None:
        rates.current()
        clock.pass_seconds(301)

        assert rates.current().as_of == clock()
        assert background.tasks == []

    def test_warming_up_fetches_the_first_price_beside_the_requests(
        self, rates: Rates, background: Background, first: FakeSource
    ) -> None:
        rates.warm_up()
        assert first.asked == 0

        background.run()

        assert (rates.current().price, first.asked) == (Decimal("100000"), 1)

    def test_warming_up_a_known_price_does_nothing(self, rates: Rates, background: Background) -> None:
        rates.current()

        rates.warm_up()

        assert background.tasks == []

    def test_it_counts_from_the_prices_own_time(
        self, rates: Rates, clock: FakeClock, background: Background, first: FakeSource
    ) -> None:
        first.age_seconds = 299
        rates.current()
        clock.pass_seconds(2)

        assert rates.current().as_of == clock() - timedelta(seconds=299)
        assert first.asked == 2

    def test_after_the_clock_was_set_back_a_price_from_later_is_not_used(
        self, rates: Rates, clock: FakeClock, first: FakeSource
    ) -> None:
        rates.current()
        clock.pass_seconds(-301)

        assert rates.current().as_of == clock()
        assert first.asked == 2


class TestOutage:
    @pytest.fixture(autouse=True)
    def outage(self, first: FakeSource, second: FakeSource, third: FakeSource) -> None:
        for source in (first, second, third):
            source.error = RateSourceError("was not reached")

    def test_a_failing_source_is_not_asked_again_at_once(
        self, rates: Rates, clock: FakeClock, first: FakeSource
    ) -> None:
        waits = []
        for _ in range(4):
            with pytest.raises(RateUnavailable) as refusal:
                rates.current()
            waits.append(refusal.value.retry_after_seconds)
            clock.pass_seconds(2)

        assert waits == [5, 3, 1, 5]
        assert first.asked == 2

    def test_a_failed_refresh_keeps_the_price_and_pauses(
        self, rates: Rates, clock: FakeClock, background: Background, first: FakeSource
    ) -> None:
        error, first.error = first.error, None
        rates.current()
        first.error = error
        clock.pass_seconds(60)

        for _ in range(3):
            assert rates.current().as_of == NOW
            background.run()
            clock.pass_seconds(2)

        assert first.asked == 2
        assert rates.current().as_of == NOW
        assert len(background.tasks) == 1

    def test_a_refusal_never_asks_to_come_back_at_once(self, clock: FakeClock, first: FakeSource) -> None:
        rates = Rates([first], "usd", clock=clock, retry_seconds=0)

        with pytest.raises(RateUnavailable) as refusal:
            rates.current()

        assert refusal.value.retry_after_seconds == 1

    def test_a_bug_in_a_source_does_not_stop_later_refreshes(
        self, rates: Rates, clock: FakeClock, first: FakeSource
    ) -> None:
        first.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            rates.current()
        first.error = None
        clock.pass_seconds(5)

        assert rates.current().source == "first"


def test_a_refresh_that_cannot_be_started_leaves_the_price_in_use(
    clock: FakeClock, first: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    def out_of_threads(task: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    rates = Rates([first], "usd", clock=clock, run_in_background=out_of_threads)
    rates.current()
    clock.pass_seconds(60)

    assert rates.current().as_of == NOW
    assert "rate refresh not started" in caplog.text


def test_a_task_beside_the_request_runs_in_a_daemon_thread() -> None:
    seen: list[bool] = []
    done = threading.Event()

    def task() -> None:
        seen.append(threading.current_thread().daemon)
        done.set()

    start_daemon_thread(task)

    assert done.wait(5)
    assert seen == [True]


@dataclass
class SlowSource:
    """Waits in fetch until it is let go."""

    clock: FakeClock
    name: str = "slow"
    error: Exception | None = None
    asked: int = 0
    is_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def fetch(self, currency: str) -> Rate | None:
        self.asked += 1
        self.is_asked.set()
        assert self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        return Rate(Decimal(1), currency, self.name, self.clock())


class TestThreads:
    def run_together(self, rates: Rates, source: SlowSource, count: int) -> list[str]:
        """Outcomes of `count` threads that all want a price before the source answers."""
        outcomes: list[str] = []

        def ask() -> None:
            try:
                outcomes.append(rates.current().source)
            except RateUnavailable:
                outcomes.append("unavailable")

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        assert source.is_asked.wait(5)
        time.sleep(0.05)
        source.may_answer.set()
        for thread in threads:
            thread.join(10)
        return outcomes

    def test_many_requests_without_a_price_ask_once_and_share_the_answer(self, clock: FakeClock) -> None:
        source = SlowSource(clock)
        rates = Rates([source], "usd", clock=clock)

        assert self.run_together(rates, source, 12) == ["slow"] * 12
        assert source.asked == 1

    def test_many_requests_share_a_failure_too(self, clock: FakeClock) -> None:
        source = SlowSource(clock, error=RateSourceError("was not reached"))
        rates = Rates([source], "usd", clock=clock)

        assert self.run_together(rates, source, 12) == ["unavailable"] * 12
        assert source.asked == 1

    def test_a_request_stops_waiting_in_the_end(self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rates_module, "MAX_WAIT_SECONDS", 0.05)
        source = SlowSource(clock)
        rates = Rates([source], "usd", clock=clock)
        thread = threading.Thread(target=rates.current)
        thread.start()
        assert source.is_asked.wait(5)

        with pytest.raises(RateUnavailable):
            rates.current()

        source.may_answer.set()
        thread.join(5)
        assert rates.current().source == "slow"


class Provider:
    """A small HTTP server that answers everything with the same thing and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = b"{}"
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.drip_seconds = 0.0
        self.drips_headers = False
        self.requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.url = ""

    def answer(self, body: object, status: int = 200) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status

    def pieces(self, head: bytes) -> list[bytes]:
        """What is written after the headers, which are not yet sent where they are to drip."""
        content = head + self.body if self.drips_headers else self.body
        return [content[i : i + 1] for i in range(len(content))] if self.drip_seconds else [content]

    @contextmanager
    def served(self) -> Iterator[Provider]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider.requests.append((url.path, parse_qs(url.query), headers))
                self.send_response(provider.status)
                for name, value in provider.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.write()

            def flush_headers(self) -> None:
                self.head = b"".join(self._headers_buffer)  # type: ignore[attr-defined]
                if not provider.drips_headers:
                    super().flush_headers()

            def write(self) -> None:
                for piece in provider.pieces(self.head):
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return  # the client had enough
                    time.sleep(provider.drip_seconds)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/api/v3"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider().served() as provider:
        yield provider


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with pooled_session() as session:
        session.trust_env = False
        yield session


GECKO = b'{"bitcoin":{"usd":76975.12345678901234,"last_updated_at":%d}}' % (NOW_SECONDS - 20)
COINBASE = b'{"data":{"currency":"BTC","rates":{"USD":"76975.12345678901234","EUR":"70000"}}}'


class TestCoinGecko:
    @pytest.fixture
    def source(self, session: requests.Session, provider: Provider, clock: FakeClock) -> CoinGecko:
        provider.answer(GECKO)
        return CoinGecko(session, provider.url, "", clock)

    def test_its_price_is_exact_and_has_its_own_time(self, source: CoinGecko) -> None:
        rate = source.fetch("usd")

        assert rate == Rate(Decimal("76975.12345678901234"), "usd", "coingecko", NOW - timedelta(seconds=20))

    def test_it_is_asked_for_the_time_and_without_a_key(self, source: CoinGecko, provider: Provider) -> None:
        source.fetch("usd")

        [(path, query, headers)] = provider.requests
        assert path == "/api/v3/simple/price"
        assert query["ids"] == ["bitcoin"]
        assert query["vs_currencies"] == ["usd"]
        assert query["include_last_updated_at"] == ["true"]
        assert not {name for name in headers if name.startswith("x-cg")}

    def test_a_key_goes_in_the_header_and_never_in_the_address(
        self, session: requests.Session, provider: Provider, clock: FakeClock
    ) -> None:
        provider.answer(GECKO)

        CoinGecko(session, provider.url + "/", "CG-secret", clock).fetch("usd")

        [(path, query, headers)] = provider.requests
        assert path == "/api/v3/simple/price"
        assert headers["x-cg-demo-api-key"] == "CG-secret"
        assert "CG-secret" not in str(query)

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("https://pro-api.coingecko.com/api/v3", "x-cg-pro-api-key"),
            ("https://api.coingecko.com/api/v3", "x-cg-demo-api-key"),
            ("http://localhost:5001/coingecko/pro-api.", "x-cg-demo-api-key"),
            ("nonsense", "x-cg-demo-api-key"),
        ],
    )
    def test_the_kind_of_key_follows_the_address(self, url: str, name: str) -> None:
        assert rate_sources._key_header(url) == name

    def test_a_currency_it_does_not_list_is_unknown(self, source: CoinGecko, provider: Provider) -> None:
        provider.answer({"bitcoin": {"last_updated_at": NOW_SECONDS}})

        assert source.fetch("usd") is None

    def test_a_time_a_little_in_the_future_is_now(self, source: CoinGecko, provider: Provider) -> None:
        provider.answer({"bitcoin": {"usd": 1, "last_updated_at": NOW_SECONDS + 60}})

        rate = source.fetch("usd")

        assert rate is not None
        assert rate.as_of == NOW

    def test_one_further_in_the_future_is_a_failure(self, source: CoinGecko, provider: Provider) -> None:
        """By a clock that is behind, a price of hours ago would look as if it were of now."""
        provider.answer({"bitcoin": {"usd": 1, "last_updated_at": NOW_SECONDS + 61}})

        with pytest.raises(RateSourceError, match="a later time than this machine's clock"):
            source.fetch("usd")

    @pytest.mark.parametrize("text", ["76975", "1e-5", "0.00001", "7.6975E+4", "1E18", "9" * 18])
    def test_any_number_of_json_is_exact(self, source: CoinGecko, provider: Provider, text: str) -> None:
        provider.answer(b'{"bitcoin":{"usd":%s,"last_updated_at":1}}' % text.encode())

        rate = source.fetch("usd")

        assert rate is not None
        assert rate.price == Decimal(text)

    @pytest.mark.parametrize(
        "price",
        [
            *("0", "0.0", "-1", "-0", "1e-9", "1e19", "1e999999999", "NaN", "Infinity", "-Infinity", "9" * 5000),
            *("null", "true", "[]", "{}", '""', '"abc"', '"NaN"', '"1,5"', '" 1"', '"+1"', '"\\u0661"'),
        ],
    )
    def test_an_invalid_price_is_a_failure(self, source: CoinGecko, provider: Provider, price: str) -> None:
        provider.answer(b'{"bitcoin":{"usd":%s,"last_updated_at":1}}' % price.encode())

        with pytest.raises(RateSourceError):
            source.fetch("usd")

    @pytest.mark.parametrize("moment", [None, "soon", -1, 1.5, True, 10**11, [], {}])
    def test_an_invalid_time_is_a_failure(self, source: CoinGecko, provider: Provider, moment: object) -> None:
        provider.answer({"bitcoin": {"usd": 1, "last_updated_at": moment}})

        with pytest.raises(RateSourceError):
            source.fetch("usd")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"1",
            b'"bitcoin"',
            b'{"bitcoin":{"usd":1}}',
            b'{"bitcoin":null}',
            b'{"bitcoin":[]}',
            b'{"status":{"error_code":429,"error_message":"You\'ve exceeded the Rate Limit."}}',
            b"<!DOCTYPE html><html>blocked</html>",
            b'{"bitcoin":{"usd":1,',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    def test_another_answer_is_a_failure(self, source: CoinGecko, provider: Provider, body: bytes) -> None:
        provider.answer(body)

        with pytest.raises(RateSourceError):
            source.fetch("usd")

    @pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 503])
    def test_another_status_is_a_failure_and_nothing_is_followed(
        self, source: CoinGecko, provider: Provider, status: int
    ) -> None:
        provider.answer(GECKO, status)
        provider.headers["Location"] = provider.url + "/elsewhere"

        with pytest.raises(RateSourceError, match=f"HTTP {status}"):
            source.fetch("usd")
        assert len(provider.requests) == 1

    def test_a_compressed_answer_is_read(self, source: CoinGecko, provider: Provider) -> None:
        provider.answer(gzip.compress(GECKO))
        provider.headers["Content-Encoding"] = "gzip"

        assert source.fetch("usd") is not None

    @pytest.mark.parametrize("encoding", ["identity", "gzip"])
    def test_a_giant_answer_is_a_failure(self, source: CoinGecko, provider: Provider, encoding: str) -> None:
        body = b" " * 30_000_000
        provider.answer(gzip.compress(body) if encoding == "gzip" else body)
        provider.headers["Content-Encoding"] = encoding

        with pytest.raises(RateSourceError, match="too much"):
            source.fetch("usd")

    def test_broken_compression_is_a_failure(self, source: CoinGecko, provider: Provider) -> None:
        provider.headers["Content-Encoding"] = "gzip"

        with pytest.raises(RateSourceError, match="DecodingError"):
            source.fetch("usd")

    def test_a_cut_answer_is_a_failure(self, source: CoinGecko, provider: Provider) -> None:
        provider.headers["Content-Length"] = "10000"

        with pytest.raises(RateSourceError):
            source.fetch("usd")

    def test_a_silent_source_is_a_failure(
        self, source: CoinGecko, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rate_sources, "TIMEOUT", (0.1, 0.1))
        provider.drip_seconds = 0.5

        with pytest.raises(RateSourceError):
            source.fetch("usd")

    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_a_dripping_source_is_a_failure(
        self, source: CoinGecko, provider: Provider, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        """Each byte comes well within the read time-out; all of them together would take minutes."""
        monkeypatch.setattr(rate_sources, "TIMEOUT", (0.2, 0.3))
        provider.drip_seconds = 0.05
        provider.drips_headers = part == "headers"
        provider.answer(b" " * 400 + GECKO)
        started = time.monotonic()

        with pytest.raises(RateSourceError, match="ReadTimeout"):
            source.fetch("usd")
        assert time.monotonic() - started < 2

    def test_one_that_is_not_there_is_a_failure_that_does_not_name_the_key(
        self, session: requests.Session, clock: FakeClock
    ) -> None:
        source = CoinGecko(session, "http://127.0.0.1:9", "CG-secret", clock)

        with pytest.raises(RateSourceError) as failure:
            source.fetch("usd")

        assert failure.value.message == "was not reached: ConnectionError"

    def test_every_call_has_timeouts(self) -> None:
        assert rate_sources.TIMEOUT == (2.0, 4.0)


class TestCoinbase:
    @pytest.fixture
    def source(self, session: requests.Session, provider: Provider, clock: FakeClock) -> Coinbase:
        provider.answer(COINBASE)
        return Coinbase(session, provider.url + "/", clock)

    def test_its_price_is_exact_and_of_now(self, source: Coinbase, provider: Provider) -> None:
        assert source.fetch("usd") == Rate(Decimal("76975.12345678901234"), "usd", "coinbase", NOW)
        [(path, query, _)] = provider.requests
        assert (path, query) == ("/api/v3/exchange-rates", {"currency": ["BTC"]})

    def test_a_currency_it_does_not_list_is_unknown(self, source: Coinbase) -> None:
        assert source.fetch("vef") is None

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"data": None},
            {"data": {"currency": "BTC"}},
            {"data": {"rates": {"USD": "1"}}},
            {"data": {"currency": "ETH", "rates": {"USD": "1"}}},
            {"data": {"currency": "BTC", "rates": ["USD"]}},
            {"data": {"currency": "BTC", "rates": {"USD": "0"}}},
            {"data": {"currency": "BTC", "rates": {"USD": None}}},
            {"errors": [{"id": "rate_limit_exceeded"}]},
        ],
    )
    def test_another_answer_is_a_failure(self, source: Coinbase, provider: Provider, body: object) -> None:
        provider.answer(body)

        with pytest.raises(RateSourceError):
            source.fetch("usd")


class TestStrikeTicker:
    ROWS = (
        {"amount": "0.00004697", "sourceCurrency": "USD", "targetCurrency": "BTC"},
        {"amount": "21289.7700", "sourceCurrency": "BTC", "targetCurrency": "USD"},
        {"amount": "19000", "sourceCurrency": "BTC", "targetCurrency": "EUR"},
    )

    def test_the_row_from_bitcoin_counts(self, clock: FakeClock) -> None:
        source = StrikeTicker(lambda: iter(self.ROWS), clock)

        assert source.fetch("usd") == Rate(Decimal("21289.7700"), "usd", "strike", NOW)

    def test_a_currency_without_a_row_is_unknown(self, clock: FakeClock) -> None:
        assert StrikeTicker(lambda: self.ROWS, clock).fetch("zar") is None

    @pytest.mark.parametrize("rows", [[1], ["BTC"], [None], [[]]])
    def test_rows_of_another_shape_are_a_failure(self, clock: FakeClock, rows: list[Any]) -> None:
        with pytest.raises(RateSourceError):
            StrikeTicker(lambda: rows, clock).fetch("usd")

    @pytest.mark.parametrize("amount", [None, "", "0", "-1", "NaN", 21289, 21289.77])
    def test_an_amount_that_is_no_price_is_a_failure(self, clock: FakeClock, amount: object) -> None:
        row = {"amount": amount, "sourceCurrency": "BTC", "targetCurrency": "USD"}

        with pytest.raises(RateSourceError):
            StrikeTicker(lambda: [row], clock).fetch("usd")

    @pytest.mark.parametrize("error", [StrikeUnavailable("text of Strike"), LnpayError("text of Strike")])
    def test_a_failure_of_the_client_is_one_of_the_source(self, clock: FakeClock, error: LnpayError) -> None:
        def ticker() -> list[dict[str, Any]]:
            raise error

        with pytest.raises(RateSourceError) as failure:
            StrikeTicker(ticker, clock).fetch("usd")

        assert failure.value.message == f"failed: {type(error).__name__}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["bitcoin", "usd", "last_updated_at", "data", "rates", "currency", "USD"]), inner
        )
    ),
    max_leaves=12,
)


class _Raw:
    """A finished answer in memory, in place of a connection."""

    def __init__(self, body: bytes) -> None:
        self._pieces = [body, b""] if body else [b""]

    def read1(self, amount: int, decode_content: bool) -> bytes:
        return self._pieces.pop(0)


class _MemorySession(requests.Session):
    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def get(self, url: str | bytes, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.raw = _Raw(self.body)
        response.close = lambda: None  # type: ignore[method-assign]
        return response


@pytest.mark.untraced
@given(st.one_of(st.binary(), json_values.map(lambda value: json.dumps(value).encode())))
def test_any_answer_of_a_source_is_a_price_or_none_or_a_failure(body: bytes) -> None:
    clock = FakeClock()
    sources: list[RateSource] = [
        CoinGecko(_MemorySession(body), "http://x", "", clock),
        Coinbase(_MemorySession(body), "http://x", clock),
    ]
    for source in sources:
        try:
            rate = source.fetch("usd")
        except RateSourceError:
            continue
        assert rate is None or (rate.price > 0 and rate.as_of <= NOW)


def test_two_real_sources_work_together(
    session: requests.Session, provider: Provider, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="lnpay")
    provider.answer(COINBASE)
    sources: list[RateSource] = [
        CoinGecko(session, provider.url, "CG-secret", clock),
        Coinbase(session, provider.url, clock),
    ]

    rate = Rates(sources, "usd", clock=clock).current()

    assert rate.source == "coinbase"
    assert "rate source failed source=coingecko reason=answered without bitcoin" in caplog.text
    assert "CG-secret" not in caplog.text
